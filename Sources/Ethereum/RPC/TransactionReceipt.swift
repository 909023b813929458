import Bytes
import Encoding

/// Holds what became of a transaction in a block.
public struct TransactionReceipt: Hashable, Sendable {
  /// The transaction.
  public var transactionHash: Digest32
  /// Whether it did what it said; false where it was reverted.
  public var isSuccessful: Bool
  /// The block.
  public var blockNumber: UInt64
  /// The block's hash.
  public var blockHash: Digest32
  /// Who sent it.
  public var from: Address
  /// Whom it went to; nil where it created a contract.
  public var to: Address?
  /// The contract that it created.
  public var contractAddress: Address?
  /// The units of gas that it took.
  public var gasUsed: UInt64
  /// The wei a unit of gas that were paid; nil where the endpoint does not tell.
  public var effectiveGasPrice: UInt128?
  /// What contracts told.
  public var logs: [Log]

  /// Takes the members.
  public init(
    transactionHash: Digest32, isSuccessful: Bool, blockNumber: UInt64, blockHash: Digest32, from: Address, to: Address?,
    contractAddress: Address? = nil, gasUsed: UInt64, effectiveGasPrice: UInt128?, logs: [Log]
  ) {
    self.transactionHash = transactionHash
    self.isSuccessful = isSuccessful
    self.blockNumber = blockNumber
    self.blockHash = blockHash
    self.from = from
    self.to = to
    self.contractAddress = contractAddress
    self.gasUsed = gasUsed
    self.effectiveGasPrice = effectiveGasPrice
    self.logs = logs
  }

  /// Reads a receipt; nil for null, which stands for a transaction in no block.
  ///
  /// - Throws: `wrongForm`, or `tooLarge` for too many logs.
  public init?(_ value: JSONValue) throws(EthereumError) {
    if value.isNull { return nil }
    let status = try value.member("status").quantity64()
    guard status <= 1 else { throw .reply(.wrongForm) }
    self.init(
      transactionHash: try value.member("transactionHash").digest(), isSuccessful: status == 1,
      blockNumber: try value.member("blockNumber").quantity64(), blockHash: try value.member("blockHash").digest(),
      from: try value.member("from").address(), to: try value.optionalAddress("to"),
      contractAddress: try value.optionalAddress("contractAddress"), gasUsed: try value.member("gasUsed").quantity64(),
      effectiveGasPrice: try value.optionalQuantity128("effectiveGasPrice"), logs: try Log.logs(try value.member("logs")))
  }

  /// The wei that the gas cost; nil where the price is not told, or past 256 bits.
  public var fee: Word256? {
    effectiveGasPrice.flatMap { Word256($0).multiplied(by: gasUsed) }
  }

  /// The movements of a token in the order in which they were told, those with a memo twice.
  public func transfers(of token: Address) -> [TransferEvent] {
    logs.compactMap { $0.address == token ? TransferEvent($0) : nil }
  }
}

/// Holds what an endpoint knows of a transaction, of whatever type.
public struct TransactionRecord: Hashable, Sendable {
  /// The transaction.
  public var hash: Digest32
  /// Who sent it.
  public var from: Address
  /// Whom it goes to; nil where it creates a contract or has several calls.
  public var to: Address?
  /// Its nonce.
  public var nonce: UInt64
  /// The wei that go with it; nil where the type has none.
  public var value: Word256?
  /// The call; nil where the type has several.
  public var input: [UInt8]?
  /// The units of gas at most.
  public var gas: UInt64?
  /// The wei a unit of gas at most; for older types the gas price.
  public var maxFeePerGas: UInt128?
  /// The wei a unit of gas for whoever makes the block.
  public var maxPriorityFeePerGas: UInt128?
  /// The type; nil where the endpoint does not tell.
  public var type: UInt64?
  /// The block; nil while pending.
  public var blockNumber: UInt64?
  /// The block's hash; nil while pending.
  public var blockHash: Digest32?

  /// Reads a transaction; nil for null, which stands for an unknown one.
  ///
  /// - Throws: `wrongForm`.
  public init?(_ value: JSONValue) throws(EthereumError) {
    if value.isNull { return nil }
    hash = try value.member("hash").digest()
    from = try value.member("from").address()
    to = try value.optionalAddress("to")
    nonce = try value.member("nonce").quantity64()
    self.value = nil
    input = nil
    if let amount = value.optional("value") { self.value = try amount.quantity() }
    if let octets = value.optional("input") { input = try octets.data() }
    gas = try value.optionalQuantity64("gas")
    if let fee = try value.optionalQuantity128("maxFeePerGas") {
      maxFeePerGas = fee
    } else {
      maxFeePerGas = try value.optionalQuantity128("gasPrice")
    }
    maxPriorityFeePerGas = try value.optionalQuantity128("maxPriorityFeePerGas")
    type = try value.optionalQuantity64("type")
    blockNumber = try value.optionalQuantity64("blockNumber")
    blockHash = try value.optionalDigest("blockHash")
  }
}
