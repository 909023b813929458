import Bytes
import Encoding

/// The members of `_meta` that belong to payments (draft-payment-transport-mcp-00 "Metadata Placement", and x402's MCP transport).
enum PaymentMember: Int, CaseIterable {
  case credential, receipt, information, x402Payment, x402Response

  var name: StaticString {
    switch self {
    case .credential: "org.paymentauth/credential"
    case .receipt: "org.paymentauth/receipt"
    case .information: "org.paymentauth/payment-info"
    case .x402Payment: "x402/payment"
    case .x402Response: "x402/payment-response"
    }
  }

  static let names: [StaticString] = allCases.map(\.name)
}

/// A `_meta` object, by where its members stand.
struct PaymentMeta: Sendable {
  let range: Range<Int>
  /// Members that have nothing to do with payments, name and value.
  private var others: [Range<Int>] = []
  private var values: [PaymentMember: Range<Int>] = [:]

  /// Most members of one object; more are refused as a message that is none.
  private static let memberLimit = 1024

  /// Reads the object at `range`; nil where another value stands there.
  init?(_ range: Range<Int>?, in scanner: JSONScanner) throws(MCPError) {
    guard let range, scanner.isObject(range) else { return nil }
    self.range = range
    var names = MemberNames(PaymentMember.names)
    var count = 0
    var (others, values) = (self.others, self.values)
    try scanner.forEachMember(of: range) { member throws(MCPError) in
      count += 1
      guard count <= Self.memberLimit else { throw .invalidMessage(offset: range.lowerBound) }
      if let index = try names.find(member.name, in: scanner), let known = PaymentMember(rawValue: index) {
        values[known] = member.value
      } else {
        others.append(member.name.lowerBound..<member.value.upperBound)
      }
    }
    (self.others, self.values) = (others, values)
  }

  /// Whether any member belongs to payments.
  var isConcerned: Bool { !values.isEmpty }

  /// Where a member's value stands.
  subscript(member: PaymentMember) -> Range<Int>? { values[member] }

  /// Writes the object without what belongs to payments, and with another member in front.
  func append(with added: (name: PaymentMember, value: [UInt8])?, from scanner: JSONScanner, to out: inout ByteBuffer) {
    out.append(byte: 0x7B)
    var isFirst = true
    if let added {
      Self.append(added, to: &out)
      isFirst = false
    }
    for other in others {
      if !isFirst { out.append(byte: 0x2C) }
      isFirst = false
      out.append(scanner.octets(other))
    }
    out.append(byte: 0x7D)
  }

  /// Writes a member.
  static func append(_ member: (name: PaymentMember, value: [UInt8]), to out: inout ByteBuffer) {
    out.append(byte: 0x22)
    out.append(member.name.name)
    out.append("\":" as StaticString)
    out.append(member.value)
  }
}

/// Replacements of parts of a text, made all at once.
struct TextEdits {
  private var edits: [(range: Range<Int>, octets: [UInt8])] = []

  var isEmpty: Bool { edits.isEmpty }

  /// Replaces a range, which may be empty; ranges must not overlap.
  mutating func replace(_ range: Range<Int>, _ octets: [UInt8]) { edits.append((range, octets)) }

  /// Makes a member the first of the object at `range`.
  mutating func insert(_ name: StaticString, _ value: [UInt8], into range: Range<Int>, isEmpty: Bool) {
    var out = ByteBuffer()
    out.append(byte: 0x22)
    out.append(name)
    out.append("\":" as StaticString)
    out.append(value)
    if !isEmpty { out.append(byte: 0x2C) }
    replace(range.lowerBound + 1..<range.lowerBound + 1, out.array())
  }

  /// Appends the part of the text at `range` with the replacements in it.
  func append(_ text: UnsafeRawBufferPointer, _ range: Range<Int>, to out: inout ByteBuffer) {
    var position = range.lowerBound
    for edit in edits.sorted(by: { $0.range.lowerBound < $1.range.lowerBound })
    where edit.range.lowerBound >= position && edit.range.upperBound <= range.upperBound {
      out.append(UnsafeRawBufferPointer(rebasing: text[position..<edit.range.lowerBound]))
      out.append(edit.octets)
      position = edit.range.upperBound
    }
    out.append(UnsafeRawBufferPointer(rebasing: text[position..<range.upperBound]))
  }
}
