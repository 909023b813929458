import Bytes

/// Who sent a request and how, as the upstream is told in `X-Forwarded-*` and `Forwarded` (RFC 7239).
public struct Forwarding: Sendable, Hashable {
  /// The connection's other end.
  public let peer: ClientAddress
  /// The client, as `Forwarded.client` finds it; the peer where that is not trusted.
  public let client: ClientAddress
  /// Tells whether the peer is a trusted proxy, whose own fields are carried on.
  public let isTrusted: Bool
  /// Tells whether the request came over TLS.
  public let isSecure: Bool
  /// Tells whether the request came on a stream of HTTP/2.
  public let isHTTP2: Bool

  /// Makes what is told of one request.
  public init(peer: ClientAddress, client: ClientAddress, isTrusted: Bool, isSecure: Bool, isHTTP2: Bool = false) {
    self.peer = peer
    self.client = client
    self.isTrusted = isTrusted
    self.isSecure = isSecure
    self.isHTTP2 = isHTTP2
  }

  /// Appends the lines. A trusted peer's lists are joined in one line and end with the peer, for servers that read only
  /// the first or the last line of a name.
  func append(_ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    let host = UnsafeRawBufferPointer(rebasing: octets[head.hostRange])
    guard isTrusted, !head.present.isDisjoint(with: .forwarding) || client != peer else {
      return appendOwn(host, to: &output)
    }
    output.append("X-Forwarded-For: ")
    if !appendValues(.xForwardedFor, head, octets, to: &output), client != peer {
      client.append(to: &output)
      output.append(", ")
    }
    appendPeer(to: &output)
    output.append("\r\n")
    appendOne(.xForwardedProto, "X-Forwarded-Proto: ", head, octets, to: &output) { $0.append(isSecure ? "https" : "http") }
    appendOne(.xForwardedHost, "X-Forwarded-Host: ", head, octets, to: &output) { $0.append(host) }
    output.append("Forwarded: ")
    if !appendValues(.forwarded, head, octets, to: &output), client != peer {
      appendNode(client, to: &output)
      output.append(", ")
    }
    appendElement(host, to: &output)
  }

  private func appendOwn(_ host: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    output.append("X-Forwarded-For: ")
    appendPeer(to: &output)
    output.append(isSecure ? "\r\nX-Forwarded-Proto: https\r\n" : "\r\nX-Forwarded-Proto: http\r\n")
    if !host.isEmpty {
      output.append("X-Forwarded-Host: ")
      output.append(host)
      output.append("\r\n")
    }
    output.append("Forwarded: ")
    appendElement(host, to: &output)
  }

  /// Appends this hop's element of `Forwarded` and the line's end.
  private func appendElement(_ host: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    appendNode(peer, to: &output)
    output.append(isSecure ? ";proto=https" : ";proto=http")
    if !host.isEmpty {
      // A valid Host has no octet that a quoted string would have to escape.
      output.append(";host=\"")
      output.append(host)
      output.append("\"")
    }
    output.append("\r\n")
  }

  private func appendPeer(to output: inout ByteBuffer) {
    if peer == .none { output.append("unknown") } else { peer.append(to: &output) }
  }

  private func appendNode(_ address: ClientAddress, to output: inout ByteBuffer) {
    if address == .none {
      output.append("for=unknown")
    } else if address.isIPv4 {
      output.append("for=")
      address.append(to: &output)
    } else {
      output.append("for=\"[")
      address.append(to: &output)
      output.append("]\"")
    }
  }

  /// Appends all values of a name, a comma behind each; false when there is none.
  private func appendValues(
    _ name: FieldName, _ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, to output: inout ByteBuffer
  ) -> Bool {
    guard head.has(name) else { return false }
    var hasValue = false
    for field in head.section.fields where field.name == name && field.valueCount > 0 {
      output.append(field.value(in: octets))
      output.append(", ")
      hasValue = true
    }
    return hasValue
  }

  /// Appends the trusted peer's only line of a name, or ours.
  private func appendOne(
    _ name: FieldName, _ start: StaticString, _ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer,
    to output: inout ByteBuffer, own: (inout ByteBuffer) -> Void
  ) {
    output.append(start)
    if !head.repeated.has(name), let field = head.first(name), field.valueCount > 0 {
      output.append(field.value(in: octets))
    } else {
      own(&output)
    }
    output.append("\r\n")
  }
}
