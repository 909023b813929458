public import Bytes
import Glibc

/// The kinds of stored records. Raw values are the file format.
public enum RecordKind: UInt8, Sendable, CaseIterable {
  case meta = 0, currency, wallet, merchant, session, balance, hold, claim, charge, closed, outcome, reference, volume, payment, sender, outgoing, channel, voucher
  case promise = 40
}

/// A record's key: at most 32 octets, padded, so that it hashes and compares without memory of its own.
public struct RecordKey: Sendable, Hashable {
  public let kind: RecordKind
  public let digest: Digest32

  init(_ kind: RecordKind, _ digest: Digest32) {
    self.kind = kind
    self.digest = digest
  }

  /// A key made of a number: its eight octets, big-endian, then zeros, so that keys sort by number.
  init(_ kind: RecordKind, number: UInt64) {
    var digest = Digest32()
    digest.withUnsafeMutableBytes { octets in
      for index in 0..<8 { octets[index] = UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64(index))) }
    }
    self.init(kind, digest)
  }
}

/// The redo of a batch: the new image of every record that it changed, one behind another.
///
/// Each is kind (1 octet), length of the image (4, little-endian; `removed` for a record that is gone), key (32), image.
enum Redo {
  static let removed: UInt32 = .max
  static let headerCount = 37

  /// Walks through a redo; the image is nil where the record is gone.
  static func forEach(
    in octets: UnsafeRawBufferPointer, _ body: (RecordKey, UnsafeRawBufferPointer?) throws(LedgerError) -> Void
  ) throws(LedgerError) {
    var offset = 0
    while offset < octets.count {
      guard octets.count - offset >= headerCount, let kind = RecordKind(rawValue: octets[offset]) else { throw .malformed(.meta) }
      let count = UInt32(littleEndian: octets.loadUnaligned(fromByteOffset: offset + 1, as: UInt32.self))
      let key = RecordKey(kind, Digest32(UnsafeRawBufferPointer(rebasing: octets[(offset + 5)..<(offset + headerCount)])))
      offset += headerCount
      if count == removed {
        try body(key, nil)
      } else {
        guard octets.count - offset >= Int(count) else { throw .malformed(kind) }
        try body(key, UnsafeRawBufferPointer(rebasing: octets[offset..<(offset + Int(count))]))
        offset += Int(count)
      }
    }
  }
}

extension ByteBuffer {
  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    // Safe because: the pointer covers exactly the integer's octets and does not leave the closure.
    Swift.withUnsafeBytes(of: value.littleEndian) { append($0) }
  }

  mutating func put(_ digest: Digest32) {
    digest.withUnsafeBytes { append($0) }
  }

  mutating func put(_ octets: [UInt8]) {
    put(UInt32(octets.count))
    append(octets)
  }

  mutating func put(_ text: String) {
    put(UInt32(text.utf8.count))
    append(text)
  }

  mutating func put<Value>(optional value: Value?, _ body: (inout ByteBuffer, Value) -> Void) {
    put(UInt8(value == nil ? 0 : 1))
    if let value { body(&self, value) }
  }

  /// Starts a record's image; returns the place of its length.
  mutating func beginRecord(_ key: RecordKey) -> Int {
    put(key.kind.rawValue)
    let place = count
    put(UInt32(0))
    put(key.digest)
    return place
  }

  /// Ends the image that was begun at `place`.
  mutating func endRecord(_ place: Int) {
    let length = UInt32(count - place - 36).littleEndian
    // Safe because: the four octets were appended by `beginRecord`.
    Swift.withUnsafeBytes(of: length) { overwrite(at: place, with: $0) }
  }

  /// Says that a record is gone.
  mutating func removeRecord(_ key: RecordKey) {
    put(key.kind.rawValue)
    put(Redo.removed)
    put(key.digest)
  }
}

/// Reads a record's image back; whatever does not fit is an error, never a trap.
struct RecordReader {
  private let octets: UnsafeRawBufferPointer
  private let kind: RecordKind
  private var offset = 0

  init(_ octets: UnsafeRawBufferPointer, kind: RecordKind) {
    self.octets = octets
    self.kind = kind
  }

  mutating func integer<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(LedgerError) -> Value {
    let size = Value.bitWidth / 8
    guard octets.count - offset >= size else { throw .malformed(kind) }
    defer { offset += size }
    return Value(littleEndian: octets.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  mutating func digest() throws(LedgerError) -> Digest32 {
    Digest32(try take(32))
  }

  mutating func bytes() throws(LedgerError) -> [UInt8] {
    [UInt8](try take(Int(try integer(UInt32.self))))
  }

  mutating func string() throws(LedgerError) -> String {
    guard let text = String(validating: try take(Int(try integer(UInt32.self))), as: UTF8.self) else { throw .malformed(kind) }
    return text
  }

  mutating func bool() throws(LedgerError) -> Bool {
    switch try integer(UInt8.self) {
    case 0: false
    case 1: true
    default: throw .malformed(kind)
    }
  }

  mutating func optional<Value>(_ body: (inout RecordReader) throws(LedgerError) -> Value) throws(LedgerError) -> Value? {
    try bool() ? try body(&self) : nil
  }

  mutating func array<Value>(_ body: (inout RecordReader) throws(LedgerError) -> Value) throws(LedgerError) -> [Value] {
    try array(count: try integer(), body)
  }

  /// Reads values of which it is known how many there are.
  mutating func array<Value>(
    count: UInt32, _ body: (inout RecordReader) throws(LedgerError) -> Value
  ) throws(LedgerError) -> [Value] {
    var values: [Value] = []
    for _ in 0..<count { values.append(try body(&self)) }
    return values
  }

  /// Passes `known` over where it comes next.
  mutating func skip(_ known: [UInt8]) -> Bool {
    guard octets.count - offset >= known.count, let start = octets.baseAddress else { return false }
    // Safe because: both hold `known.count` octets from where they are compared.
    guard known.withUnsafeBytes({ $0.baseAddress.map { memcmp($0, start + offset, known.count) == 0 } ?? true }) else { return false }
    offset += known.count
    return true
  }

  /// Gives what was read since `start`, an earlier state of the same reader.
  func octets(since start: RecordReader) -> [UInt8] { [UInt8](octets[start.offset..<offset]) }

  /// Whether nothing is left to be read.
  var isAtEnd: Bool { offset == octets.count }

  /// Refuses an image with octets left over.
  func end() throws(LedgerError) {
    guard offset == octets.count else { throw .malformed(kind) }
  }

  private mutating func take(_ count: Int) throws(LedgerError) -> UnsafeRawBufferPointer {
    guard octets.count - offset >= count else { throw .malformed(kind) }
    defer { offset += count }
    return UnsafeRawBufferPointer(rebasing: octets[offset..<(offset + count)])
  }
}

extension [UInt8] {
  /// Lends the octets to a closure with a typed error, which `withUnsafeBytes` does not know.
  func lend<Value>(_ body: (UnsafeRawBufferPointer) throws(LedgerError) -> Value) throws(LedgerError) -> Value {
    let result = withUnsafeBytes { raw -> Result<Value, LedgerError> in
      do throws(LedgerError) { return .success(try body(raw)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}
