import Encoding
import Ethereum

// Matching what a payment says it accepts, and what its client echoes, against what was offered.
extension PaymentRequirements {
  /// Whether a payment's `accepted` is this offer: the same terms, and all of our `extra` in its own, as the packages' servers compare.
  ///
  /// Addresses are compared as such, whatever the case of their digits.
  public func isMet(by accepted: PaymentRequirements) -> Bool {
    scheme == accepted.scheme && network == accepted.network && amount == accepted.amount
      && maxTimeoutSeconds == accepted.maxTimeoutSeconds && Self.isSameAccount(asset, accepted.asset)
      && Self.isSameAccount(payTo, accepted.payTo) && ExtensionEcho.contains(.object(extra), in: .object(accepted.extra))
  }

  /// Whether a payment of version 1, which names but scheme and network, pays this offer by what was signed.
  func isMet(by payment: SchemePayload, on network: X402Network) -> Bool {
    guard scheme == .exact, assetTransferMethod == .eip3009, self.network == network, case .exactEIP3009(let authorization) = payment
    else { return false }
    return authorization.value == amount && authorization.to == payToAddress
  }

  private static func isSameAccount(_ left: String, _ right: String) -> Bool {
    if left.hasSameOctets(as: right) { return true }
    guard let left = Address(wire: left), let right = Address(wire: right) else { return false }
    return left == right
  }
}

extension PaymentPayload {
  /// Finds the offer that the payment was made for; nil where it is none of them.
  public func match(_ offers: [PaymentRequirements]) -> Int? {
    switch accepted {
    case let accepted?: offers.firstIndex { $0.isMet(by: accepted) }
    case nil: offers.firstIndex { $0.isMet(by: payment, on: network) }
    }
  }
}

/// Compares what a client echoes of `extensions` and `extra` with what was said (x402 v2 section 5.1.2, "Extensions").
public enum ExtensionEcho {
  /// Whether `actual` holds everything of `expected`: objects may have further members, everything else is equal.
  public static func contains(_ expected: JSONValue, in actual: JSONValue) -> Bool {
    guard case .object(let expected) = expected else { return expected == actual }
    guard case .object(let actual) = actual else { return false }
    return expected.members.allSatisfy { member in
      guard let value = actual[member.name] else { return member.value.isNull }
      return contains(member.value, in: value)
    }
  }
}
