/// Names the rule of RFC 8259 or RFC 7493 that a text breaks, and the offset of the octet that breaks it.
public enum JSONError: Error, Hashable, Sendable {
  /// The text has more octets than `JSONLimits.octets`.
  case tooLarge
  /// Arrays and objects are nested deeper than `JSONLimits.depth`.
  case tooDeep(offset: Int)
  /// The text ends inside a value.
  case unexpectedEnd
  /// An octet stands where the grammar has no place for it.
  case unexpectedOctet(offset: Int)
  /// Something follows the value.
  case trailingOctets(offset: Int)
  /// A number is not spelled as section 6 says.
  case malformedNumber(offset: Int)
  /// A number is past the greatest double, or so small that it would become zero.
  case numberOutOfRange(offset: Int)
  /// A control character stands unescaped in a string.
  case controlCharacter(offset: Int)
  /// A backslash is not followed by one of the escapes of section 7.
  case malformedEscape(offset: Int)
  /// An escaped surrogate stands without its other half.
  case loneSurrogate(offset: Int)
  /// A string is not UTF-8.
  case malformedUTF8(offset: Int)
  /// An object names a member twice.
  case duplicateName(offset: Int)
}
