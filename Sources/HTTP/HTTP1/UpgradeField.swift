/// Reads the `Upgrade` field (RFC 9110 section 7.8).
public enum UpgradeField {
  /// Finds the first protocol of a request's list that is among `offered` (lower case); nil where none is, or the
  /// request is not one that can be switched.
  ///
  /// Only GET of HTTP/1.1 without content switches here, where `Connection` names the field.
  public static func chosen(
    _ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, among offered: [[UInt8]]
  ) -> Int? {
    guard head.present.has(.upgrade), head.nominated.has(.upgrade), head.minorVersion == 1, head.method == .get else { return nil }
    guard head.framing == .none else { return nil }
    let span = octets.bytes
    for field in head.section.fields where field.name == .upgrade {
      var elements = ListElements(span, field.valueRange)
      while let element = elements.next() {
        if let index = offered.firstIndex(where: { isSame($0, span, element) }) { return index }
      }
    }
    return nil
  }

  /// Whether a response switches to `name` (lower case) and nothing else, and says so as it must.
  public static func switches(_ head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer, to name: [UInt8]) -> Bool {
    guard head.status == 101, head.minorVersion == 1, head.nominated.has(.upgrade), head.count(of: .upgrade) == 1 else { return false }
    guard let field = head.first(.upgrade) else { return false }
    return isSame(name, octets.bytes, field.valueRange)
  }

  private static func isSame(_ name: [UInt8], _ octets: RawSpan, _ range: Range<Int>) -> Bool {
    guard name.count == range.count else { return false }
    for offset in name.indices where octets.octet(range.lowerBound + offset).lowercased != name[offset] { return false }
    return true
  }
}
