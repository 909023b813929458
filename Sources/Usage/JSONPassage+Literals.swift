extension JSONPassage {
  /// Takes the next octet of a word.
  mutating func literal(_ octet: UInt8, _ index: inout Int) -> Event? {
    index &+= 1
    guard octet == literal.octet(literalCount) else { return fail(.unexpectedOctet) }
    count(1)
    literalCount &+= 1
    guard literalCount == literal.octetCount else { return nil }
    endValue()
    guard let field = reportedField else { return nil }
    switch literal {
    case .true: return .boolean(field, true)
    case .false: return .boolean(field, false)
    case .null: return .null(field)
    }
  }

  /// One of the three words.
  enum Literal: Sendable {
    case `true`, `false`, null

    var octetCount: Int {
      switch self {
      case .true, .null: 4
      case .false: 5
      }
    }

    func octet(_ index: Int) -> UInt8 {
      let word: UInt64
      switch self {
      case .true: word = 0x6575_7274
      case .false: word = 0x65_736C_6166
      case .null: word = 0x6C6C_756E
      }
      return UInt8(truncatingIfNeeded: word >> UInt64(8 * index))
    }
  }
}
