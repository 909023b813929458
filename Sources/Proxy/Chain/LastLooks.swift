import Bytes
import Synchronization

/// Remembers at which block of its chain a payment was first found to be impossible: one look may have asked a node that is behind the others.
final class LastLooks: Sendable {
  /// The most that are remembered; of what there is no place for, nothing is given up.
  private static let limit = 4096

  private let blocks = Mutex<[Digest32: UInt64]>([:])

  /// Notes a look at a block; true where there was one at an earlier block.
  func isRepeated(_ id: Digest32, at block: UInt64) -> Bool {
    blocks.withLock { blocks in
      guard let first = blocks[id] else {
        if blocks.count < Self.limit { blocks[id] = block }
        return false
      }
      guard block > first else { return false }
      blocks[id] = nil
      return true
    }
  }

  /// Forgets a look that a later one did not find again.
  func forget(_ id: Digest32) { blocks.withLock { $0[id] = nil } }
}
