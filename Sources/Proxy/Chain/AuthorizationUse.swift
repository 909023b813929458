import Bytes
import Ethereum

/// The use of an EIP-3009 authorization: whoever sends it, the token tells it by the payer and his nonce.
struct AuthorizationUse {
  private let log: (token: Address, topics: [Digest32])

  /// Finds the authorization in a call of its token; nil for other calls.
  init?(of call: [UInt8], token: Address) {
    let functions = [EIP3009.transferWithAuthorization, EIP3009.transferWithAuthorizationBytes]
    guard let values = functions.lazy.compactMap({ try? $0.arguments(of: call) }).first, values.count > 5, let payer = values[0].addressValue,
      let nonce = values[5].fixedBytesValue
    else { return nil }
    log = (token, [EIP3009.authorizationUsed.topic, Word256(payer).octets, nonce])
  }

  /// Whether a transaction's logs tell of it.
  func isTold(by logs: [Log]) -> Bool { logs.contains { $0.address == log.token && $0.topics == log.topics && !$0.isRemoved } }
}
