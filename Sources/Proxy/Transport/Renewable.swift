import Synchronization

/// Holds a value that another thread may replace: whoever reads it keeps what it has got.
final class Renewable<Value: Sendable>: Sendable {
  private let value: Mutex<Value>

  init(_ value: Value) { self.value = Mutex(value) }

  /// The newest value.
  var current: Value { value.withLock { $0 } }

  func replace(_ new: Value) { value.withLock { $0 = new } }
}
