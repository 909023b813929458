import Bytes
import Ethereum
import Testing

@testable import Proxy

@Suite struct NonceUseTests {
  let token = Address("0x036CbD53842c5426634e7929541eC2318f3dCF7e") ?? .zero
  let payer = Address("0x1111111111111111111111111111111111111111") ?? .zero
  let merchant = Address("0x2222222222222222222222222222222222222222") ?? .zero
  let nonce = Digest32(hex: String(repeating: "ab", count: 32)) ?? Digest32()

  @Test func bothFormsOfAnAuthorizationNameItsNonce() {
    let authorization = EIP3009.Authorization(from: payer, to: merchant, value: 5, validAfter: 0, validBefore: 9, nonce: nonce)
    let call = EIP3009.transfer(authorization, signature: [UInt8](repeating: 7, count: 99))
    #expect(NonceUse(of: call, to: token) == .authorization(token: token, payer: payer, nonce: nonce))
    #expect(NonceUse(of: Array(call.dropLast()), to: token) == nil)
    #expect(NonceUse(of: [], to: token) == nil)
  }

  @Test func aPermitOfTheProxyNamesItsNonceAndWhetherItsBitIsSet() {
    let number = Word256(0x1_02)
    let permit = Permit2.Permit(permitted: [Permit2.TokenPermissions(token: token, amount: 5)], nonce: number, deadline: 9)
    let call = ExactPermit2Proxy.settle(permit, owner: payer, to: merchant, validAfter: 0, signature: [1, 2, 3])
    let use = NonceUse(of: call, to: ExactPermit2Proxy.address)
    #expect(use == .permit(owner: payer, nonce: number))
    #expect(use?.question.to == Permit2.address)
    #expect(use?.isUsed(Word256(4).octets.bytes) == true)
    #expect(use?.isUsed(Word256(2).octets.bytes) == false)
    #expect(use?.isUsed([]) == nil)
  }

  @Test func theUsesOfAPayerAreCountedByTheTokensLogs() {
    let use = NonceUse.authorization(token: token, payer: payer, nonce: nonce)
    func log(_ contract: Address, _ account: Address) -> Log {
      Log(address: contract, topics: [EIP3009.authorizationUsed.topic, Word256(account).octets, nonce], data: [])
    }
    #expect(use.usesOfPayer(in: [log(token, payer), log(token, merchant), log(merchant, payer), log(token, payer)]) == 2)
  }
}
