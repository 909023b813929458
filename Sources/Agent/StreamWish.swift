import Encoding

extension AgentRequest {
  /// The octets of content that are read to see whether a stream is asked for; larger content asks for none.
  static let wishByteLimit = 1 << 20

  /// Whether the request asks for a stream: by `Accept`, or by `"stream": true` in JSON content, as the interfaces of language
  /// models have it.
  var asksForStream: Bool {
    let accepts = fields.contains { field in
      field.name.lowercased() == "accept" && field.value.lowercased().split(separator: ",").contains { Self.isEventStream($0) }
    }
    guard !accepts, !content.isEmpty, let octets = try? content.octets(limit: Self.wishByteLimit) else { return accepts }
    guard octets.first(where: { $0 != 0x20 && $0 != 0x0A && $0 != 0x0D && $0 != 0x09 }) == UInt8(ascii: "{") else { return false }
    return (try? JSON.parse(octets))?.objectValue?["stream"] == .bool(true)
  }

  private static func isEventStream(_ range: Substring) -> Bool {
    let type = range.prefix { $0 != ";" }.drop { $0 == " " || $0 == "\t" }
    return type.hasPrefix("text/event-stream")
  }
}

extension RequestContent {
  /// Reads all of the content into memory; nil where it is larger than `limit` octets.
  func octets(limit: Int) throws(AgentError) -> [UInt8]? {
    var all: [UInt8] = []
    let isWhole = try forEachStep { (step) throws(AgentError) in
      guard step.count <= limit - all.count else { return false }
      all.append(contentsOf: step)
      return true
    }
    return isWhole ? all : nil
  }
}
