extension JSONPassage {
  /// Takes the string's next run, up to an escape, its end, or the end of what has come.
  @inline(__always)
  mutating func string(_ octets: RawSpan, _ index: inout Int, _ end: Int) -> Event? {
    let first = index
    let last = OctetRun.endOfString(octets, from: first, before: end)
    index = last
    if last > first {
      count(last &- first)
      if highSurrogate != 0 { abandonSurrogate() }
    }
    guard last < end else {
      if captures { capture(octets, first, last) }
      return nil
    }
    switch octets.octet(last) {
    case UInt8(ascii: "\""):
      index &+= 1
      if isName {
        endName(octets, first, last)
        return nil
      }
      if highSurrogate != 0 { abandonSurrogate() }
      endValue()
      guard captures else { return nil }
      capture(octets, first, last)
      guard let field = reportedField else { return nil }
      return .text(field)
    case UInt8(ascii: "\\"):
      index &+= 1
      if captures { capture(octets, first, last) }
      isFresh = false
      state = .escape
      return nil
    default:
      index &+= 1
      return fail(.unexpectedOctet)
    }
  }

  /// Finds where the name leads; the one that lies whole before us needs no copy.
  private mutating func endName(_ octets: RawSpan, _ first: Int, _ last: Int) {
    state = .colon
    node = -1
    guard captures else { return }
    if isFresh {
      var isExact = true
      node = paths.node(of: octets, from: first, to: last, under: container, isExact: &isExact)
      if !isExact { noteInexactName() }
      return
    }
    if highSurrogate != 0 { abandonSurrogate() }
    capture(octets, first, last)
    if isWhole {
      var isExact = true
      node = paths.node(of: captured.span.bytes, from: 0, to: capturedCount, under: container, isExact: &isExact)
      if !isExact { noteInexactName() }
    }
  }

  private mutating func capture(_ octets: RawSpan, _ first: Int, _ last: Int) {
    guard last > first else { return }
    isFresh = false
    var index = first
    while index < last {
      guard capturedCount < Self.textLimit else {
        isWhole = false
        return
      }
      captured[capturedCount] = octets.octet(index)
      capturedCount &+= 1
      index &+= 1
    }
  }

  private mutating func capture(_ octet: UInt8) {
    guard captures else { return }
    guard capturedCount < Self.textLimit else {
      isWhole = false
      return
    }
    captured[capturedCount] = octet
    capturedCount &+= 1
  }

  /// The high surrogate before had no other half: what is kept is not the text any more.
  private mutating func abandonSurrogate() {
    highSurrogate = 0
    isWhole = false
  }

  /// Takes an octet of an escape (section 7 of RFC 8259); false where it is none.
  mutating func unescape(_ octet: UInt8) -> Bool {
    if state == .hexadecimal { return hexadecimal(octet) }
    if octet == UInt8(ascii: "u") {
      state = .hexadecimal
      digits = 0
      unit = 0
      return true
    }
    if highSurrogate != 0 { abandonSurrogate() }
    let meant: UInt8
    switch octet {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): meant = octet
    case UInt8(ascii: "b"): meant = 0x08
    case UInt8(ascii: "f"): meant = 0x0C
    case UInt8(ascii: "n"): meant = 0x0A
    case UInt8(ascii: "r"): meant = 0x0D
    case UInt8(ascii: "t"): meant = 0x09
    default: return false
    }
    count(1)
    capture(meant)
    state = .string
    return true
  }

  private mutating func hexadecimal(_ octet: UInt8) -> Bool {
    let digit: UInt32
    switch octet {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt32(octet) - 0x30
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = UInt32(octet) - 0x57
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = UInt32(octet) - 0x37
    default: return false
    }
    unit = unit << 4 | digit
    digits &+= 1
    if digits == 4 {
      state = .string
      endUnit()
    }
    return true
  }

  /// Takes a UTF-16 code unit: counts the octets it has in UTF-8, and keeps them where the string is kept.
  private mutating func endUnit() {
    if unit & 0xFC00 == 0xDC00, highSurrogate != 0 {
      // Three octets were counted for the first half; a pair has four.
      count(1)
      let scalar = 0x10000 + (highSurrogate & 0x3FF) << 10 + unit & 0x3FF
      highSurrogate = 0
      capture(0xF0 | UInt8(truncatingIfNeeded: scalar >> 18))
      capture(0x80 | UInt8(truncatingIfNeeded: scalar >> 12 & 0x3F))
      capture(0x80 | UInt8(truncatingIfNeeded: scalar >> 6 & 0x3F))
      capture(0x80 | UInt8(truncatingIfNeeded: scalar & 0x3F))
      return
    }
    if highSurrogate != 0 { abandonSurrogate() }
    if unit < 0x80 {
      count(1)
      capture(UInt8(truncatingIfNeeded: unit))
    } else if unit < 0x800 {
      count(2)
      capture(0xC0 | UInt8(truncatingIfNeeded: unit >> 6))
      capture(0x80 | UInt8(truncatingIfNeeded: unit & 0x3F))
    } else {
      count(3)
      switch unit & 0xFC00 {
      case 0xD800: highSurrogate = unit
      case 0xDC00: isWhole = false
      default:
        capture(0xE0 | UInt8(truncatingIfNeeded: unit >> 12))
        capture(0x80 | UInt8(truncatingIfNeeded: unit >> 6 & 0x3F))
        capture(0x80 | UInt8(truncatingIfNeeded: unit & 0x3F))
      }
    }
  }
}
