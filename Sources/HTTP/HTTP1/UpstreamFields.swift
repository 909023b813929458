/// What a route adds to every request for its upstream, prepared once: Host, the injected fields and Via.
public struct UpstreamFields: Sendable {
  /// The lines that are appended, for requests that came as HTTP/1.0 and as HTTP/1.1.
  let lines: (old: [UInt8], new: [UInt8])
  /// Tells whether the client's Host is replaced.
  let replacesHost: Bool
  /// Names of the table that are injected, so that the client's lines of that name are dropped.
  let replaced: FieldSet
  /// The other injected names in lower case, underscores as hyphens.
  let replacedOthers: [[UInt8]]

  /// The name by which Via knows the proxy.
  public static let pseudonym = "farebox"

  /// Prepares the lines. Without `host` the client's Host goes on unchanged.
  ///
  /// A host, name or value outside the grammar, or a name that the proxy writes itself, is refused; the error's
  /// position is the field's index.
  public init(host: String?, injected: [(name: String, value: [UInt8])] = []) throws(HTTPError) {
    var text: [UInt8] = []
    var replaced: FieldSet = []
    var others: [[UInt8]] = []
    if let host {
      guard Authority.split(host) != nil else { throw .hostInvalid(at: 0) }
      text += Array("Host: \(host)\r\n".utf8)
    }
    for (index, field) in injected.enumerated() {
      let name = Array(field.name.utf8)
      guard let known = FieldName(name.span.bytes, name.indices), name.count <= HeadLimits.fieldName else {
        throw .fieldNameInvalid(at: index)
      }
      guard Self.injectable(known) else { throw .fieldNameInvalid(at: index) }
      guard Scan.endOfValue(field.value.span.bytes, from: 0) == field.value.count else {
        throw .fieldValueInvalid(at: index)
      }
      if known == .other { others.append(name.map { Self.folded($0) }) } else { replaced.formUnion(FieldSet(known)) }
      text += name + Array(": ".utf8) + field.value + Array("\r\n".utf8)
    }
    lines = (text + Array("Via: 1.0 \(Self.pseudonym)\r\n".utf8), text + Array("Via: 1.1 \(Self.pseudonym)\r\n".utf8))
    replacesHost = host != nil
    self.replaced = replaced
    replacedOthers = others
  }

  private static func injectable(_ name: FieldName) -> Bool {
    !FieldSet([.hopByHop, .framing, .forwarding, FieldSet([.disguised, .via])]).has(name)
  }

  private static func folded(_ octet: UInt8) -> UInt8 {
    octet == UInt8(ascii: "_") ? UInt8(ascii: "-") : octet.lowercased
  }

  /// Tells whether a field outside the table has the name of an injected one, also in a disguise of underscores.
  func replaces(_ octets: RawSpan, _ name: Range<Int>) -> Bool {
    for other in replacedOthers.indices where replacedOthers[other].count == name.count {
      var offset = 0
      while offset < name.count, Self.folded(octets.octet(name.lowerBound + offset)) == replacedOthers[other][offset] {
        offset += 1
      }
      if offset == name.count { return true }
    }
    return false
  }
}
