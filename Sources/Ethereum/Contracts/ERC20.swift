import Bytes

/// Encodes the calls of a token (ERC-20, and Tempo's TIP-20 with memos).
public enum ERC20 {
  /// Moves the caller's own tokens.
  public static let transfer = ABIFunction("transfer", [.address, .uint256], returns: [.bool])
  /// Moves the tokens of somebody who allowed it.
  public static let transferFrom = ABIFunction("transferFrom", [.address, .address, .uint256], returns: [.bool])
  /// Allows a spender.
  public static let approve = ABIFunction("approve", [.address, .uint256], returns: [.bool])
  /// Asks what an account has.
  public static let balanceOf = ABIFunction("balanceOf", [.address], returns: [.uint256])
  /// Asks what a spender may still move.
  public static let allowance = ABIFunction("allowance", [.address, .address], returns: [.uint256])
  /// Asks for the digits behind the point.
  public static let decimals = ABIFunction("decimals", [], returns: [.uint(8)])
  /// Asks for the name, which is mostly the name of the EIP-712 domain as well.
  public static let name = ABIFunction("name", [], returns: [.string])
  /// Asks for the symbol.
  public static let symbol = ABIFunction("symbol", [], returns: [.string])
  /// Asks for the version of the EIP-712 domain.
  public static let version = ABIFunction("version", [], returns: [.string])
  /// Asks for the hash of the EIP-712 domain.
  public static let domainSeparator = ABIFunction("DOMAIN_SEPARATOR", [], returns: [.bytes32])
  /// Moves the caller's own tokens with a memo (TIP-20).
  public static let transferWithMemo = ABIFunction("transferWithMemo", [.address, .uint256, .bytes32])
  /// Moves the tokens of somebody who allowed it with a memo (TIP-20).
  public static let transferFromWithMemo = ABIFunction("transferFromWithMemo", [.address, .address, .uint256, .bytes32], returns: [.bool])

  /// Encodes `transfer`.
  public static func transfer(to: Address, value: Word256) -> [UInt8] {
    transfer.call(.address(to), .uint(value))
  }

  /// Encodes `transferFrom`.
  public static func transferFrom(_ from: Address, to: Address, value: Word256) -> [UInt8] {
    transferFrom.call(.address(from), .address(to), .uint(value))
  }

  /// Encodes `approve`.
  public static func approve(spender: Address, value: Word256) -> [UInt8] {
    approve.call(.address(spender), .uint(value))
  }

  /// Encodes `balanceOf`.
  public static func balanceOf(_ owner: Address) -> [UInt8] { balanceOf.call(.address(owner)) }

  /// Encodes `allowance`.
  public static func allowance(owner: Address, spender: Address) -> [UInt8] {
    allowance.call(.address(owner), .address(spender))
  }

  /// Encodes `transferWithMemo`.
  public static func transferWithMemo(to: Address, value: Word256, memo: Digest32) -> [UInt8] {
    transferWithMemo.call(.address(to), .uint(value), .fixedBytes(memo))
  }
}

/// Encodes the permit of a token (EIP-2612).
public enum EIP2612 {
  /// Allows a spender by a signature.
  public static let permit = ABIFunction(
    "permit", [.address, .address, .uint256, .uint256, .uint(8), .bytes32, .bytes32])
  /// Asks for the next permit's nonce.
  public static let nonces = ABIFunction("nonces", [.address], returns: [.uint256])
  /// The hash of the signed type.
  public static let typeHash = TypedData.typeHash(
    "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")

  /// Encodes `permit`.
  public static func permit(
    owner: Address, spender: Address, value: Word256, deadline: Word256, signature: ECDSASignature
  ) -> [UInt8] {
    permit.call(
      .address(owner), .address(spender), .uint(value), .uint(deadline), .uint(UInt64(signature.v)), .fixedBytes(signature.r),
      .fixedBytes(signature.s))
  }

  /// Encodes `nonces`.
  public static func nonces(_ owner: Address) -> [UInt8] { nonces.call(.address(owner)) }

  /// Hashes the signed struct.
  public static func structHash(
    owner: Address, spender: Address, value: Word256, nonce: Word256, deadline: Word256
  ) -> Digest32 {
    var hash = TypedData.StructHash(typeHash)
    hash.append(owner)
    hash.append(spender)
    hash.append(value)
    hash.append(nonce)
    hash.append(deadline)
    return hash.finalize()
  }
}

/// Encodes the question to a contract whether it takes a signature for its own (ERC-1271).
public enum ERC1271 {
  /// Asks whether a signature of a digest is valid.
  public static let isValidSignature = ABIFunction("isValidSignature", [.bytes32, .bytes], returns: [.fixedBytes(4)])

  /// Encodes `isValidSignature`; the signature may be of any form that the contract knows.
  public static func isValidSignature(_ digest: Digest32, signature: [UInt8]) -> [UInt8] {
    isValidSignature.call(.fixedBytes(digest), .bytes(signature))
  }

  /// Whether what the call returned says yes: exactly one word, the function's own selector and zeros.
  public static func isValid(_ returned: [UInt8]) -> Bool {
    var expected = [UInt8](repeating: 0, count: 32)
    withUnsafeBytes(of: isValidSignature.selector.number.bigEndian) { expected.replaceSubrange(..<4, with: $0) }
    return returned == expected
  }
}
