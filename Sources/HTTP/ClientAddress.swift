/// The address of a client: IPv6, or IPv4 in its mapped form. Values only; sockets are the IO module's.
public struct ClientAddress: Hashable, Sendable {
  /// The first eight octets of the IPv6 form, in network order.
  public let high: UInt64
  /// The last eight.
  public let low: UInt64

  /// Makes an address of the two halves of its IPv6 form.
  @inlinable
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Makes the mapped form of an IPv4 address, given as a number (127.0.0.1 is 0x7F000001).
  @inlinable
  public init(ipv4: UInt32) {
    self.init(high: 0, low: 0xFFFF_0000_0000 | UInt64(ipv4))
  }

  /// Stands for a peer without an address, as on a Unix socket.
  public static let none = ClientAddress(high: 0, low: 0)

  /// Reads 4 or 16 octets in network order; nothing for another count.
  public init?(octets: UnsafeRawBufferPointer) {
    switch octets.count {
    case 4:
      var address: UInt32 = 0
      for octet in octets { address = address << 8 | UInt32(octet) }
      self.init(ipv4: address)
    case 16:
      var high: UInt64 = 0
      var low: UInt64 = 0
      for octet in octets[..<8] { high = high << 8 | UInt64(octet) }
      for octet in octets[8...] { low = low << 8 | UInt64(octet) }
      self.init(high: high, low: low)
    default: return nil
    }
  }

  /// Tells whether the address is an IPv4 one.
  @inlinable public var isIPv4: Bool { high == 0 && low >> 32 == 0xFFFF }

  /// The IPv4 address as a number, when it is one.
  @inlinable public var ipv4: UInt32? { isIPv4 ? UInt32(truncatingIfNeeded: low) : nil }

  /// Tells whether the address is of the machine itself (127.0.0.0/8, ::1).
  public var isLoopback: Bool { isIPv4 ? low >> 24 & 0xFF == 127 : high == 0 && low == 1 }

  /// What limits count by: the IPv4 address, or the /64 that one IPv6 customer has.
  @inlinable public var limitKey: ClientAddress { isIPv4 ? self : ClientAddress(high: high, low: 0) }

  /// The sixteen octets of the IPv6 form.
  public var octets: [UInt8] {
    var octets: [UInt8] = []
    octets.reserveCapacity(16)
    for shift in stride(from: 56, through: 0, by: -8) { octets.append(UInt8(truncatingIfNeeded: high >> UInt64(shift))) }
    for shift in stride(from: 56, through: 0, by: -8) { octets.append(UInt8(truncatingIfNeeded: low >> UInt64(shift))) }
    return octets
  }
}

// MARK: Text

extension ClientAddress {
  /// Reads the text of an IPv4 address, or of an IPv6 address without brackets and zone.
  public init?(_ text: String) {
    var text = text
    guard let address = text.withUTF8({ ClientAddress(text: UnsafeRawBufferPointer($0)) }) else { return nil }
    self = address
  }

  /// Reads the text of an IPv4 address, or of an IPv6 address without brackets and zone.
  public init?(text: UnsafeRawBufferPointer) {
    let octets = text.bytes
    self.init(text: octets, 0..<octets.byteCount)
  }

  init?(text octets: RawSpan, _ range: Range<Int>) {
    for index in range where octets.octet(index) == UInt8(ascii: ":") {
      self.init(ipv6Text: octets, range)
      return
    }
    guard let address = Self.ipv4(octets, range) else { return nil }
    self.init(ipv4: address)
  }

  /// Reads four decimal numbers; leading zeros, which some read as octal, are refused.
  private static func ipv4(_ octets: RawSpan, _ range: Range<Int>) -> UInt32? {
    var address: UInt32 = 0
    var parts = 0
    var index = range.lowerBound
    while index < range.upperBound {
      var value: UInt32 = 0
      let start = index
      while index < range.upperBound, octets.octet(index).isDigit, index - start < 3 {
        value = value * 10 + UInt32(octets.octet(index) - 0x30)
        index += 1
      }
      guard index > start, value <= 255, index - start == 1 || octets.octet(start) != 0x30 else { return nil }
      address = address << 8 | value
      parts += 1
      if parts == 4 { return index == range.upperBound ? address : nil }
      guard index < range.upperBound, octets.octet(index) == UInt8(ascii: ".") else { return nil }
      index += 1
    }
    return nil
  }

  /// Reads the forms of RFC 4291 section 2.2.
  init?(ipv6Text octets: RawSpan, _ range: Range<Int>) {
    var groups = InlineArray<8, UInt16>(repeating: 0)
    var count = 0
    var gap: Int?
    var index = range.lowerBound
    let end = range.upperBound
    if index + 1 < end, octets.octet(index) == UInt8(ascii: ":"), octets.octet(index + 1) == UInt8(ascii: ":") {
      gap = 0
      index += 2
    }
    while index < end {
      guard count < 8 else { return nil }
      let start = index
      var value: UInt16 = 0
      while index < end, index - start < 4, let digit = octets.octet(index).hexadecimalValue {
        value = value << 4 | UInt16(digit)
        index += 1
      }
      guard index > start else { return nil }
      if index < end, octets.octet(index) == UInt8(ascii: ".") {
        guard count <= 6, let address = Self.ipv4(octets, start..<end) else { return nil }
        groups[count] = UInt16(truncatingIfNeeded: address >> 16)
        groups[count + 1] = UInt16(truncatingIfNeeded: address)
        count += 2
        break
      }
      groups[count] = value
      count += 1
      guard index < end else { break }
      guard octets.octet(index) == UInt8(ascii: ":"), index + 1 < end else { return nil }
      index += 1
      if octets.octet(index) == UInt8(ascii: ":") {
        guard gap == nil else { return nil }
        gap = count
        index += 1
      }
    }
    self.init(groups, count: count, gap: gap)
  }

  /// Puts the groups before and behind the gap at their places; a gap stands for one group at least.
  private init?(_ groups: InlineArray<8, UInt16>, count: Int, gap: Int?) {
    guard gap == nil ? count == 8 : count < 8 else { return nil }
    let head = gap ?? 8
    var high: UInt64 = 0
    var low: UInt64 = 0
    for place in 0..<8 {
      let group: UInt16
      if place < head {
        group = groups[place]
      } else {
        let source = place - (8 - count)
        group = source >= head ? groups[source] : 0
      }
      if place < 4 { high = high << 16 | UInt64(group) } else { low = low << 16 | UInt64(group) }
    }
    self.init(high: high, low: low)
  }
}
