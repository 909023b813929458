import Bytes
import CNghttp2
import HTTP

/// Writes the header block that is being received as HTTP/1.1 octets, and checks what nghttp2 does not
/// (RFC 9113 section 8): the agreement of `:authority` and `host`, the grammar of `:authority` and `:path`, schemes, CONNECT.
///
/// nghttp2 has refused before: upper case, names and values outside the grammar, connection-specific fields, `te` other than
/// trailers, pseudo-header fields that are unknown, repeated, missing, late or in trailers, and lengths that disagree.
struct HeaderBlockReader: ~Copyable {
  enum Kind: UInt8 { case none, request, response, trailers }

  /// Says how the block of a message ended.
  enum Verdict { case accepted, malformed, tooLarge }

  private(set) var kind = Kind.none
  /// The stream's place.
  private(set) var place: UInt32 = .max
  /// Where in the arena the block starts.
  private(set) var start = 0
  /// Complete and unread heads, then the block that is being received.
  private(set) var arena = ByteBuffer()
  /// Tells whether the request is an extended CONNECT.
  private(set) var isTunnel = false
  /// The response's status.
  private(set) var status: UInt16 = 0

  /// Octets of the header list, as RFC 9113 section 6.5.2 counts.
  private var listCount = 0
  private var trailerCount = 0
  private var hasStartLine = false
  private var isAsked = false
  /// Values of pseudo-header fields, until the request line can be written.
  private var pseudo = ByteBuffer()
  private var method = 0..<0
  private var path = 0..<0
  private var authority = 0..<0
  private var scheme = 0..<0
  private var protocolName = 0..<0
  /// Cookie crumbs, joined (RFC 9113 section 8.2.3).
  private var cookies = ByteBuffer()

  init() {}

  /// Forgets the heads that were read, and keeps the block that is being received.
  mutating func forgetHeads() {
    guard kind != .none else { return arena.removeAll() }
    arena.removeFirst(start)
    start = 0
  }

  /// Gives back what an idle session does not need.
  mutating func release() {
    guard kind == .none else { return }
    arena.release()
    pseudo.release()
    cookies.release()
  }

  /// Begins a block. For a response, `isAsked` tells that the request was an extended CONNECT.
  mutating func begin(_ kind: Kind, place: UInt32, isAsked: Bool = false) {
    if self.kind != .none { abandon() }
    self.kind = kind
    self.place = place
    self.isAsked = isAsked
    start = arena.count
    listCount = 0
    trailerCount = 0
    hasStartLine = kind == .trailers
    isTunnel = false
    status = 0
    guard kind == .request else { return }
    pseudo.removeAll()
    cookies.removeAll()
    method = 0..<0
    path = 0..<0
    authority = 0..<0
    scheme = 0..<0
    protocolName = 0..<0
  }

  /// Drops the block.
  mutating func abandon() {
    arena.truncate(to: start)
    kind = .none
    place = .max
  }

  /// Ends the block and tells where it stands in the arena.
  mutating func finish() -> Range<Int> {
    kind = .none
    place = .max
    return start..<arena.count
  }

