/// Names the rule that a signature on secp256k1 breaks.
public enum Secp256k1Error: Error, Hashable, Sendable {
  /// A scalar is zero, or not less than the order of the group.
  case scalarOutOfRange
  /// The scalar s is above half the order: the other spelling of a signature, which is refused, never normalised.
  case highS
  /// The recovery identifier is neither 0 nor 1.
  case recoveryIdentifierOutOfRange
}
