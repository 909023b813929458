/// The preferences of a client among offers (draft-httpauth-payment-02, "Client Payment Preferences").
public struct AcceptPayment: Sendable, Hashable {
  /// The most ranges that are read; a longer list counts as malformed.
  public static let rangeLimit = 32

  private struct Range: Sendable, Hashable {
    /// nil stands for `*`.
    let method: String?
    let intent: String?
    /// Thousandths, 0 to 1000.
    let quality: UInt16

    var specificity: Int { (method == nil ? 0 : 2) + (intent == nil ? 0 : 1) }

    func matches(_ offer: (method: String, intent: String)) -> Bool {
      (method == nil || method == offer.method) && (intent == nil || intent == offer.intent)
    }
  }

  private let ranges: [Range]

  /// Parses the field's value; several lines are joined by commas before. Returns nil where it is malformed.
  public init?(_ value: UnsafeRawBufferPointer) {
    var ranges: [Range] = []
    for element in value.split(separator: 0x2C, omittingEmptySubsequences: true) {
      let text = AcceptPayment.trimmed(element)
      if text.isEmpty { continue }
      guard ranges.count < AcceptPayment.rangeLimit, let range = AcceptPayment.range(text) else { return nil }
      ranges.append(range)
    }
    guard !ranges.isEmpty else { return nil }
    self.ranges = ranges
  }

  /// Returns the indices of the offers that the client accepts, best first; equals keep their order.
  ///
  /// Of several ranges that match an offer the most specific decides, the first of equals. Where nothing is
  /// left every offer is returned: the challenge stays authoritative.
  public func rank(_ offers: [(method: String, intent: String)]) -> [Int] {
    var accepted: [(index: Int, quality: UInt16)] = []
    for (index, offer) in offers.enumerated() {
      var best: Range?
      for range in ranges where range.matches(offer) {
        if range.specificity > best?.specificity ?? -1 { best = range }
      }
      if let best, best.quality > 0 { accepted.append((index, best.quality)) }
    }
    guard !accepted.isEmpty else { return Array(offers.indices) }
    // Sorting by index too makes the order stable.
    accepted.sort { $0.quality != $1.quality ? $0.quality > $1.quality : $0.index < $1.index }
    return accepted.map(\.index)
  }

  private static func range(_ text: Slice<UnsafeRawBufferPointer>) -> Range? {
    let parts = text.split(separator: 0x3B, maxSplits: 1, omittingEmptySubsequences: false)
    guard let token = parts.first.map({ trimmed($0) }) else { return nil }
    let names = token.split(separator: 0x2F, omittingEmptySubsequences: false)
    guard names.count == 2 else { return nil }
    let method = String(decoding: names[0], as: UTF8.self)
    let intent = String(decoding: names[1], as: UTF8.self)
    guard method == "*" || MethodIdentifier.isMethod(method), intent == "*" || MethodIdentifier.isIntent(intent) else { return nil }
    var quality: UInt16 = 1000
    if parts.count == 2 {
      guard let weight = weight(trimmed(parts[1])) else { return nil }
      quality = weight
    }
    return Range(method: method == "*" ? nil : method, intent: intent == "*" ? nil : intent, quality: quality)
  }

  /// Reads `q=` and a qvalue (RFC 9110 section 12.4.2) as thousandths.
  private static func weight(_ text: Slice<UnsafeRawBufferPointer>) -> UInt16? {
    let octets = Array(text)
    guard (3...7).contains(octets.count), octets[0] | 0x20 == 0x71, octets[1] == 0x3D else { return nil }
    guard octets[2] == 0x30 || octets[2] == 0x31 else { return nil }
    var value = UInt16(octets[2] - 0x30) * 1000
    if octets.count > 3 {
      guard octets[3] == 0x2E else { return nil }
      var place: UInt16 = 100
      for octet in octets[4...] {
        guard (0x30...0x39).contains(octet) else { return nil }
        value += UInt16(octet - 0x30) * place
        place /= 10
      }
    }
    return value <= 1000 ? value : nil
  }

  private static func trimmed(_ text: Slice<UnsafeRawBufferPointer>) -> Slice<UnsafeRawBufferPointer> {
    var text = text
    while let first = text.first, first == 0x20 || first == 0x09 { text = text.dropFirst() }
    while let last = text.last, last == 0x20 || last == 0x09 { text = text.dropLast() }
    return text
  }
}
