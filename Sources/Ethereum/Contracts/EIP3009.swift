import Bytes

/// Encodes and hashes transfers by authorization (EIP-3009).
public enum EIP3009 {
  /// Holds what a payer signs: whom he pays how much, in which window, once for its nonce.
  public struct Authorization: Hashable, Sendable {
    /// The payer.
    public var from: Address
    /// The payee.
    public var to: Address
    /// The amount in base units.
    public var value: Word256
    /// The second of Unix time after which it may be used.
    public var validAfter: Word256
    /// The second of Unix time before which it may be used.
    public var validBefore: Word256
    /// What makes it the only one of its kind.
    public var nonce: Digest32

    /// Takes the members.
    public init(
      from: Address, to: Address, value: Word256, validAfter: Word256, validBefore: Word256, nonce: Digest32
    ) {
      self.from = from
      self.to = to
      self.value = value
      self.validAfter = validAfter
      self.validBefore = validBefore
      self.nonce = nonce
    }

    /// Hashes the struct as the type of one of the two functions.
    public func structHash(_ typeHash: Digest32) -> Digest32 {
      var hash = TypedData.StructHash(typeHash)
      hash.append(from)
      hash.append(to)
      hash.append(value)
      hash.append(validAfter)
      hash.append(validBefore)
      hash.append(nonce)
      return hash.finalize()
    }

    fileprivate var values: [ABIValue] {
      [.address(from), .address(to), .uint(value), .uint(validAfter), .uint(validBefore), .fixedBytes(nonce)]
    }
  }

  /// The hash of the type that anybody may submit.
  public static let transferTypeHash = TypedData.typeHash(
    "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)")
  /// The hash of the type that only the payee may submit.
  public static let receiveTypeHash = TypedData.typeHash(
    "ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)")
  /// The hash of the type that cancels an authorization.
  public static let cancelTypeHash = TypedData.typeHash("CancelAuthorization(address authorizer,bytes32 nonce)")

  private static let members: [ABIType] = [.address, .address, .uint256, .uint256, .uint256, .bytes32]

  /// Transfers, with the signature in three parts.
  public static let transferWithAuthorization = ABIFunction(
    "transferWithAuthorization", members + [.uint(8), .bytes32, .bytes32])
  /// Transfers, with the signature as octets, which may be a contract's.
  public static let transferWithAuthorizationBytes = ABIFunction("transferWithAuthorization", members + [.bytes])
  /// Receives, with the signature in three parts.
  public static let receiveWithAuthorization = ABIFunction(
    "receiveWithAuthorization", members + [.uint(8), .bytes32, .bytes32])
  /// Receives, with the signature as octets, which may be a contract's.
  public static let receiveWithAuthorizationBytes = ABIFunction("receiveWithAuthorization", members + [.bytes])
  /// Tells that an authorization was used, by its payer and nonce.
  public static let authorizationUsed = ABIEvent("AuthorizationUsed", [.indexed(.address), .indexed(.bytes32)])
  /// Asks whether a nonce was used or cancelled.
  public static let authorizationState = ABIFunction("authorizationState", [.address, .bytes32], returns: [.bool])

  /// Encodes `transferWithAuthorization` with v, r and s.
  public static func transfer(_ authorization: Authorization, signature: ECDSASignature) -> [UInt8] {
    split(transferWithAuthorization, authorization, signature)
  }

  /// Encodes `transferWithAuthorization` with the signature's octets as they came.
  public static func transfer(_ authorization: Authorization, signature: [UInt8]) -> [UInt8] {
    whole(transferWithAuthorizationBytes, authorization, signature)
  }

  /// Encodes `receiveWithAuthorization` with v, r and s.
  public static func receive(_ authorization: Authorization, signature: ECDSASignature) -> [UInt8] {
    split(receiveWithAuthorization, authorization, signature)
  }

  /// Encodes `receiveWithAuthorization` with the signature's octets as they came.
  public static func receive(_ authorization: Authorization, signature: [UInt8]) -> [UInt8] {
    whole(receiveWithAuthorizationBytes, authorization, signature)
  }

  /// Encodes `authorizationState`.
  public static func authorizationState(authorizer: Address, nonce: Digest32) -> [UInt8] {
    authorizationState.call(.address(authorizer), .fixedBytes(nonce))
  }

  private static func split(_ function: ABIFunction, _ authorization: Authorization, _ signature: ECDSASignature) -> [UInt8] {
    function.call(
      values: authorization.values + [.uint(UInt64(signature.v)), .fixedBytes(signature.r), .fixedBytes(signature.s)])
  }

  private static func whole(_ function: ABIFunction, _ authorization: Authorization, _ signature: [UInt8]) -> [UInt8] {
    function.call(values: authorization.values + [.bytes(signature)])
  }
}
