import Bytes

/// Writes the head that goes upstream: the request line anew, the lines to keep in runs, and the proxy's own lines.
public enum RequestRewriter {
  /// Appends the upstream's head, its empty line included.
  ///
  /// - `target`: the target to ask for, canonical, prefixes already exchanged.
  /// - `framing`: how content goes upstream; the client's Content-Length line is kept where it says the same.
  ///
  /// Left out are `FieldSet.withheldFromUpstream`, what `Connection` nominates, `Authorization` with a payment scheme,
  /// and what `fields` replaces. `TE: trailers` is renewed for this hop.
  public static func append(
    _ head: borrowing RequestHead, octets: UnsafeRawBufferPointer, target: UnsafeRawBufferPointer,
    framing: BodyFraming, fields: UpstreamFields, forwarding: Forwarding, to output: inout ByteBuffer
  ) {
    output.append(UnsafeRawBufferPointer(rebasing: octets[head.methodRange]))
    output.append(" ")
    output.append(target)
    output.append(" HTTP/1.1\r\n")
    if !fields.replacesHost {
      output.append("Host: ")
      output.append(UnsafeRawBufferPointer(rebasing: octets[head.hostRange]))
      output.append("\r\n")
    }
    output.append(forwarding.isHTTP2 ? fields.lines.two : head.minorVersion == 1 ? fields.lines.new : fields.lines.old)
    fields.codings.append(head, octets, to: &output)
    appendKept(head, octets, framing, fields, to: &output)
    forwarding.append(head, octets, to: &output)
    if head.acceptsTrailers, head.minorVersion == 1 { output.append("TE: trailers\r\nConnection: TE\r\n") }
    Framing.append(framing, besides: head.framing, to: &output)
    output.append("\r\n")
  }

  private static func appendKept(
    _ head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer, _ framing: BodyFraming,
    _ fields: UpstreamFields, to output: inout ByteBuffer
  ) {
    var withheld: FieldSet = [.withheldFromUpstream, head.nominated, fields.dropped.known]
    if case .length = framing, framing == head.framing { withheld.remove(FieldSet(.contentLength)) }
    var examined = FieldSet(.authorization)
    if head.nominatesOthers || !fields.dropped.others.isEmpty { examined.formUnion(FieldSet(.other)) }
    let span = octets.bytes
    let lines = head.section.fields
    FieldRuns.append(head.section, octets, end: head.byteCount - 2, to: &output) { index in
      let field = lines[index]
      if withheld.has(field.name) { return false }
      guard examined.has(field.name) else { return true }
      if field.name == .authorization { return !PaymentScheme.occurs(in: field.value(in: octets)) }
      return !fields.dropped.hasOther(span, field.nameRange)
        && !(head.nominatesOthers && ConnectionOptions.nominate(span, lines, field.nameRange))
    }
  }
}

/// Copies the lines of a section that are kept, neighbours in one run.
enum FieldRuns {
  @inline(__always)
  static func append(
    _ section: borrowing FieldSection, _ octets: UnsafeRawBufferPointer, from start: Int? = nil, end: Int,
    to output: inout ByteBuffer, keeping isKept: (Int) -> Bool
  ) {
    var runStart = start ?? -1
    let count = section.fields.count
    for index in 0..<count {
      let lineStart = Int(section.fields[index].nameStart)
      if isKept(index) {
        if runStart < 0 { runStart = lineStart }
      } else if runStart >= 0 {
        output.append(UnsafeRawBufferPointer(rebasing: octets[runStart..<lineStart]))
        runStart = -1
      }
    }
    if runStart >= 0 { output.append(UnsafeRawBufferPointer(rebasing: octets[runStart..<end])) }
  }
}

extension Framing {
  /// Appends the framing line, unless the kept lines have it already.
  static func append(_ framing: BodyFraming, besides kept: BodyFraming, to output: inout ByteBuffer) {
    switch framing {
    case .none, .untilClose: break
    case .length(let length):
      guard framing != kept else { return }
      output.append("Content-Length: ")
      output.append(decimal: length)
      output.append("\r\n")
    case .chunked: output.append("Transfer-Encoding: chunked\r\n")
    }
  }
}
