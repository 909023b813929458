/// One member of the object that a request's content is, read without building a tree.
public enum MemberReading: Hashable, Sendable {
  /// The member is a string.
  case text(String)
  /// The object has no such member, or it is null.
  case absent
  /// Servers may read the member differently: it is there twice, in a case of letters that only some take, is no string, or is longer
  /// than `JSONPassage.textLimit`.
  case ambiguous

  /// The paths by which a member is found; made once for a name, since they are never given back.
  public static func paths(of member: String) -> JSONPaths {
    JSONPaths([(path: member, role: .value(1))], root: 0, ignoringCase: true)
  }

  /// Reads a body.
  ///
  /// - Parameter paths: are those of `paths(of:)`.
  /// - Throws: `UsageError` where the body is too large, not JSON, or not an object.
  public init(_ body: RawSpan, _ paths: JSONPaths) throws(UsageError) {
    guard body.byteCount <= RequestReading.bodyLimit else { throw .tooLarge }
    var passage = JSONPassage(paths)
    var index = 0
    var isObject = false
    var found: MemberReading?
    while true {
      let value: MemberReading
      switch passage.next(in: body, at: &index, before: body.byteCount) {
      case .needsMore:
        guard passage.isComplete else { throw passage.isWrong ? .unexpectedOctet(offset: index) : .unexpectedEnd }
        guard isObject else { throw .notAnObject }
        self = passage.inexactNames > 0 ? .ambiguous : found ?? .absent
        return
      case .wrong(.unexpectedOctet): throw .unexpectedOctet(offset: max(0, index - 1))
      case .wrong(.tooDeep): throw .tooDeep(offset: max(0, index - 1))
      case .opened(0):
        isObject = body.octet(index - 1) == UInt8(ascii: "{")
        continue
      case .closed: continue
      case .text: value = passage.isTextWhole ? .text(String(decoding: passage.text, as: UTF8.self)) : .ambiguous
      case .null: value = .absent
      case .number, .boolean, .opened: value = .ambiguous
      }
      found = found == nil ? value : .ambiguous
    }
  }
}
