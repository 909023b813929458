import Bytes

/// Names the block that a question is about.
public enum BlockTag: Hashable, Sendable {
  /// The newest block.
  case latest
  /// The newest block and what waits to follow it.
  case pending
  /// The newest block that is unlikely to be taken back.
  case safe
  /// The newest block that cannot be taken back.
  case finalized
  /// The first block.
  case earliest
  /// A block by its number.
  case number(UInt64)

  func write(to buffer: inout ByteBuffer) {
    switch self {
    case .latest: buffer.append("\"latest\"")
    case .pending: buffer.append("\"pending\"")
    case .safe: buffer.append("\"safe\"")
    case .finalized: buffer.append("\"finalized\"")
    case .earliest: buffer.append("\"earliest\"")
    case .number(let number): RPCText.append(quantity: number, to: &buffer)
    }
  }
}
