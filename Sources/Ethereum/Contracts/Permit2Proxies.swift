import Bytes
import Crypto

/// Encodes and hashes what goes through the x402 proxy that moves exactly what was permitted.
public enum ExactPermit2Proxy {
  /// Where the contract stands.
  public static let address = Address(0x4020_85C2_48EE_A27D, 0x92E8_B30B_2C58_ED07, 0xF9E2_0001)
  /// The witness's type: the receiver, and the second after which it may be used.
  public static let witnessType = Permit2.WitnessType(
    "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,uint256 validAfter)")
  private static let witnessTypeHash = TypedData.typeHash("Witness(address to,uint256 validAfter)")
  private static let witness = ABIType.tuple([.address, .uint256])

  /// Moves the whole amount.
  public static let settle = ABIFunction("settle", [Permit2.singlePermit, .address, witness, .bytes])
  /// Moves the whole amount after the token's own permit for Permit2.
  public static let settleWithPermit = ABIFunction(
    "settleWithPermit", [EIP2612.sponsoredPermit, Permit2.singlePermit, .address, witness, .bytes])

  /// Hashes the witness.
  public static func witnessHash(to: Address, validAfter: Word256) -> Digest32 {
    var hash = TypedData.StructHash(witnessTypeHash)
    hash.append(to)
    hash.append(validAfter)
    return hash.finalize()
  }

  /// Encodes `settle`.
  public static func settle(
    _ permit: Permit2.Permit, owner: Address, to: Address, validAfter: Word256, signature: [UInt8]
  ) -> [UInt8] {
    settle.call(permit.singleValue, .address(owner), .tuple([.address(to), .uint(validAfter)]), .bytes(signature))
  }

  /// Encodes `settleWithPermit`.
  public static func settle(
    after sponsored: EIP2612.SponsoredPermit, _ permit: Permit2.Permit, owner: Address, to: Address, validAfter: Word256,
    signature: [UInt8]
  ) -> [UInt8] {
    settleWithPermit.call(
      sponsored.abiValue, permit.singleValue, .address(owner), .tuple([.address(to), .uint(validAfter)]), .bytes(signature))
  }
}

/// Encodes and hashes what goes through the x402 proxy that moves at most what was permitted.
public enum UptoPermit2Proxy {
  /// Where the contract stands.
  public static let address = Address(0x4020_A4F3_B7B9_0CCA, 0x423B_9FAB_CC0C_E57C, 0x6C24_0002)
  /// The witness's type: the receiver, who may settle, and the second after which it may be used.
  public static let witnessType = Permit2.WitnessType(
    "Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to,address facilitator,uint256 validAfter)")
  private static let witnessTypeHash = TypedData.typeHash("Witness(address to,address facilitator,uint256 validAfter)")
  private static let witness = ABIType.tuple([.address, .address, .uint256])

  /// Moves the amount that is named.
  public static let settle = ABIFunction("settle", [Permit2.singlePermit, .uint256, .address, witness, .bytes])
  /// Moves the amount that is named after the token's own permit for Permit2.
  public static let settleWithPermit = ABIFunction(
    "settleWithPermit", [EIP2612.sponsoredPermit, Permit2.singlePermit, .uint256, .address, witness, .bytes])

  /// Hashes the witness.
  public static func witnessHash(to: Address, facilitator: Address, validAfter: Word256) -> Digest32 {
    var hash = TypedData.StructHash(witnessTypeHash)
    hash.append(to)
    hash.append(facilitator)
    hash.append(validAfter)
    return hash.finalize()
  }

  /// Encodes `settle`.
  public static func settle(
    _ permit: Permit2.Permit, amount: Word256, owner: Address, to: Address, facilitator: Address, validAfter: Word256,
    signature: [UInt8]
  ) -> [UInt8] {
    settle.call(
      permit.singleValue, .uint(amount), .address(owner), .tuple([.address(to), .address(facilitator), .uint(validAfter)]),
      .bytes(signature))
  }

  /// Encodes `settleWithPermit`.
  public static func settle(
    after sponsored: EIP2612.SponsoredPermit, _ permit: Permit2.Permit, amount: Word256, owner: Address, to: Address,
    facilitator: Address, validAfter: Word256, signature: [UInt8]
  ) -> [UInt8] {
    settleWithPermit.call(
      sponsored.abiValue, permit.singleValue, .uint(amount), .address(owner),
      .tuple([.address(to), .address(facilitator), .uint(validAfter)]), .bytes(signature))
  }
}

extension EIP2612 {
  static let sponsoredPermit = ABIType.tuple([.uint256, .uint256, .bytes32, .bytes32, .uint(8)])

  /// Holds a token's permit for Permit2 that a proxy submits before it settles.
  public struct SponsoredPermit: Hashable, Sendable {
    /// The base units that are allowed; the proxy asks for exactly what is permitted afterwards.
    public var value: Word256
    /// The last second of Unix time in which it may be used.
    public var deadline: Word256
    /// The owner's signature.
    public var signature: ECDSASignature

    /// Takes the members.
    public init(value: Word256, deadline: Word256, signature: ECDSASignature) {
      self.value = value
      self.deadline = deadline
      self.signature = signature
    }

    var abiValue: ABIValue {
      .tuple([
        .uint(value), .uint(deadline), .fixedBytes(signature.r), .fixedBytes(signature.s), .uint(UInt64(signature.v)),
      ])
    }
  }
}
