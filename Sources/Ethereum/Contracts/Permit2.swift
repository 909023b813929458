import Bytes
import Crypto

/// Encodes and hashes transfers by signature with a witness (Permit2's `SignatureTransfer`).
public enum Permit2 {
  /// Where the contract stands on nearly every chain.
  public static let address = Address(0x0000_0000_0022_D473, 0x030F_116D_DEE9_F6B4, 0x3AC7_8BA3)

  /// The contract's domain, which has no version.
  public static func domain(chainID: UInt64, contract: Address = address) -> TypedData.Domain {
    TypedData.Domain(name: "Permit2", version: nil, chainID: chainID, verifyingContract: contract)
  }

  /// Holds a token and the most that may be moved of it.
  public struct TokenPermissions: Hashable, Sendable {
    /// The token.
    public var token: Address
    /// The most base units.
    public var amount: Word256

    /// Takes the members.
    public init(token: Address, amount: Word256) {
      self.token = token
      self.amount = amount
    }

    static let typeHash = TypedData.typeHash("TokenPermissions(address token,uint256 amount)")

    var structHash: Digest32 {
      var hash = TypedData.StructHash(Self.typeHash)
      hash.append(token)
      hash.append(amount)
      return hash.finalize()
    }

    var value: ABIValue { .tuple([.address(token), .uint(amount)]) }
  }

  /// Holds whom a transfer goes to, and how much of what was permitted.
  public struct TransferDetails: Hashable, Sendable {
    /// The receiver.
    public var to: Address
    /// The base units.
    public var requestedAmount: Word256

    /// Takes the members.
    public init(to: Address, requestedAmount: Word256) {
      self.to = to
      self.requestedAmount = requestedAmount
    }

    var value: ABIValue { .tuple([.address(to), .uint(requestedAmount)]) }
  }

  /// Holds what an owner permits: one token or several, once for the nonce, up to the deadline.
  public struct Permit: Hashable, Sendable {
    /// The tokens; one for a single transfer.
    public var permitted: [TokenPermissions]
    /// What makes it the only one of its kind, in whatever order.
    public var nonce: Word256
    /// The last second of Unix time in which it may be used.
    public var deadline: Word256

    /// Takes the members.
    public init(permitted: [TokenPermissions], nonce: Word256, deadline: Word256) {
      self.permitted = permitted
      self.nonce = nonce
      self.deadline = deadline
    }

    /// The single permit's value in a call; for several tokens the first one's.
    var singleValue: ABIValue {
      .tuple([permitted.first?.value ?? TokenPermissions(token: .zero, amount: .zero).value, .uint(nonce), .uint(deadline)])
    }

    var batchValue: ABIValue { .tuple([.array(permitted.map(\.value)), .uint(nonce), .uint(deadline)]) }
  }

  /// Holds the type of a witness, with the hashes that it gives a permit's type.
  public struct WitnessType: Hashable, Sendable {
    /// What the contract appends to its own part of the type: the member, the witness's type and the token's, in their order.
    public let typeString: String
    /// The hash of the type of a permit of one token.
    public let singleTypeHash: Digest32
    /// The hash of the type of a permit of several tokens.
    public let batchTypeHash: Digest32

    /// Takes the end of the type, such as `Witness witness)TokenPermissions(address token,uint256 amount)Witness(address to)`.
    public init(_ typeString: String) {
      self.typeString = typeString
      let members = "address spender,uint256 nonce,uint256 deadline,"
      singleTypeHash = TypedData.typeHash("PermitWitnessTransferFrom(TokenPermissions permitted,\(members)\(typeString)")
      batchTypeHash = TypedData.typeHash("PermitBatchWitnessTransferFrom(TokenPermissions[] permitted,\(members)\(typeString)")
    }
  }

  /// Hashes a permit of the first token alone, with a witness's hash.
  public static func singleStructHash(_ permit: Permit, spender: Address, witness: Digest32, of type: WitnessType) -> Digest32 {
    var hash = TypedData.StructHash(type.singleTypeHash)
    hash.append((permit.permitted.first ?? TokenPermissions(token: .zero, amount: .zero)).structHash)
    return finish(&hash, permit, spender, witness)
  }

  /// Hashes a permit of all its tokens, with a witness's hash.
  public static func batchStructHash(_ permit: Permit, spender: Address, witness: Digest32, of type: WitnessType) -> Digest32 {
    var hash = TypedData.StructHash(type.batchTypeHash)
    hash.append(elements: permit.permitted.map(\.structHash))
    return finish(&hash, permit, spender, witness)
  }

  private static func finish(
    _ hash: inout TypedData.StructHash, _ permit: Permit, _ spender: Address, _ witness: Digest32
  ) -> Digest32 {
    hash.append(spender)
    hash.append(permit.nonce)
    hash.append(permit.deadline)
    hash.append(witness)
    return hash.finalize()
  }
}

extension Permit2 {
  static let details = ABIType.tuple([.address, .uint256])
  static let singlePermit = ABIType.tuple([details, .uint256, .uint256])
  static let batchPermit = ABIType.tuple([.array(details), .uint256, .uint256])

  /// Moves one token with a witness.
  public static let permitWitnessTransferFrom = ABIFunction(
    "permitWitnessTransferFrom", [singlePermit, details, .address, .bytes32, .string, .bytes])
  /// Moves several tokens, or one token to several receivers, with a witness.
  public static let permitBatchWitnessTransferFrom = ABIFunction(
    "permitWitnessTransferFrom", [batchPermit, .array(details), .address, .bytes32, .string, .bytes])
  /// Asks for 256 nonces' bits.
  public static let nonceBitmap = ABIFunction("nonceBitmap", [.address, .uint256], returns: [.uint256])

  /// Encodes the transfer of the permit's first token.
  public static func transfer(
    _ permit: Permit, details: TransferDetails, owner: Address, witness: Digest32, of type: WitnessType, signature: [UInt8]
  ) -> [UInt8] {
    permitWitnessTransferFrom.call(
      permit.singleValue, details.value, .address(owner), .fixedBytes(witness), .string(type.typeString), .bytes(signature))
  }

  /// Encodes the transfer of all of the permit's tokens, each with its own details.
  public static func transfer(
    _ permit: Permit, batch details: [TransferDetails], owner: Address, witness: Digest32, of type: WitnessType, signature: [UInt8]
  ) -> [UInt8] {
    permitBatchWitnessTransferFrom.call(
      permit.batchValue, .array(details.map(\.value)), .address(owner), .fixedBytes(witness), .string(type.typeString),
      .bytes(signature))
  }

  /// Encodes the question for the word that holds a nonce's bit.
  public static func nonceBitmap(owner: Address, nonce: Word256) -> [UInt8] {
    nonceBitmap.call(.address(owner), .uint(Word256(high: nonce.high >> 8, low: nonce.low >> 8 | nonce.high << 120)))
  }

  /// Whether the word that `nonceBitmap` returned says that the nonce was used.
  public static func isUsed(nonce: Word256, bitmap: Word256) -> Bool {
    let bit = UInt8(truncatingIfNeeded: nonce.low)
    let half = bit < 128 ? bitmap.low : bitmap.high
    return half >> UInt128(bit % 128) & 1 == 1
  }
}
