import Bytes
import Encoding

/// Holds what is needed of a block.
public struct BlockHeader: Hashable, Sendable {
  /// The number.
  public var number: UInt64
  /// The hash.
  public var hash: Digest32
  /// The hash of the block before.
  public var parentHash: Digest32
  /// The second of Unix time in which it was made.
  public var timestamp: UInt64
  /// The wei a unit of gas that are burnt; nil for chains without.
  public var baseFeePerGas: UInt128?
  /// The most units of gas.
  public var gasLimit: UInt64

  /// Takes the members.
  public init(
    number: UInt64, hash: Digest32, parentHash: Digest32, timestamp: UInt64, baseFeePerGas: UInt128?, gasLimit: UInt64
  ) {
    self.number = number
    self.hash = hash
    self.parentHash = parentHash
    self.timestamp = timestamp
    self.baseFeePerGas = baseFeePerGas
    self.gasLimit = gasLimit
  }

  /// Reads a block that is no longer pending; nil for null, which stands for an unknown one.
  ///
  /// - Throws: `wrongForm`.
  public init?(_ value: JSONValue) throws(EthereumError) {
    if value.isNull { return nil }
    self.init(
      number: try value.member("number").quantity64(), hash: try value.member("hash").digest(),
      parentHash: try value.member("parentHash").digest(), timestamp: try value.member("timestamp").quantity64(),
      baseFeePerGas: try value.optionalQuantity128("baseFeePerGas"), gasLimit: try value.member("gasLimit").quantity64())
  }
}

/// Holds the fees of some blocks.
public struct FeeHistory: Hashable, Sendable {
  /// The most blocks of one answer.
  public static let maximumCount = 1024

  /// The first block's number.
  public var oldestBlock: UInt64
  /// The base fees, the last one that of the block which comes next.
  public var baseFeesPerGas: [UInt128]
  /// For each block the priority fees at the percentiles that were asked for; empty where none were.
  public var rewards: [[UInt128]]

  /// Reads the answer to `feeHistory`.
  ///
  /// - Throws: `wrongForm`, or `tooLarge` for more than `maximumCount` blocks.
  public init(_ value: JSONValue) throws(EthereumError) {
    oldestBlock = try value.member("oldestBlock").quantity64()
    baseFeesPerGas = try Self.numbers(try value.member("baseFeePerGas"))
    rewards = []
    guard let list = value.optional("reward") else { return }
    guard let blocks = list.arrayValue else { throw .reply(.wrongForm) }
    guard blocks.count <= Self.maximumCount else { throw .reply(.tooLarge) }
    for block in blocks { rewards.append(try Self.numbers(block)) }
  }

  private static func numbers(_ value: JSONValue) throws(EthereumError) -> [UInt128] {
    guard let list = value.arrayValue else { throw .reply(.wrongForm) }
    guard list.count <= maximumCount + 1 else { throw .reply(.tooLarge) }
    var numbers: [UInt128] = []
    for element in list { numbers.append(try element.quantity128()) }
    return numbers
  }
}
