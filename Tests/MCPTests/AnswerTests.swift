import Bytes
import Encoding
import Testing

@testable import MCP

@Suite struct AnswerTests {
  func answer(_ text: String, _ change: (inout MCPAnswer, UnsafeRawBufferPointer) throws -> Void = { _, _ in }) throws -> String {
    try Array(text.utf8).withUnsafeBytes { octets in
      var read = try MCPAnswer(octets)
      try change(&read, octets)
      return read.isUntouched ? text : String(decoding: read.text(octets), as: UTF8.self)
    }
  }

  func outcome(_ text: String) throws -> MCPAnswer.Outcome? {
    try Array(text.utf8).withUnsafeBytes { try MCPAnswer($0).messages[0].outcome }
  }

  @Test func tellsHowARequestEnded() throws {
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#) == .success)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":false}}"#) == .success)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[]}}"#) == .failure)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}"#) == .failure)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required"}}"#) == .unfinished)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete"}}"#) == .success)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":5}"#) == .success)
    #expect(try outcome(#"{"jsonrpc":"2.0","method":"notifications/progress"}"#) == nil)
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage"}"#) == nil)
    // An error that is nested or spelled in another case decides nothing, or is refused.
    #expect(try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"structuredContent":{"isError":true}}}"#) == .success)
    #expect(throws: MCPError.self) { try outcome(#"{"jsonrpc":"2.0","id":1,"result":{"iserror":true}}"#) }
  }

