import Bytes

/// Holds what a contract told while a transaction ran.
public struct Log: Hashable, Sendable {
  /// The most topics.
  public static let maximumTopics = 4

  /// The contract.
  public var address: Address
  /// The hash of the event's signature and its indexed parameters.
  public var topics: [Digest32]
  /// The other parameters.
  public var data: [UInt8]
  /// The block; nil while pending.
  public var blockNumber: UInt64?
  /// The block's hash; nil while pending.
  public var blockHash: Digest32?
  /// The transaction; nil while pending.
  public var transactionHash: Digest32?
  /// The place in the block; nil while pending.
  public var index: UInt64?
  /// Whether a reorganisation took it back.
  public var isRemoved: Bool

  /// Takes the members.
  public init(
    address: Address, topics: [Digest32], data: [UInt8], blockNumber: UInt64? = nil, blockHash: Digest32? = nil,
    transactionHash: Digest32? = nil, index: UInt64? = nil, isRemoved: Bool = false
  ) {
    self.address = address
    self.topics = topics
    self.data = data
    self.blockNumber = blockNumber
    self.blockHash = blockHash
    self.transactionHash = transactionHash
    self.index = index
    self.isRemoved = isRemoved
  }
}

/// Holds a movement of tokens that a log tells: ERC-20's `Transfer`, or TIP-20's with a memo.
public struct TransferEvent: Hashable, Sendable {
  /// The token, which is the contract that told it.
  public var token: Address
  /// Who paid; zero where tokens were made.
  public var from: Address
  /// Who was paid; zero where tokens were destroyed.
  public var to: Address
  /// The base units.
  public var value: Word256
  /// The memo of `TransferWithMemo`, nil for `Transfer`; such a transfer tells both events.
  public var memo: Digest32?

  /// ERC-20's event.
  public static let transfer = ABIEvent("Transfer", [.indexed(.address), .indexed(.address), .plain(.uint256)])
  /// TIP-20's event.
  public static let transferWithMemo = ABIEvent(
    "TransferWithMemo", [.indexed(.address), .indexed(.address), .plain(.uint256), .indexed(.bytes32)])

  /// Takes the members.
  public init(token: Address, from: Address, to: Address, value: Word256, memo: Digest32? = nil) {
    self.token = token
    self.from = from
    self.to = to
    self.value = value
    self.memo = memo
  }

  /// Reads a log; nil where it tells something else, or was taken back.
  public init?(_ log: Log) {
    guard !log.isRemoved, let values = Self.transfer.values(of: log) ?? Self.transferWithMemo.values(of: log) else { return nil }
    guard let from = values[0].addressValue, let to = values[1].addressValue, let value = values[2].uintValue else { return nil }
    self.init(token: log.address, from: from, to: to, value: value, memo: values.count > 3 ? values[3].fixedBytesValue : nil)
  }
}
