/// What a route adds to every request for its upstream, prepared once: Host, the injected fields and Via.
public struct UpstreamFields: Sendable {
  /// The lines that are appended, for requests that came as HTTP/1.0, as HTTP/1.1 and as HTTP/2.
  let lines: (old: [UInt8], new: [UInt8], two: [UInt8])
  /// Tells whether the client's Host is replaced.
  let replacesHost: Bool
  /// The client's lines of these names are dropped: what is injected in their place, and what is removed.
  let dropped: FieldNameList
  /// Which content codings the upstream is asked for.
  let codings: AcceptedCodings

  /// The name by which Via knows the proxy.
  public static let pseudonym = "farebox"

  /// Prepares the lines. Without `host` the client's Host goes on unchanged.
  ///
  /// A host, name or value outside the grammar, or a name that the proxy writes itself, is refused; the error's
  /// position is the field's index.
  ///
  /// - Parameters:
  ///   - removed: names that the upstream does not get, whoever sends them; counted after the injected ones in errors.
  ///   - codings: which content codings the upstream is asked for, unless `Accept-Encoding` is injected or removed.
  public init(
    host: String?, injected: [(name: String, value: [UInt8])] = [], removed: [String] = [], codings: AcceptedCodings = .asAsked
  ) throws(HTTPError) {
    var text: [UInt8] = []
    var names = FieldNameList()
    if let host {
      guard Authority.split(host) != nil else { throw .hostInvalid(at: 0) }
      text += Array("Host: \(host)\r\n".utf8)
    }
    for (index, field) in injected.enumerated() {
      guard let known = names.add(field.name), Self.injectable(known) else { throw .fieldNameInvalid(at: index) }
      guard Scan.endOfValue(field.value.span.bytes, from: 0) == field.value.count else {
        throw .fieldValueInvalid(at: index)
      }
      text += Array(field.name.utf8) + Array(": ".utf8) + field.value + Array("\r\n".utf8)
    }
    for (index, name) in removed.enumerated() {
      guard let known = names.add(name), Self.injectable(known) else { throw .fieldNameInvalid(at: injected.count + index) }
    }
    if codings != .asAsked, !names.known.has(.acceptEncoding) {
      self.codings = codings
      _ = names.add("Accept-Encoding")
    } else {
      self.codings = .asAsked
    }
    func lines(_ version: String) -> [UInt8] { text + Array("Via: \(version) \(Self.pseudonym)\r\n".utf8) }
    self.lines = (lines("1.0"), lines("1.1"), lines("2"))
    replacesHost = host != nil
    dropped = names
  }

  private static func injectable(_ name: FieldName) -> Bool {
    !FieldSet([.hopByHop, .framing, .forwarding, FieldSet([.disguised, .via])]).has(name)
  }
}
