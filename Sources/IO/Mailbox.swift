internal import Synchronization

/// Carries messages from any thread to the one that owns the mailbox and its ``Waker``.
public final class Mailbox<Message: Sendable>: Sendable {
  /// Most messages that wait; a sender over the limit is told.
  public let limit: Int

  private let waker: Waker
  private let messages = Mutex<[Message]>([])
  private let isFilled = Atomic<Bool>(false)

  /// Makes a mailbox whose owner is woken by `waker`.
  public init(waker: Waker, limit: Int = 4096) {
    self.waker = waker
    self.limit = limit
  }

  /// Puts a message in and wakes the owner. Returns false when the mailbox is full.
  @discardableResult public func send(_ message: Message) -> Bool {
    let accepted = messages.withLock { waiting in
      guard waiting.count < limit else { return false }
      waiting.append(message)
      return true
    }
    isFilled.store(true, ordering: .sequentiallyConsistent)
    waker.wake()
    return accepted
  }

  /// Says whether something may wait; costs one load, so it can be asked each turn.
  public var mayHaveMessages: Bool { isFilled.load(ordering: .acquiring) }

  /// Takes all messages, oldest first.
  public func takeAll() -> [Message] {
    isFilled.store(false, ordering: .sequentiallyConsistent)
    return messages.withLock { waiting in
      let taken = waiting
      waiting.removeAll(keepingCapacity: false)
      return taken
    }
  }
}
