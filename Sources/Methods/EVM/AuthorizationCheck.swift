import Bytes
import Encoding
import Ethereum

/// Checks transfers by authorization (EIP-3009), whatever dialect brought them.
enum AuthorizationCheck {
  /// Checks everything but the nonce, which some dialects bind to their challenge.
  static func check(
    _ authorization: EIP3009.Authorization, signature: [UInt8], to recipient: Address, amount: UInt128, token: ChainToken,
    wallets: ContractWallets, latest: UInt64 = 0, now: Timestamp
  ) throws(ChainChargeError) -> ChainCharge {
    guard let domain = token.domain else { throw .tokenWithoutEIP3009 }
    guard authorization.to == recipient else { throw .recipientMismatch(.authorization) }
    guard authorization.value == Word256(amount) else { throw .amountMismatch(.authorization) }
    let expires = try ValidityWindow.check(
      after: authorization.validAfter, before: authorization.validBefore, now: now, latest: latest, means: .authorization)
    let (signed, _) = try PayerSignature.check(
      signature, of: [domain.digest(authorization.structHash(EIP3009.transferTypeHash))], payer: authorization.from,
      wallets: wallets, means: .authorization)
    let data =
      switch signed.key {
      // Every token has the form with v, r and s; the one with octets is for contracts.
      case let key?: EIP3009.transfer(authorization, signature: key)
      case nil: EIP3009.transfer(authorization, signature: signed.octets)
      }
    return ChainCharge(
      id: ChainCharge.id(chain: token.chain, contract: token.address, payer: authorization.from, nonce: authorization.nonce),
      payer: authorization.from, amount: amount, expires: expires, means: .call(to: token.address, data: data),
      transfers: [ExpectedTransfer(token: token.address, from: authorization.from, to: recipient, amount: amount)],
      signatureCheck: signed.check)
  }
}
