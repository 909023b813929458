import Bytes
import Crypto

/// Holds a transaction before it is signed: EIP-1559's, and the two older kinds for reading what others signed.
public struct Transaction: Hashable, Sendable {
  /// Tells the kinds apart.
  public enum Kind: Hashable, Sendable {
    /// Without a type, for one chain (EIP-155).
    case legacy
    /// Type 1, with an access list (EIP-2930).
    case accessList
    /// Type 2, with a base fee and a priority fee (EIP-1559).
    case dynamicFee
  }

  /// The kind.
  public var kind: Kind
  /// The chain.
  public var chainID: UInt64
  /// How many transactions the account has sent before.
  public var nonce: UInt64
  /// The most wei a unit of gas that whoever makes the block gets; for older kinds the gas price.
  public var maxPriorityFeePerGas: UInt128
  /// The most wei a unit of gas; for older kinds the gas price.
  public var maxFeePerGas: UInt128
  /// The most units of gas.
  public var gasLimit: UInt64
  /// Whom it goes to; nil where it creates a contract.
  public var to: Address?
  /// The wei that go with it.
  public var value: Word256
  /// The call, or the new contract's code.
  public var data: [UInt8]
  /// What it declares beforehand.
  public var accessList: [AccessListEntry]

  /// Takes the members.
  public init(
    kind: Kind = .dynamicFee, chainID: UInt64, nonce: UInt64, maxPriorityFeePerGas: UInt128, maxFeePerGas: UInt128,
    gasLimit: UInt64, to: Address?, value: Word256 = 0, data: [UInt8], accessList: [AccessListEntry] = []
  ) {
    self.kind = kind
    self.chainID = chainID
    self.nonce = nonce
    self.maxPriorityFeePerGas = maxPriorityFeePerGas
    self.maxFeePerGas = maxFeePerGas
    self.gasLimit = gasLimit
    self.to = to
    self.value = value
    self.data = data
    self.accessList = accessList
  }

  /// The fields in the kind's order, without the chain and the signature of the oldest one.
  private var fields: [RLPItem] {
    let common: [RLPItem] = [.number(gasLimit), .address(to), .number(value), .octets(data)]
    let access = RLPItem.list(accessList.map(\.item))
    return switch kind {
    case .legacy: [.number(nonce), .number(maxFeePerGas)] + common
    case .accessList: [.number(chainID), .number(nonce), .number(maxFeePerGas)] + common + [access]
    case .dynamicFee:
      [.number(chainID), .number(nonce), .number(maxPriorityFeePerGas), .number(maxFeePerGas)] + common + [access]
    }
  }

  private func envelope(_ fields: [RLPItem]) -> [UInt8] {
    var buffer = ByteBuffer()
    switch kind {
    case .legacy: break
    case .accessList: buffer.append(byte: 1)
    case .dynamicFee: buffer.append(byte: 2)
    }
    RLP.append(.list(fields), to: &buffer)
    return buffer.array()
  }

  /// The digest that the account signs.
  public var signingDigest: Digest32 {
    switch kind {
    case .legacy: Keccak256.hash(envelope(fields + [.number(chainID), .number(0 as UInt64), .number(0 as UInt64)]))
    case .accessList, .dynamicFee: Keccak256.hash(envelope(fields))
    }
  }

  /// Encodes the transaction with its signature.
  func encode(with signature: ECDSASignature) -> [UInt8] {
    let scalars: [RLPItem] = [.number(Word256(signature.r)), .number(Word256(signature.s))]
    switch kind {
    case .legacy:
      // Word256 holds 2·chain + 36, which 64 bits may not (EIP-155).
      let v = Word256(UInt128(chainID) * 2 + 35 + UInt128(signature.yParity))
      return envelope(fields + [.number(v)] + scalars)
    case .accessList, .dynamicFee: return envelope(fields + [.number(UInt64(signature.yParity))] + scalars)
    }
  }

  /// Signs the transaction.
  public func signed(by key: EthereumKey) -> SignedTransaction {
    SignedTransaction(self, signature: key.sign(signingDigest), sender: key.address)
  }
}

extension Transaction {
  /// The units of gas that a transaction takes before it runs (EIP-2028, EIP-2930, EIP-3860).
  ///
  /// - Precondition: data and access list come from memory, so that no sum overflows.
  public var intrinsicGas: UInt64 {
    let zeros = data.reduce(0) { $0 + ($1 == 0 ? 1 : 0) }
    let creation = to == nil ? 32_000 + (data.count + 31) / 32 * 2 : 0
    let keys = accessList.reduce(0) { $0 + $1.storageKeys.count }
    return UInt64(21_000 + zeros * 4 + (data.count - zeros) * 16 + creation + accessList.count * 2400 + keys * 1900)
  }

  /// The least units of gas that a transaction with much data is charged (EIP-7623).
  public var floorGas: UInt64 {
    let tokens = data.reduce(0) { $0 + ($1 == 0 ? 1 : 4) }
    return UInt64(21_000 + tokens * 10)
  }

  /// The wei that the account must have; nil past 256 bits.
  public var maximumCost: Word256? {
    Word256(maxFeePerGas).multiplied(by: gasLimit)?.adding(value)
  }

  /// Checks what can be checked without the chain.
  ///
  /// - Throws: the rule that is broken.
  public func check(chainID expected: UInt64) throws(EthereumError) {
    guard chainID == expected else { throw .transaction(.wrongChain) }
    guard nonce < .max else { throw .transaction(.nonceTooLarge) }
    guard maxPriorityFeePerGas <= maxFeePerGas else { throw .transaction(.priorityAboveFee) }
    guard gasLimit >= intrinsicGas else { throw .transaction(.gasTooLow) }
  }
}
