import Bytes
import Crypto

/// Hashes typed structured data (EIP-712).
///
/// A domain and a type hash are made once; then a message costs one hash of its struct and one of the whole.
public enum TypedData {
  /// Hashes a type's encoding, such as `Voucher(bytes32 channelId,uint128 cumulativeAmount)`.
  public static func typeHash(_ encodedType: String) -> Digest32 { Keccak256.hash(encodedType) }

  /// Hashes a struct of members that are 32 octets each, or stand for their hash.
  public static func hashStruct(_ typeHash: Digest32, _ members: Digest32...) -> Digest32 {
    var hash = StructHash(typeHash)
    for member in members { hash.append(member) }
    return hash.finalize()
  }
}

extension TypedData {
  /// Says whom a message is meant for; each member may be missing, as the contract decides.
  public struct Domain: Hashable, Sendable {
    /// The name of the contract or protocol.
    public var name: String?
    /// The version of the contract or protocol.
    public var version: String?
    /// The chain.
    public var chainID: Word256?
    /// The contract that verifies the signature.
    public var verifyingContract: Address?
    /// What tells domains apart where nothing else does.
    public var salt: Digest32?

    /// Takes the members that the domain has.
    public init(
      name: String? = nil, version: String? = nil, chainID: Word256? = nil, verifyingContract: Address? = nil, salt: Digest32? = nil
    ) {
      self.name = name
      self.version = version
      self.chainID = chainID
      self.verifyingContract = verifyingContract
      self.salt = salt
    }

    /// Takes the members of most domains.
    public init(name: String, version: String?, chainID: UInt64, verifyingContract: Address) {
      self.init(name: name, version: version, chainID: Word256(chainID), verifyingContract: verifyingContract)
    }

    /// The domain's type with the members that it has, in the order of EIP-712.
    public var encodedType: String {
      var members: [String] = []
      if name != nil { members.append("string name") }
      if version != nil { members.append("string version") }
      if chainID != nil { members.append("uint256 chainId") }
      if verifyingContract != nil { members.append("address verifyingContract") }
      if salt != nil { members.append("bytes32 salt") }
      return "EIP712Domain(" + members.joined(separator: ",") + ")"
    }

    /// The domain's hash.
    public var separator: Digest32 {
      var hash = StructHash(typeHash(encodedType))
      if let name { hash.append(string: name) }
      if let version { hash.append(string: version) }
      if let chainID { hash.append(chainID) }
      if let verifyingContract { hash.append(verifyingContract) }
      if let salt { hash.append(salt) }
      return hash.finalize()
    }

    /// The domain with its hash, for many messages.
    public var prepared: PreparedDomain { PreparedDomain(separator: separator) }
  }
}

extension TypedData {
  /// Holds a domain's hash, so that a message's digest costs one more hash only.
  public struct PreparedDomain: Hashable, Sendable {
    /// The domain's hash.
    public let separator: Digest32

    /// Takes a domain's hash, made here or read from a contract.
    public init(separator: Digest32) {
      self.separator = separator
    }

    /// The digest that is signed for a struct's hash.
    public func digest(_ structHash: Digest32) -> Digest32 {
      var hash = Keccak256()
      hash.update(byte: 0x19)
      hash.update(byte: 0x01)
      hash.update(separator)
      hash.update(structHash)
      return hash.finalize()
    }
  }
}

extension TypedData {
  /// Hashes a struct whose members come in the order of its type.
  public struct StructHash: Sendable {
    private var hash = Keccak256()

    /// Begins with the type's hash.
    public init(_ typeHash: Digest32) {
      hash.update(typeHash)
    }

    /// Takes a member of 32 octets, or the hash of a struct.
    public mutating func append(_ word: Digest32) { hash.update(word) }

    /// Takes a number of any size up to 256 bits.
    public mutating func append(_ number: Word256) { hash.update(number.octets) }

    /// Takes a number of any size up to 128 bits.
    public mutating func append(_ number: UInt128) { hash.update(Word256(number).octets) }

    /// Takes an address.
    public mutating func append(_ address: Address) { hash.update(Word256(address).octets) }

    /// Takes a truth value.
    public mutating func append(_ truth: Bool) { hash.update(Word256(truth ? 1 : UInt64(0)).octets) }

    /// Takes a string's hash.
    public mutating func append(string: String) { hash.update(Keccak256.hash(string)) }

    /// Takes the hash of octets of any number.
    public mutating func append(bytes: UnsafeRawBufferPointer) { hash.update(Keccak256.hash(bytes)) }

    /// Takes the hash of octets of any number.
    public mutating func append(bytes: [UInt8]) { hash.update(Keccak256.hash(bytes)) }

    /// Takes an array by its elements, each of 32 octets or the hash of a struct, a string or octets.
    public mutating func append(elements: [Digest32]) {
      var array = Keccak256()
      for element in elements { array.update(element) }
      hash.update(array.finalize())
    }

    /// Ends with the hash of the struct.
    public func finalize() -> Digest32 { hash.finalize() }
  }
}

extension TypedData {
  /// The digest of a text that an account signs as a personal message (EIP-191, version 0x45).
  public static func personalMessage(_ message: UnsafeRawBufferPointer) -> Digest32 {
    var hash = Keccak256()
    hash.update("\u{19}Ethereum Signed Message:\n")
    hash.update(String(message.count))
    hash.update(message)
    return hash.finalize()
  }

  /// The digest of a text that an account signs as a personal message, as above.
  public static func personalMessage(_ message: String) -> Digest32 {
    var message = message
    return message.withUTF8 { personalMessage(UnsafeRawBufferPointer($0)) }
  }
}
