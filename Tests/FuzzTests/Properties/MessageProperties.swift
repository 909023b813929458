import Bytes
import MCP

private let requests = [
  #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"q":[1,2.5e-3,"\u00e9"]},"_meta":{"org.paymentauth/credential":{"challenge":{"id":"a"},"payload":{}},"b":2}}}"#,
  #"[{"jsonrpc":"2.0","id":"x","method":"resources/read","params":{"uri":"file:///reports/a%20b"}},{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"x","reason":"r"}}]"#,
  #"{"jsonrpc":"2.0","id":null,"method":"prompts/get","params":{"name":"p"},"_meta":{"org.paymentauth/receipt":{}}}"#,
  #" {"id":7,"result":{"a":[]},"jsonrpc":"2.0"} "#, #"{"jsonrpc":"2.0","id":1e2,"method":"initialize","params":{}}"#,
]
private let answers = [
  #"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"x"}],"isError":false,"_meta":{"org.paymentauth/receipt":{"forged":1},"c":3}}}"#,
  #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"search","_meta":{"org.paymentauth/payment-info":1}},{"name":"free"}],"nextCursor":"n"}}"#,
  #"[{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"no"}},{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}]"#,
  #"{"jsonrpc":"2.0","id":1,"result":{"capabilities":{"tools":{},"experimental":{"payment":{},"other":1}},"protocolVersion":"2025-06-18"}}"#,
]
private let streams = [
  "id: 1\nevent: message\ndata: {\"jsonrpc\":\"2.0\"}\n\n: comment\r\n\r\ndata: a\rdata: b\r\rdata", "\u{FEFF}data:x\n\nevent: payment-receipt\ndata: y\n\n",
]

private func passed(_ pieces: [ArraySlice<UInt8>]) -> [UInt8] {
  var events = MCPEvents()
  var out: [UInt8] = []
  for piece in pieces {
    Array(piece).withUnsafeBytes { events.take($0) }
    while let block = events.next() { out += block.octets }
  }
  events.finish()
  while let block = events.next() { out += block.octets }
  return out + events.takeRest()
}

extension Property {
  /// What reads messages between a client and an MCP server: it survives what peers make of it, and what it passes on says the same again.
  static let messages: [Property] = [
    Property("mcp-requests", requests) { octets in
      try octets.withUnsafeBytes { content in
        _ = MCPRequest.identifier(of: content)
        guard let read = try? MCPRequest(content) else { return }
        for index in read.messages.indices { _ = try? read.credential(index, in: content) }
        let passed = read.forwarded(content)
        guard let again = passed.withUnsafeBytes({ try? MCPRequest($0) }) else { throw Violation(description: "what is passed on cannot be read") }
        try require(again.isUntouched && again.isBatch == read.isBatch, "passed on: \(passed)")
        try require(again.messages.map(\.subject) == read.messages.map(\.subject) && again.messages.map(\.identifier) == read.messages.map(\.identifier), "passed on: \(passed)")
        try require(again.messages.map(\.cancelled) == read.messages.map(\.cancelled), "passed on: \(passed)")
        if read.isUntouched, !read.isBatch { try require(passed.elementsEqual(content.drop { $0 <= 0x20 }.prefix(passed.count)), "passed on: \(passed)") }
      }
    },
    Property("mcp-answers", answers) { octets in
      let receipt = Array(#"{"status":"success"}"#.utf8)
      try octets.withUnsafeBytes { content in
        guard var read = try? MCPAnswer(content) else { return }
        for index in read.messages.indices {
          read.addReceipt(receipt, at: index)
          try? read.addPrices(.tools, at: index, in: content) { $0.name == "search" ? Array("{}".utf8) : nil }
          try? read.addCapability(Array("{}".utf8), at: index, in: content)
        }
        let text = read.text(content)
        guard let again = text.withUnsafeBytes({ try? MCPAnswer($0) }) else { throw Violation(description: "what is passed on cannot be read") }
        try require(again.messages.map(\.identifier) == read.messages.map(\.identifier) && again.messages.map(\.outcome) == read.messages.map(\.outcome), "passed on: \(text)")
        // Looked at once more, it loses what was added, and nothing is left of what the server had said of payments.
        let bare = text.withUnsafeBytes { again.text($0) }
        try require(bare.withUnsafeBytes { try? MCPAnswer($0) }?.isUntouched == true, "passed on: \(text)")
      }
    },
    Property("mcp-events", streams) { octets in
      let cut = cuts(of: octets).first ?? 0
      try require(passed([octets[...]]) == passed([octets[..<cut], octets[cut...]]), "cut at \(cut)")
    },
  ]
}
