import Bytes

/// What an upstream grants to caches that serve many clients, which a response that was paid for must not carry.
enum SharedCaching {
  /// The names among which those are that speak to such caches.
  static let names = FieldSet([.other, .cacheControl])
  /// Fields of which nothing is left (RFC 9213 section 3.1; Surrogate-Control as caches take it).
  private static let targeted: [StaticString] = ["surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control", "x-accel-expires"]
  private static let targetedEnd: StaticString = "-cache-control"
  private static let directives: [StaticString] = ["public", "s-maxage"]

  /// Whether a field grants something to them.
  static func grants(_ name: FieldName, _ octets: RawSpan, _ range: Range<Int>, _ value: UnsafeRawBufferPointer) -> Bool {
    switch name {
    case .cacheControl: return hasGrant(value)
    case .other:
      let end = targetedEnd.utf8CodeUnitCount
      if range.count > end, octets.equalsIgnoringCase(targetedEnd, at: range.upperBound - end, count: end) { return true }
      return targeted.contains { $0.utf8CodeUnitCount == range.count && octets.equalsIgnoringCase($0, at: range.lowerBound, count: range.count) }
    default: return false
    }
  }

  private static func hasGrant(_ value: UnsafeRawBufferPointer) -> Bool {
    var found = false
    forEachDirective(value) { if isGrant($0) { found = true } }
    return found
  }

  /// Appends a line of the directives that are no grants, where one of the value's is and others are left.
  static func append(withoutGrants value: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    guard hasGrant(value) else { return }
    var isFirst = true
    forEachDirective(value) { directive in
      guard !isGrant(directive) else { return }
      if isFirst { output.append("Cache-Control: ") } else { output.append(", ") }
      output.append(directive)
      isFirst = false
    }
    if !isFirst { output.append("\r\n") }
  }

  private static func isGrant(_ directive: UnsafeRawBufferPointer) -> Bool {
    let span = directive.bytes
    return directives.contains { name in
      let count = name.utf8CodeUnitCount
      guard directive.count >= count, span.equalsIgnoringCase(name, at: 0, count: count) else { return false }
      return directive.count == count || directive[count] == UInt8(ascii: "=") || directive[count] == UInt8(ascii: " ")
    }
  }

  /// Walks through a list whose elements may hold quoted commas.
  private static func forEachDirective(_ value: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var start = 0
    var isQuoted = false
    var index = 0
    while index <= value.count {
      let isEnd = index == value.count
      if !isEnd, isQuoted, value[index] == UInt8(ascii: "\\") {
        index = min(index + 2, value.count)
        continue
      }
      if !isEnd, value[index] == UInt8(ascii: "\"") { isQuoted.toggle() }
      if isEnd || (value[index] == UInt8(ascii: ",") && !isQuoted) {
        var range = start..<index
        while let first = range.first, value[first] == 0x20 || value[first] == 0x09 { range = (first + 1)..<range.upperBound }
        while let last = range.last, value[last] == 0x20 || value[last] == 0x09 { range = range.lowerBound..<last }
        if !range.isEmpty { body(UnsafeRawBufferPointer(rebasing: value[range])) }
        start = index + 1
      }
      index += 1
    }
  }
}
