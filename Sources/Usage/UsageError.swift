/// Says why a request's body cannot be read.
public enum UsageError: Error, Hashable, Sendable {
  /// The body is longer than `RequestReading.bodyLimit`.
  case tooLarge
  /// An octet stands where JSON has no place for it.
  case unexpectedOctet(offset: Int)
  /// Arrays and objects are nested deeper than `JSONPassage.depthLimit`.
  case tooDeep(offset: Int)
  /// The body ends inside a value.
  case unexpectedEnd
  /// The body is not one JSON object.
  case notAnObject
}