  @Test func receiptsGoIntoTheResultsMeta() throws {
    let receipt = Array(#"{"status":"success"}"#.utf8)
    func add(_ text: String) throws -> String { try answer(text) { read, _ in read.addReceipt(receipt, at: 0) } }
    #expect(
      try add(#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#)
        == #"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"org.paymentauth/receipt":{"status":"success"}},"content":[]}}"#)
    #expect(
      try add(#"{"jsonrpc":"2.0","id":1,"result":{}}"#)
        == #"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"org.paymentauth/receipt":{"status":"success"}}}}"#)
    #expect(
      try add(#"{"jsonrpc":"2.0","id":1,"result":{"a":1,"_meta":{"x": 1 , "org.paymentauth/receipt":{"status":"forged"}}}}"#)
        == #"{"jsonrpc":"2.0","id":1,"result":{"a":1,"_meta":{"org.paymentauth/receipt":{"status":"success"},"x": 1}}}"#)
    #expect(
      try add(#"{"jsonrpc":"2.0","id":1,"result":{"_meta":null}}"#)
        == #"{"jsonrpc":"2.0","id":1,"result":{"_meta":{"org.paymentauth/receipt":{"status":"success"}}}}"#)
    #expect(
      try add(#"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"public","_meta":{}}}"#)
        == #"{"jsonrpc":"2.0","id":1,"result":{"cacheScope":"private","_meta":{"org.paymentauth/receipt":{"status":"success"}}}}"#)
    // An error carries none.
    let error = #"{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}"#
    #expect(try add(error) == error)
  }

  /// Money that has moved is told of also where a call ends with an error (x402's MCP transport).
  @Test func settlementsGoIntoErrorsToo() throws {
    let settlement = Array(#"{"success":true}"#.utf8)
    func add(_ error: String) throws -> String {
      try answer(#"{"jsonrpc":"2.0","id":1,"error":\#(error)}"#) { read, _ in read.addReceipt(settlement, at: 0, isX402: true) }
    }
    func told(_ error: String) -> String { #"{"jsonrpc":"2.0","id":1,"error":\#(error)}"# }
    let response = #""x402/payment-response":{"success":true}"#
    #expect(try add(#"{"code":-1,"message":"x"}"#) == told(#"{"data":{\#(response)},"code":-1,"message":"x"}"#))
    #expect(try add(#"{"code":-1,"data":{"a":1}}"#) == told(#"{"code":-1,"data":{\#(response),"a":1}}"#))
    #expect(try add(#"{"code":-1,"data":{"x402/payment-response":{"success":false}}}"#) == told(#"{"code":-1,"data":{\#(response)}}"#))
    #expect(try add(#"{"code":-1,"data":"why"}"#) == told(#"{"_meta":{\#(response)},"code":-1,"data":"why"}"#))
    #expect(try add(#"{"data":"why","_meta":{"b":2}}"#) == told(#"{"data":"why","_meta":{\#(response),"b":2}}"#))
    #expect(try add("5") == told("5"))
  }

  @Test func aKeptResponseIsGivenAnotherID() throws {
    func renamed(_ text: String, _ id: String) throws -> String? {
      let request = Array(#"{"jsonrpc":"2.0","id":\#(id),"method":"ping"}"#.utf8)
      let identifier = request.withUnsafeBytes { MCPRequest.identifier(of: $0) }
      return Array(text.utf8).withUnsafeBytes { MCPAnswer.renamed($0, identifier) }.map { String(decoding: $0, as: UTF8.self) }
    }
    #expect(try renamed(#"{"jsonrpc":"2.0","id":1,"result":{"id":1}}"#, #""a""#) == #"{"jsonrpc":"2.0","id":"a","result":{"id":1}}"#)
    #expect(try renamed(#"{"result":5,"id":"b"}"#, "7") == #"{"result":5,"id":7}"#)
    #expect(try renamed("[]", "7") == nil)
  }

  @Test func forgedReceiptsAreTakenOut() throws {
    #expect(
      try answer(
        #"{"jsonrpc":"2.0","id":1,"_meta":{"org.paymentauth/receipt":{}},"result":{"_meta":{"x402/payment-response":{},"a":1},"content":[]}}"#)
        == #"{"jsonrpc":"2.0","id":1,"_meta":{},"result":{"_meta":{"a":1},"content":[]}}"#)
    let plain = #" {"jsonrpc":"2.0","id":1,"result":{"_meta":{"a":1},"content":[]}}"#
    #expect(try answer(plain) == plain)
  }

  @Test func batchesAreReceiptedMessageByMessage() throws {
    let text = #"[{"jsonrpc":"2.0","id":1,"result":{}}, {"jsonrpc":"2.0","id":2,"result":{}}]"#
    #expect(
      try answer(text) { read, _ in read.addReceipt(Array("{}".utf8), at: 1) }
        == #"[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"result":{"_meta":{"org.paymentauth/receipt":{}}}}]"#)
  }

  @Test func pricesStandInLists() throws {
    let text =
      #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"a","x":1},{"name":"b","_meta":{"k":1,"org.paymentauth/payment-info":"forged"}},{"name":"c","_meta":{"org.paymentauth/payment-info":0}}, 7],"nextCursor":"n"}}"#
    let priced = try answer(text) { read, octets in
      try read.addPrices(.tools, at: 0, in: octets) { $0.name == "c" ? nil : Array("{\"of\":\"\($0.name)\"}".utf8) }
    }
    #expect(
      priced
        == #"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"_meta":{"org.paymentauth/payment-info":{"of":"a"}},"name":"a","x":1},{"name":"b","_meta":{"org.paymentauth/payment-info":{"of":"b"},"k":1}},{"name":"c","_meta":{}}, 7],"nextCursor":"n"}}"#)
    let resources = try answer(#"{"jsonrpc":"2.0","id":1,"result":{"resources":[{"uri":"f:/a","name":"n"}]}}"#) { read, octets in
      try read.addPrices(.resources, at: 0, in: octets) { Array("\"\($0.name)\"".utf8) }
    }
    #expect(resources == #"{"jsonrpc":"2.0","id":1,"result":{"resources":[{"_meta":{"org.paymentauth/payment-info":"f:/a"},"uri":"f:/a","name":"n"}]}}"#)
  }

  @Test(arguments: [
    (#"{}"#, #"{"experimental":{"payment":1}}"#), (#"{"tools":{}}"#, #"{"experimental":{"payment":1},"tools":{}}"#),
    (#"{"experimental":{"a":2,"payment":"forged"}}"#, #"{"experimental":{"payment":1,"a":2}}"#),
    (#"{"experimental":null}"#, #"{"experimental":{"payment":1}}"#),
  ])
  func capabilitiesTellThatPaymentIsKnown(before: String, after: String) throws {
    let text = #"{"jsonrpc":"2.0","id":1,"result":{"capabilities":\#(before),"serverInfo":{}}}"#
    let told = try answer(text) { read, octets in try read.addCapability([0x31], at: 0, in: octets) }
    #expect(told == #"{"jsonrpc":"2.0","id":1,"result":{"capabilities":\#(after),"serverInfo":{}}}"#)
  }
}

@Suite struct EventTests {
  func blocks(_ parts: [[UInt8]]) -> (blocks: [MCPEvents.Block], rest: [UInt8]) {
    var events = MCPEvents()
    var blocks: [MCPEvents.Block] = []
    for part in parts {
      part.withUnsafeBytes { events.take($0) }
      while let block = events.next() { blocks.append(block) }
    }
    events.finish()
    return (blocks, events.takeRest())
  }

  @Test(arguments: ["\n", "\r\n", "\r"]) func eventsAreFoundAtEverySplitPoint(end: String) {
    let text =
      "\u{FEFF}event: message\(end)data: {\"a\":\(end)data:1}\(end)id: 7\(end)\(end): ping\(end)\(end)data\(end)\(end)retry: 1\(end)data:  x\(end)\(end)data: rest"
    let octets = Array(text.utf8)
    for split in 0...octets.count {
      let (found, rest) = blocks([Array(octets[..<split]), Array(octets[split...])])
      #expect(found.map { $0.data.map { String(decoding: $0, as: UTF8.self) } } == ["{\"a\":\n1}", nil, "", " x"])
      #expect(found.map(\.hasIdentifier) == [true, false, false, false])
      #expect(found.flatMap(\.octets) + rest == octets)
    }
    let (found, _) = blocks(octets.map { [$0] })
    #expect(found.count == 4)
  }

  @Test func dataIsReplacedAndTheRestStays() throws {
    let (found, _) = blocks([Array("id: 1\r\nevent: message\r\ndata: {\r\ndata: }\r\n: c\r\n\r\n".utf8)])
    let block = try #require(found.first)
    #expect(String(decoding: block.replacing(data: Array("{\n1}".utf8)), as: UTF8.self) == "id: 1\r\nevent: message\r\ndata: {\r\ndata: 1}\r\n: c\r\n\r\n")
  }

  @Test func manyLinesOfDataAreOne() throws {
    let (found, _) = blocks([Array((String(repeating: "data:x\n", count: 50_000) + "\n").utf8)])
    #expect(try #require(found.first?.data).count == 99_999)
    #expect(found.count == 1)
  }

  @Test func eventsLikeOursAreRenamed() {
    let (found, _) = blocks([Array("event: payment-receipt\ndata: x\n\n".utf8)])
    #expect(found.flatMap(\.octets) == Array("event: foreign-receipt\ndata: x\n\n".utf8))
  }
}
