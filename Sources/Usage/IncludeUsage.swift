import Bytes

/// The change of an OpenAI-style request by which its stream reports usage: at one place octets are put in, or a value exchanged;
/// everything else stays octet for octet.
public struct IncludeUsage: Hashable, Sendable {
  /// Where the body could be changed, as offsets in it.
  struct Place {
    /// Behind the root's brace.
    var root: Int?
    /// Behind the brace of `stream_options`.
    var options: Int?
    /// A `stream_options` that is null.
    var nullOptions: Range<Int>?
    /// A value of `include_usage` that is false or null.
    var value: Range<Int>?
    /// Whether one of the two has a type of which nothing can be made.
    var isForeign = false
  }

  /// The octets of the body that are replaced; empty where something is only put in.
  public let range: Range<Int>
  /// What comes in their place.
  public let replacement: [UInt8]

  /// Finds the change; nil where there is none.
  init?(at place: Place, in body: RawSpan) {
    guard !place.isForeign else { return nil }
    if let value = place.value {
      range = value
      replacement = Array("true".utf8)
    } else if let options = place.options {
      range = options..<options
      replacement = Array(Self.isEmptyObject(body, from: options) ? #""include_usage":true"#.utf8 : #""include_usage":true,"#.utf8)
    } else if let null = place.nullOptions {
      range = null
      replacement = Array(#"{"include_usage":true}"#.utf8)
    } else if let root = place.root {
      range = root..<root
      // The object is not empty, since it has asked for a stream.
      replacement = Array(#""stream_options":{"include_usage":true},"#.utf8)
    } else {
      return nil
    }
  }

  private static func isEmptyObject(_ body: RawSpan, from start: Int) -> Bool {
    var index = start
    while index < body.byteCount {
      let octet = body.octet(index)
      if octet > 0x20 { return octet == UInt8(ascii: "}") }
      index += 1
    }
    return false
  }

  /// The octets that the changed body has more than the body.
  public var growth: Int { replacement.count - range.count }

  /// Appends the changed body.
  ///
  /// - Precondition: it is the body that the change was found for.
  public func append(_ body: UnsafeRawBufferPointer, to output: inout ByteBuffer) {
    precondition(range.upperBound <= body.count)
    output.reserve(body.count + growth)
    output.append(UnsafeRawBufferPointer(rebasing: body[..<range.lowerBound]))
    output.append(replacement)
    output.append(UnsafeRawBufferPointer(rebasing: body[range.upperBound...]))
  }
}