  /// Takes a field.
  @inline(__always)
  mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ limits: HTTP2Limits) -> Verdict {
    listCount &+= name.count &+ value.count &+ 32
    guard listCount <= limits.headerBlock else { return .tooLarge }
    switch kind {
    case .none: return .accepted
    case .request: return addToRequest(name, value, limits)
    case .response:
      if name[0] == UInt8(ascii: ":") { return startResponse(value) }
      append(name, value, limits.head)
      return .accepted
    case .trailers: return addTrailer(name, value, limits)
    }
  }

  /// Ends a head with what the decoder needs to see its end.
  mutating func complete(_ limits: HTTP2Limits) -> Verdict {
    switch kind {
    case .none, .trailers: return .accepted
    case .request:
      if !hasStartLine { guard startRequest() == .accepted else { return .malformed } }
      if !cookies.isEmpty {
        let count = cookies.count
        appendLine("cookie", count: count, limits.head)
      }
    case .response: guard hasStartLine else { return .malformed }
    }
    if arena.count &- start <= limits.head { arena.append("\r\n") }
    return .accepted
  }

  /// Appends the field that a 101 has and the 200 of an extended CONNECT has not.
  mutating func append(upgrade protocolName: borrowing ByteBuffer) {
    arena.append("upgrade: ")
    arena.append(protocolName)
    arena.append("\r\n")
  }

  // MARK: Requests

  @inline(__always)
  private mutating func addToRequest(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ limits: HTTP2Limits
  ) -> Verdict {
    if name[0] == UInt8(ascii: ":") { return addPseudo(name, value, limits) }
    if !hasStartLine { guard startRequest() == .accepted else { return .malformed } }
    switch name.count {
    case 4 where isEqual(name, "host"):
      guard !authority.isEmpty else {
        guard Authority.isValid(value) else { return .malformed }
        break
      }
      // The authority is what HTTP/1.1's Host says; two that differ would be two receivers.
      return isAuthority(value) ? .accepted : .malformed
    case 6 where isEqual(name, "cookie"):
      if !cookies.isEmpty { cookies.append("; ") }
      if cookies.count <= limits.head { cookies.append(value) }
      return .accepted
    default: break
    }
    append(name, value, limits.head)
    return .accepted
  }

  private mutating func addPseudo(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ limits: HTTP2Limits
  ) -> Verdict {
    let from = pseudo.count
    // What is cut here is longer than any request line that is accepted.
    pseudo.append(UnsafeRawBufferPointer(rebasing: value[..<min(value.count, limits.head)]))
    let range = from..<pseudo.count
    switch (name.count, name[1]) {
    case (5, _): path = range
    case (7, UInt8(ascii: "m")): method = range
    case (7, _): scheme = range
    case (10, _): authority = range
    case (9, _): protocolName = range
    case (_, _): return .malformed
    }
    return .accepted
  }

  /// Writes the request line and Host, once all pseudo-header fields are here.
  private mutating func startRequest() -> Verdict {
    hasStartLine = true
    let (method, path, authority, scheme, protocolName) = (self.method, self.path, self.authority, self.scheme, self.protocolName)
    var arena = ByteBuffer()
    swap(&arena, &self.arena)
    defer { swap(&arena, &self.arena) }
    let connects = pseudo.withUnsafeBytes { isEqual(UnsafeRawBufferPointer(rebasing: $0[method]), "CONNECT") }
    isTunnel = connects && !protocolName.isEmpty
    let isTunnel = isTunnel
    return pseudo.withUnsafeBytes { octets in
      // A protocol's name is a token, as field names are.
      guard !isTunnel || FieldName(bytes: UnsafeRawBufferPointer(rebasing: octets[protocolName])) != nil else { return .malformed }
      let host = UnsafeRawBufferPointer(rebasing: octets[authority])
      guard authority.isEmpty || Authority.isValid(host) else { return .malformed }
      arena.reserve(octets.count &+ 256)
      if connects, !isTunnel {
        // The relay's decoder refuses it with the status that HTTP/1.1 gets.
        arena.append("CONNECT ")
        arena.append(host)
      } else {
        guard Self.isWeb(UnsafeRawBufferPointer(rebasing: octets[scheme])) else { return .malformed }
        let target = UnsafeRawBufferPointer(rebasing: octets[path])
        let verb = UnsafeRawBufferPointer(rebasing: octets[method])
        guard Self.isTarget(target, of: verb) else { return .malformed }
        if isTunnel { arena.append("GET") } else { arena.append(verb) }
        arena.append(byte: 0x20)
        arena.append(target)
      }
      arena.append(" HTTP/1.1\r\n")
      if !authority.isEmpty {
        arena.append("host: ")
        arena.append(host)
        arena.append("\r\n")
      }
      if isTunnel {
        arena.append("connection: upgrade\r\nupgrade: ")
        arena.append(UnsafeRawBufferPointer(rebasing: octets[protocolName]))
        arena.append("\r\n")
      }
      return .accepted
    }
  }

  private func isAuthority(_ host: UnsafeRawBufferPointer) -> Bool {
    let authority = authority
    guard host.count == authority.count else { return false }
    return pseudo.withUnsafeBytes { octets in
      for index in 0..<host.count where Self.lowered(host[index]) != Self.lowered(octets[authority.lowerBound + index]) {
        return false
      }
      return true
    }
  }

  private static func lowered(_ octet: UInt8) -> UInt8 { octet &- 0x41 < 26 ? octet | 0x20 : octet }

  private static func isWeb(_ scheme: UnsafeRawBufferPointer) -> Bool {
    guard scheme.count == 4 || scheme.count == 5 else { return false }
    let spelling: StaticString = "https"
    for index in 0..<scheme.count where lowered(scheme[index]) != spelling.utf8Start[index] { return false }
    return true
  }

  /// Tells whether the path is in origin-form, or `*` of OPTIONS, and visible ASCII throughout.
  private static func isTarget(_ path: UnsafeRawBufferPointer, of method: UnsafeRawBufferPointer) -> Bool {
    guard let first = path.first else { return false }
    if first == UInt8(ascii: "*") { return path.count == 1 && isEqual(method, "OPTIONS") }
    guard first == UInt8(ascii: "/") else { return false }
    for octet in path where octet &- 0x21 > 0x7E - 0x21 { return false }
    return true
  }

  // MARK: Responses and trailers

  private mutating func startResponse(_ value: UnsafeRawBufferPointer) -> Verdict {
    guard value.count == 3, !hasStartLine else { return .malformed }
    var status: UInt16 = 0
    for octet in value {
      guard octet &- 0x30 < 10 else { return .malformed }
      status = status &* 10 &+ UInt16(octet &- 0x30)
    }
    guard status >= 100, status != 101 else { return .malformed }
    hasStartLine = true
    self.status = status
    isTunnel = isAsked && (200..<300).contains(status)
    if isTunnel {
      arena.append("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n")
    } else {
      Status.appendLine(status, to: &arena)
    }
    return .accepted
  }

  private mutating func addTrailer(
    _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ limits: HTTP2Limits
  ) -> Verdict {
    trailerCount &+= 1
    guard trailerCount <= limits.trailerCount, listCount &- 28 &* trailerCount <= limits.trailers else { return .tooLarge }
    guard let known = FieldName(bytes: name) else { return .malformed }
    if Self.withheldTrailers.has(known) { return .accepted }
    append(name, value, limits.head)
    return .accepted
  }

  private static let withheldTrailers: FieldSet = [.forbiddenInTrailers, .payment]

  // MARK: Lines

  /// Appends a field line, unless the head is too large already.
  @inline(__always)
  private mutating func append(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ limit: Int) {
    guard arena.count &- start <= limit else { return }
    let count = name.count &+ value.count &+ 4
    arena.withUnsafeWritable(minimumCapacity: count) { free in
      free.copyMemory(from: name)
      free[name.count] = UInt8(ascii: ":")
      free[name.count &+ 1] = 0x20
      UnsafeMutableRawBufferPointer(rebasing: free[(name.count &+ 2)...]).copyMemory(from: value)
      free[count &- 2] = 0x0D
      free[count &- 1] = 0x0A
      return count
    }
  }

  private mutating func appendLine(_ name: StaticString, count: Int, _ limit: Int) {
    guard arena.count &- start <= limit else { return }
    arena.append(name)
    arena.append(": ")
    arena.append(cookies)
    arena.append("\r\n")
  }
}

/// Compares octets with a spelling.
@inline(__always)
func isEqual(_ octets: UnsafeRawBufferPointer, _ spelling: StaticString) -> Bool {
  // Safe because: a StaticString with a pointer representation holds utf8CodeUnitCount octets for ever.
  guard octets.count == spelling.utf8CodeUnitCount, let base = octets.baseAddress else { return false }
  return memcmp(base, spelling.utf8Start, octets.count) == 0
}
