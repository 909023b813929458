import Bytes

/// Finds the client's address behind trusted proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).
public enum Forwarded {
  /// Elements that are looked at, from the nearest proxy on.
  public static let hopLimit = 32

  /// Gives the nearest address that is not a trusted proxy's.
  ///
  /// A peer that is not trusted is the client, whatever it says. An element that is no address ends the walk at the
  /// proxy that wrote it. Proxies that set one of the two fields often let a client's own other one pass; where both
  /// occur and disagree, neither is believed and the peer counts.
  public static func client(
    peer: ClientAddress, head: borrowing RequestHead, octets: UnsafeRawBufferPointer, trusted: [CIDR]
  ) -> ClientAddress {
    guard head.has(.xForwardedFor) || head.has(.forwarded), isTrusted(peer, trusted) else { return peer }
    switch (head.has(.xForwardedFor), head.has(.forwarded)) {
    case (true, false): return walk(.xForwardedFor, peer, head, octets, trusted)
    case (false, _): return walk(.forwarded, peer, head, octets, trusted)
    case (true, true):
      let client = walk(.xForwardedFor, peer, head, octets, trusted)
      return client == walk(.forwarded, peer, head, octets, trusted) ? client : peer
    }
  }

  /// Tells whether one of the blocks has the address.
  public static func isTrusted(_ address: ClientAddress, _ trusted: [CIDR]) -> Bool {
    for block in trusted where block.contains(address) { return true }
    return false
  }

  /// Walks over the elements of all lines from the right.
  private static func walk(
    _ name: FieldName, _ peer: ClientAddress, _ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer,
    _ trusted: [CIDR]
  ) -> ClientAddress {
    let span = octets.bytes
    var current = peer
    var hops = 0
    var line = head.section.fields.count
    while line > 0 {
      line -= 1
      let field = head.section.fields[line]
      guard field.name == name else { continue }
      var end = field.valueRange.upperBound
      while end > field.valueRange.lowerBound {
        let start = startOfElement(span, field.valueRange.lowerBound..<end)
        let element = span.trimmed(start..<end)
        end = start - 1
        guard !element.isEmpty else { continue }
        hops += 1
        guard hops <= hopLimit, let address = address(span, element, name) else { return current }
        current = address
        guard isTrusted(address, trusted) else { return current }
      }
    }
    return current
  }

  /// Finds where the last element of a list begins, commas in quoted strings left alone.
  private static func startOfElement(_ octets: RawSpan, _ range: Range<Int>) -> Int {
    var isQuoted = false
    var index = range.upperBound
    while index > range.lowerBound {
      let octet = octets.octet(index - 1)
      if octet == UInt8(ascii: "\"") { isQuoted.toggle() }
      if octet == UInt8(ascii: ","), !isQuoted { return index }
      index -= 1
    }
    return index
  }

  private static func address(_ octets: RawSpan, _ element: Range<Int>, _ name: FieldName) -> ClientAddress? {
    if name == .xForwardedFor { return node(octets, element) }
    guard let value = forValue(octets, element) else { return nil }
    return node(octets, value)
  }

  /// Finds the value of `for=` in one element; nothing where it occurs twice or an escape makes quotes uncertain.
  private static func forValue(_ octets: RawSpan, _ element: Range<Int>) -> Range<Int>? {
    for index in element where octets.octet(index) == UInt8(ascii: "\\") { return nil }
    var found: Range<Int>?
    var start = element.lowerBound
    while start < element.upperBound {
      var isQuoted = false
      var end = start
      while end < element.upperBound, isQuoted || octets.octet(end) != UInt8(ascii: ";") {
        if octets.octet(end) == UInt8(ascii: "\"") { isQuoted.toggle() }
        end += 1
      }
      let pair = octets.trimmed(start..<end)
      start = end + 1
      guard pair.count > 4, octets.equalsIgnoringCase("for", at: pair.lowerBound, count: 3),
        octets.octet(pair.lowerBound + 3) == UInt8(ascii: "=")
      else { continue }
      guard found == nil else { return nil }
      found = unquoted(octets, pair.lowerBound + 4..<pair.upperBound)
      if found == nil { return nil }
    }
    return found
  }

  private static func unquoted(_ octets: RawSpan, _ value: Range<Int>) -> Range<Int>? {
    guard octets.octet(value.lowerBound) == UInt8(ascii: "\"") else { return value }
    guard value.count >= 2, octets.octet(value.upperBound - 1) == UInt8(ascii: "\"") else { return nil }
    return value.lowerBound + 1..<value.upperBound - 1
  }

  /// Reads an address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`.
  private static func node(_ octets: RawSpan, _ range: Range<Int>) -> ClientAddress? {
    guard !range.isEmpty else { return nil }
    if octets.octet(range.lowerBound) == UInt8(ascii: "[") {
      var end = range.lowerBound + 1
      while end < range.upperBound, octets.octet(end) != UInt8(ascii: "]") { end += 1 }
      guard end < range.upperBound, isPort(octets, end + 1..<range.upperBound) else { return nil }
      return ClientAddress(ipv6Text: octets, range.lowerBound + 1..<end)
    }
    if let address = ClientAddress(text: octets, range) { return address }
    var end = range.lowerBound
    while end < range.upperBound, octets.octet(end) != UInt8(ascii: ":") { end += 1 }
    guard end < range.upperBound, isPort(octets, end..<range.upperBound) else { return nil }
    return ClientAddress(text: octets, range.lowerBound..<end)
  }

  /// Recognises nothing, or a colon and up to five digits.
  private static func isPort(_ octets: RawSpan, _ range: Range<Int>) -> Bool {
    guard let first = range.first else { return true }
    guard octets.octet(first) == UInt8(ascii: ":"), (2...6).contains(range.count) else { return false }
    for index in range.dropFirst() where !octets.octet(index).isDigit { return false }
    return true
  }
}
