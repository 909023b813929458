import Bytes
import Encoding

// Members of the documents of this module, read strictly.
extension JSONObject {
  /// Returns a member that must be a string and not empty.
  func string(_ member: PaymentError.Member) throws(PaymentError) -> String {
    guard let value = self[member.rawValue] else { throw .missing(member) }
    guard let string = value.stringValue, !string.isEmpty else { throw .malformed(member) }
    return string
  }

  /// Returns nil where the member is absent; one that is present must be a string.
  func optionalString(_ member: PaymentError.Member) throws(PaymentError) -> String? {
    guard let value = self[member.rawValue] else { return nil }
    guard let string = value.stringValue else { throw .malformed(member) }
    return string
  }

  /// Returns a member that must be an unsigned decimal string of at most 128 bits.
  func units(_ member: PaymentError.Member) throws(PaymentError) -> UInt128 {
    guard let units = DecimalUInt128.parse(try string(member).utf8) else { throw .malformed(member) }
    return units
  }
}
