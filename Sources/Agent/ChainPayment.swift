import Bytes
import Crypto
import Encoding
import Ethereum
import Methods
import Payments

/// Signs what an offer on a chain asks for.
enum ChainPayment {
  /// Makes the field that carries the payment; the key signs once.
  ///
  /// - Parameter entropy: 32 fresh random octets, the nonce of what is signed where the dialect does not bind it.
  /// - Throws: `.signing` naming the rule that the offer breaks.
  static func field(for offer: ChainOffer, by key: EthereumKey, entropy: Digest32, now: Timestamp) throws(AgentError) -> AgentRequest.Field {
    do throws(ChainChargeError) {
      switch offer.dialect {
      case .evm(let challenge, let charge):
        return try field(for: charge, challenge, offer, by: key, nonce: Word256(entropy))
      case .x402(let version, let received, let resource, let extensions):
        let payment = try sign(received.requirements, offer, by: key, entropy: entropy, now: now)
        switch version {
        case .v2:
          let object = PaymentPayload.object(
            accepted: received.object, payment: payment, resource: resource, extensions: identified(extensions, by: entropy))
          return AgentRequest.Field(name: "PAYMENT-SIGNATURE", value: PaymentPayload.fieldValue(object))
        case .v1:
          guard let object = PaymentPayload.objectV1(network: received.requirements.network, payment: payment) else {
            throw .networkMismatch
          }
          return AgentRequest.Field(name: "X-PAYMENT", value: PaymentPayload.fieldValue(object))
        }
      }
    } catch {
      throw .signing(error)
    }
  }

  private static func field(
    for charge: EVMCharge, _ challenge: Challenge, _ offer: ChainOffer, by key: EthereumKey, nonce: Word256
  ) throws(ChainChargeError) -> AgentRequest.Field {
    // Only the end of the signature's validity is taken from the terms; the hash is the challenge's whatever it is.
    let terms = ChallengeTerms(id: challenge.id, realm: challenge.realm, issued: offer.expires, expires: offer.expires)
    let payload =
      switch offer.means {
      case .authorization: try charge.authorization(by: key, challenge: terms, token: offer.token.token)
      case .permit2: try charge.permit(by: key, challenge: terms, token: offer.token.token, nonce: nonce)
      }
    let object = Credential.object(challenge: challenge, source: charge.source(of: key.address), payload: payload.object)
    let name = challenge.selectsAlternateField ? Challenge.alternateField : "Authorization"
    return AgentRequest.Field(name: name, value: Credential.fieldValue(object))
  }

  private static func sign(
    _ terms: PaymentRequirements, _ offer: ChainOffer, by key: EthereumKey, entropy: Digest32, now: Timestamp
  ) throws(ChainChargeError) -> SchemePayload {
    // A copy with the bounded time is signed for; what is echoed stays as it was received.
    let seconds = max(0, (offer.expires - now).components.seconds)
    let bounded = PaymentRequirements(
      scheme: terms.scheme, network: terms.network, amount: terms.amount, asset: terms.asset, payTo: terms.payTo,
      maxTimeoutSeconds: min(terms.maxTimeoutSeconds, UInt32(clamping: seconds)), extra: terms.extra)
    return switch offer.means {
    case .authorization: try ExactEVM.authorization(for: bounded, by: key, token: offer.token.token, nonce: entropy, now: now)
    case .permit2: try ExactEVM.permit(for: bounded, by: key, token: offer.token.token, nonce: Word256(entropy), now: now)
    }
  }

  /// The extensions as they are echoed, with an identifier of the payment where the server takes one.
  private static func identified(_ extensions: JSONObject, by entropy: Digest32) -> JSONObject {
    guard var declared = extensions[PaymentIdentifier.key]?.objectValue, var info = declared["info"]?.objectValue else { return extensions }
    // The identifier tells nothing of the nonce, and is the same for every repetition.
    info.set("id", .string("pay_" + String(SHA256.hash(entropy.bytes).hex.prefix(32))))
    declared.set("info", .object(info))
    var echoed = extensions
    echoed.set(PaymentIdentifier.key, .object(declared))
    return echoed
  }
}
