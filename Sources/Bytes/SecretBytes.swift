import Glibc

/// Holds octets that must not be seen: they are erased when the last owner lets go, and never printed.
public struct SecretBytes: Sendable {
  private let storage: Storage

  /// Copies octets; the caller erases his own copy where that matters.
  public init(_ octets: [UInt8]) {
    storage = octets.withUnsafeBytes { source in Storage(count: source.count) { $0.copyMemory(from: source) } }
  }

  /// Copies octets; the caller erases his own copy where that matters.
  public init(_ octets: UnsafeRawBufferPointer) {
    storage = Storage(count: octets.count) { $0.copyMemory(from: octets) }
  }

  /// Makes `count` zero octets and lets `body` fill them in place, so that no other copy exists.
  ///
  /// - Precondition: `count` is not negative.
  public init(count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
    storage = Storage(count: count, body)
  }

  /// The number of octets.
  public var count: Int { storage.octets.count }

  /// Calls `body` with the octets; the pointer ends with the call.
  public func withUnsafeBytes<R: ~Copyable, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    // Safe because: the storage lives as long as self, and nobody writes to it any more.
    try body(UnsafeRawBufferPointer(storage.octets))
  }

  // Safe because: the octets are written in init only; after that they are read, and freed by the last owner.
  private final class Storage: @unchecked Sendable {
    let octets: UnsafeMutableRawBufferPointer

    init(count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Void) {
      octets = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
      octets.initializeMemory(as: UInt8.self, repeating: 0)
      body(octets)
    }

    deinit {
      if let base = octets.baseAddress { explicit_bzero(base, octets.count) }
      octets.deallocate()
    }
  }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// A fixed word in the place of the octets.
  public var description: String { "<secret>" }
  /// A fixed word in the place of the octets.
  public var debugDescription: String { "<secret>" }
  /// A mirror without children.
  public var customMirror: Mirror { Mirror(self, children: [:]) }
}
