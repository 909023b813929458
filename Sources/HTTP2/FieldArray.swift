import Bytes
import CNghttp2
import HTTP

/// The fields of one outgoing header block, as nghttp2 takes them. The octets stay with the caller, and nghttp2 copies them.
struct FieldArray: ~Copyable {
  private(set) var fields: UnsafeMutablePointer<nghttp2_nv>
  private(set) var count = 0
  private var capacity = 32

  /// Names that have no meaning in HTTP/2 (RFC 9113 section 8.2.2); `TE` stays where it says trailers, `Host` becomes `:authority`.
  private static let dropped = FieldSet([
    .connection, .keepAlive, .proxyConnection, .transferEncoding, .upgrade, .http2Settings, .host,
  ])

  /// Fields that are credentials or differ each time: they are neither indexed here nor by anybody behind (RFC 7541 section 6.2.3).
  private static let neverIndexed: FieldSet = [
    .payment, FieldSet([.authorization, .proxyAuthorization, .idempotencyKey, .contentDigest]),
  ]

  init() {
    // Safe because: the array is the only owner, and only the first `count` elements are read.
    fields = .allocate(capacity: capacity)
  }

  deinit {
    // Safe because: the elements are trivial.
    fields.deallocate()
  }

  private mutating func add(
    _ name: UnsafeRawPointer?, _ nameCount: Int, _ value: UnsafeRawPointer?, _ valueCount: Int, _ flags: UInt8
  ) {
    if count == capacity { grow() }
    // Safe because: there is room; nghttp2 does not write through the pointers, whatever their type says.
    (fields + count).initialize(
      to: nghttp2_nv(
        name: UnsafeMutablePointer(mutating: name?.assumingMemoryBound(to: UInt8.self)),
        value: UnsafeMutablePointer(mutating: value?.assumingMemoryBound(to: UInt8.self)),
        namelen: nameCount, valuelen: valueCount, flags: flags))
    count += 1
  }

  private mutating func grow() {
    // Safe because: the elements are trivial, and the old storage is forgotten at once.
    let larger = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: capacity * 2)
    larger.moveInitialize(from: fields, count: count)
    fields.deallocate()
    fields = larger
    capacity *= 2
  }

  private mutating func add(_ name: StaticString, _ value: UnsafeRawBufferPointer) {
    add(name.utf8Start, name.utf8CodeUnitCount, value.baseAddress, value.count, UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue))
  }

  private mutating func add(_ name: StaticString, _ value: StaticString) {
    let flags = NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue
    add(name.utf8Start, name.utf8CodeUnitCount, value.utf8Start, value.utf8CodeUnitCount, UInt8(flags))
  }

  // MARK: Heads

  /// Takes a response's head; `isTunnel` makes 200 of 101.
  mutating func readResponse(_ head: UnsafeRawBufferPointer, isTunnel: Bool) throws(HTTP2Error) -> UInt16 {
    count = 0
    guard head.count > 13, isEqual(UnsafeRawBufferPointer(rebasing: head[..<7]), "HTTP/1.") else { throw .headInvalid(at: 0) }
    var status: UInt16 = 0
    for index in 9..<12 {
      guard head[index] &- 0x30 < 10 else { throw .headInvalid(at: index) }
      status = status &* 10 &+ UInt16(head[index] &- 0x30)
    }
    if status == 101 {
      guard isTunnel else { throw .headInvalid(at: 9) }
      add(":status", "200")
    } else {
      add(":status", UnsafeRawBufferPointer(rebasing: head[9..<12]))
    }
    guard let lineEnd = Self.find(0x0A, head, from: 12) else { throw .headInvalid(at: 12) }
    try readLines(head, from: lineEnd + 1)
    return status
  }

  /// Takes a request's head. `GET` with `Upgrade` becomes an extended CONNECT; its protocol is appended to `protocolName`.
  mutating func readRequest(
    _ head: UnsafeRawBufferPointer, isSecure: Bool, protocolName: inout ByteBuffer
  ) throws(HTTP2Error) {
    count = 0
    guard let methodEnd = Self.find(0x20, head, from: 0), let targetEnd = Self.find(0x20, head, from: methodEnd + 1),
      let lineEnd = Self.find(0x0A, head, from: targetEnd)
    else { throw .headInvalid(at: 0) }
    let upgrade = Self.value(of: .upgrade, head, from: lineEnd + 1)
    if let upgrade {
      protocolName.append(upgrade)
      add(":method", "CONNECT")
      add(":protocol", upgrade)
    } else {
      add(":method", UnsafeRawBufferPointer(rebasing: head[..<methodEnd]))
    }
    add(":scheme", isSecure ? "https" : "http")
    if let host = Self.value(of: .host, head, from: lineEnd + 1) { add(":authority", host) }
    add(":path", UnsafeRawBufferPointer(rebasing: head[methodEnd + 1..<targetEnd]))
    try readLines(head, from: lineEnd + 1)
  }

  /// Takes trailer lines, which may end in an empty one.
  mutating func readTrailers(_ lines: UnsafeRawBufferPointer) throws(HTTP2Error) {
    count = 0
    try readLines(lines, from: 0)
  }

  // MARK: Lines

  private mutating func readLines(_ head: UnsafeRawBufferPointer, from start: Int) throws(HTTP2Error) {
    var index = start
    while index < head.count, head[index] != 0x0D {
      guard let colon = Self.find(0x3A, head, from: index), let lineFeed = Self.find(0x0A, head, from: colon),
        head[lineFeed - 1] == 0x0D, let name = FieldName(bytes: UnsafeRawBufferPointer(rebasing: head[index..<colon]))
      else { throw .headInvalid(at: index) }
      let value = Self.trimmed(head, colon + 1, lineFeed - 1)
      if !Self.dropped.has(name) {
        add(head.baseAddress.map { $0 + index }, colon - index, value.baseAddress, value.count, Self.flags(name, head[index..<colon]), as: name)
      }
      index = lineFeed + 1
    }
  }

  /// Adds a field that keeps its own name.
  @inline(__always)
  private mutating func add(
    _ name: UnsafeRawPointer?, _ nameCount: Int, _ value: UnsafeRawPointer?, _ valueCount: Int, _ flags: UInt8, as known: FieldName
  ) {
    if known == .te {
      guard isEqual(UnsafeRawBufferPointer(start: value, count: valueCount), "trailers") else { return }
    }
    add(name, nameCount, value, valueCount, flags)
  }

  /// Cookies are secrets as well, and their names are not in the table.
  @inline(__always)
  private static func flags(_ known: FieldName, _ name: Slice<UnsafeRawBufferPointer>) -> UInt8 {
    if neverIndexed.has(known) { return UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue) }
    guard known == .other, name.count == 6 || name.count == 10, let last = name.last, last | 0x20 == UInt8(ascii: "e"),
      name[name.startIndex + name.count - 6] | 0x20 == UInt8(ascii: "c"), name[name.startIndex + name.count - 3] | 0x20 == UInt8(ascii: "k")
    else { return 0 }
    return UInt8(NGHTTP2_NV_FLAG_NO_INDEX.rawValue)
  }

  /// Finds the first field of a name.
  private static func value(of name: FieldName, _ head: UnsafeRawBufferPointer, from start: Int) -> UnsafeRawBufferPointer? {
    var index = start
    while index < head.count, head[index] != 0x0D {
      guard let colon = find(0x3A, head, from: index), let lineFeed = find(0x0A, head, from: colon) else { return nil }
      if FieldName(bytes: UnsafeRawBufferPointer(rebasing: head[index..<colon])) == name {
        return trimmed(head, colon + 1, lineFeed - 1)
      }
      index = lineFeed + 1
    }
    return nil
  }

  @inline(__always)
  private static func trimmed(_ head: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
    var start = start
    var end = end
    while start < end, head[start] == 0x20 || head[start] == 0x09 { start += 1 }
    while end > start, head[end - 1] == 0x20 || head[end - 1] == 0x09 { end -= 1 }
    return UnsafeRawBufferPointer(rebasing: head[start..<end])
  }

  @inline(__always)
  private static func find(_ octet: Int32, _ octets: UnsafeRawBufferPointer, from start: Int) -> Int? {
    guard start < octets.count, let base = octets.baseAddress, let found = memchr(base + start, octet, octets.count - start) else { return nil }
    // Safe because: memchr answers with a pointer into the octets it was given.
    return UnsafeRawPointer(found) - base
  }
}
