import Bytes
import Encoding
import Testing

@testable import MCP

func request(_ text: String) throws(MCPError) -> MCPRequest {
  try Array(text.utf8).withUnsafeBufferPointer { (octets) throws(MCPError) in try MCPRequest(UnsafeRawBufferPointer(octets)) }
}

func forwarded(_ text: String, dropping: Set<Int> = []) throws -> String {
  try Array(text.utf8).withUnsafeBytes { octets in
    String(decoding: try MCPRequest(octets).forwarded(octets, dropping: dropping), as: UTF8.self)
  }
}

func refusal(_ text: String) -> MCPError? {
  do {
    _ = try request(text)
    return nil
  } catch { return error }
}

@Suite struct RequestTests {
  @Test func tellsWhatIsCancelled() throws {
    func cancelled(_ params: String) throws -> RPCIdentifier? {
      try request(#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":\#(params)}"#).messages[0].cancelled
    }
    let seven = try request(#"{"jsonrpc":"2.0","id":7.0,"method":"tools/call","params":{"name":"a"}}"#).messages[0].identifier
    #expect(try cancelled(#"{"requestId":7,"reason":"requestId"}"#) == seven)
    #expect(try cancelled(#"{"requestId":"7"}"#) != seven)
    #expect(try cancelled("{}") == nil)
    #expect(refusal(#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"requestId":8}}"#) != nil)
    #expect(refusal(#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"RequestId":7}}"#) != nil)
    #expect(try request(#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","requestId":7}}"#).messages[0].cancelled == nil)
  }

  @Test func tellsWhatIsCalled() throws {
    let read = try request(#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"search","arguments":{"name":"other"}}}"#)
    #expect(!read.isBatch)
    #expect(read.messages[0].subject == .call(try CallTarget(kind: .tool, name: "search")))
    #expect(read.messages[0].isRequest)
    #expect(read.isUntouched)
    let resource = try request(#"{"jsonrpc":"2.0","id":"a","method":"resources\/read","params":{"uri":"file:///a","name":"x"}}"#)
    #expect(resource.messages[0].subject == .call(try CallTarget(kind: .resource, name: "file:///a")))
    let prompt = try request(#"{"jsonrpc":"2.0","id":null,"method":"prompts/get","params":{"n\u0061me":"p\u00e9"}}"#)
    #expect(prompt.messages[0].subject == .call(try CallTarget(kind: .prompt, name: "pé")))
    #expect(prompt.messages[0].identifier == .null)
  }

  @Test(arguments: [
    ("tools/list", MCPRequest.Subject.list(.tools)), ("resources/list", .list(.resources)), ("prompts/list", .list(.prompts)),
    ("initialize", .capabilities), ("server/discover", .capabilities), ("ping", .other), ("tools/callx", .other), ("Tools/Call", .other),
  ])
  func knowsItsMethods(method: String, subject: MCPRequest.Subject) throws {
    #expect(try request(#"{"jsonrpc":"2.0","id":1,"method":"\#(method)"}"#).messages[0].subject == subject)
  }

  @Test func tellsRequestsNotificationsAndResponsesApart() throws {
    let read = try request(
      #"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":2,"result":{}},{"jsonrpc":"2.0","id":3,"error":{}}]"#)
    #expect(read.isBatch)
    #expect(read.messages.map(\.isRequest) == [true, false, false, false])
    #expect(read.messages.map(\.isResponse) == [false, false, true, true])
  }

  @Test(arguments: [
    "1", "1.0", "-0", "1e2", "9007199254740993", "123456789012345678901234567890", "0.1", "\"a\"", "\"\"", #""\u00e9\"""#, "null",
    "\"日本\"",
  ])
  func echoesIdsExactly(id: String) throws {
    let read = try request(#"{"jsonrpc":"2.0","id": \#(id) ,"method":"ping"}"#)
    #expect(read.messages[0].identifier?.octets == Array(id.utf8))
    let reply = RPCReply.error(try #require(read.messages[0].identifier), .refused)
    #expect(String(decoding: reply, as: UTF8.self).contains(#""id":\#(id),"#))
  }

  @Test func refusesWhatTwoReadersReadDifferently() {
    let cases: [(String, MCPError)] = [
      (#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#, .duplicateMember(offset: 40)),
      (#"{"jsonrpc":"2.0","id":1,"method":"ping","m\u0065thod":"x"}"#, .duplicateMember(offset: 40)),
      (#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#, .ambiguousMember(offset: 40)),
      (#"{"jsonrpc":"2.0","id":1,"method":"ping","paramſ":{}}"#, .ambiguousMember(offset: 40)),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","name":"b"}}"#, .duplicateMember(offset: 67)),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","NAME":"b"}}"#, .ambiguousMember(offset: 67)),
      (#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, .duplicateMember(offset: 24)),
      (#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{},"params":{}}"#, .duplicateMember(offset: 52)),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{},"_meta":{}}}"#, .duplicateMember(offset: 78)),
      (#"[{"jsonrpc":"2.0","id":1,"method":"a"},{"jsonrpc":"2.0","id":1.0,"method":"b"}]"#, .repeatedIdentifier(offset: 39)),
    ]
    for (text, error) in cases { #expect(refusal(text) == error, "\(text)") }
  }

  @Test func refusesWhatIsNoMessage() {
    let cases: [(String, MCPError)] = [
      ("[]", .emptyBatch), ("{}", .invalidMessage(offset: 0)), ("3", .invalidMessage(offset: 0)), ("[3]", .invalidMessage(offset: 1)),
      (#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, .invalidMessage(offset: 0)),
      (#"{"id":1,"method":"x"}"#, .invalidMessage(offset: 0)),
      (#"{"jsonrpc":"2.0","id":1,"method":3}"#, .invalidMessage(offset: 33)),
      (#"{"jsonrpc":"2.0","id":1,"method":"x","result":1}"#, .invalidMessage(offset: 33)),
      (#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#, .invalidMessage(offset: 0)),
      (#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, .invalidIdentifier(offset: 22)),
      (#"{"jsonrpc":"2.0","id":true,"method":"x"}"#, .invalidIdentifier(offset: 22)),
      (#"{"jsonrpc":"2.0","id":1e999,"method":"x"}"#, .invalidIdentifier(offset: 22)),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, .missingTarget),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["search"]}"#, .missingTarget),
      (#"{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"name":"x"}}"#, .missingTarget),
      (#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\#(String(repeating: "a", count: 2049))"}}"#, .targetTooLong),
      ("[" + Array(repeating: #"{"jsonrpc":"2.0","method":"x"}"#, count: 65).joined(separator: ",") + "]", .tooManyMessages),
    ]
    for (text, error) in cases { #expect(refusal(text) == error, "\(text.prefix(80))") }
  }

  @Test(arguments: [
    "", " ", "{", "}", "{]", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "01", "-", "1.", "1e", "+1", "tru", "nul", "\"", "\"\\x\"", "\"\\u12\"",
    "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\u{1}\"", "{} {}", "NaN", "'a'", "{\"a\":}",
  ])
  func refusesWhatIsNoJSON(text: String) {
    guard case .notJSON = refusal(text) else {
      Issue.record("read: \(text)")
      return
    }
  }

  @Test(arguments: [[0xC0, 0x80], [0xC3], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF], [0x80], [0xF0, 0x9F, 0x98]] as [[UInt8]])
  func refusesWhatIsNotUTF8(octets: [UInt8]) {
    let text = Array(#"{"jsonrpc":"2.0","id":1,"method":"ping","x":""#.utf8) + octets + Array("\"}".utf8)
    #expect(throws: MCPError.notJSON(offset: 45)) { try text.withUnsafeBytes { try MCPRequest($0) } }
  }

  @Test func boundsDepth() throws {
    func nested(_ count: Int) -> String {
      #"{"jsonrpc":"2.0","id":1,"method":"x","params":"# + String(repeating: "[", count: count) + String(repeating: "]", count: count) + "}"
    }
    #expect(refusal(nested(63)) == nil)
    guard case .tooDeep = refusal(nested(64)) else {
      Issue.record("depth is not bounded")
      return
    }
  }

  // MARK: What goes on

  @Test func credentialsAreTakenOutAndTheRestStaysOctetForOctet() throws {
    let text =
      #" {"jsonrpc": "2.0", "id":1e0,"method":"tools/call","params":{"name":"a","_meta":{"progressToken" : 1,"org.paymentauth/credential":{"x":[1]}, "y":2},"arguments":{"é":1.50}},"_meta":{"x402/payment":{}}}"#
    #expect(
      try forwarded(text)
        == #"{"jsonrpc": "2.0", "id":1e0,"method":"tools/call","params":{"name":"a","_meta":{"progressToken" : 1,"y":2},"arguments":{"é":1.50}},"_meta":{}}"#)
    #expect(try request(text).hasCredential(0))
    #expect(try !request(text).isUntouched)
  }

  @Test func escapedNamesOfCredentialsAreFoundToo() throws {
    let text = #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"org\u002epaymentauth\/credential":{}}}}"#
    #expect(try request(text).hasCredential(0))
    #expect(try forwarded(text) == #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{}}}"#)
  }

  @Test func credentialsOfOtherMethodsAreTakenOutAsWell() throws {
    let text = #"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"org.paymentauth/credential":{}}}}"#
    #expect(try forwarded(text) == #"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{}}}"#)
  }

  @Test func twoCredentialsAreRefused() {
    #expect(
      refusal(
        #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"org.paymentauth/credential":{}}},"_meta":{"org.paymentauth/credential":{}}}"#)
        == .severalCredentials)
  }

  @Test func paymentsOfX402AreFoundAndTakenOut() throws {
    let text = #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"x402/payment":{"x402Version":2},"p":1}}}"#
    let found = try Array(text.utf8).withUnsafeBytes { octets in
      try MCPRequest(octets).payment(0, in: octets).map { String(decoding: $0, as: UTF8.self) }
    }
    #expect(found == #"{"x402Version":2}"#)
    #expect(try request(text).hasCredential(0) && request(text).messages[0].paysByX402)
    #expect(try forwarded(text) == #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","_meta":{"p":1}}}"#)
    let both = text.replacing(#""p":1"#, with: #""org.paymentauth/credential":{}"#)
    #expect(refusal(both) == .severalCredentials)
  }

  @Test func theSameQuestionIsTheSameUnderAnotherIdAndWithAnotherPayment() throws {
    func question(_ text: String) throws -> String {
      try Array(text.utf8).withUnsafeBytes { octets in
        String(decoding: try #require(try MCPRequest(octets).question(0, in: octets)), as: UTF8.self)
      }
    }
    let first = #"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"b":1,"a":2}}}"#
    let again = #"{"id":"x","method":"tools/call","jsonrpc":"2.0","params":{"_meta":{"x402/payment":{},"progressToken":1},"arguments":{"a":2, "b":1},"name":"a"}}"#
    #expect(try question(first) == #"{"method":"tools/call","params":{"arguments":{"a":2,"b":1},"name":"a"}}"#)
    #expect(try question(again) == question(first))
    #expect(try question(first.replacing(#""b":1"#, with: #""b":3"#)) != question(first))
    // What only one of two readers takes has no such form: its octets stand for it.
    let deep = first.replacing(#""b":1"#, with: #""b":"# + String(repeating: "[", count: 40) + String(repeating: "]", count: 40))
    #expect(try Array(deep.utf8).withUnsafeBytes { octets in try MCPRequest(octets).question(0, in: octets) } == nil)
  }

  @Test func messagesOfABatchAreDropped() throws {
    let text = #"[{"jsonrpc":"2.0","method":"a"} , {"jsonrpc":"2.0","method":"b"},{"jsonrpc":"2.0","method":"c"}]"#
    #expect(try forwarded(text, dropping: [1]) == #"[{"jsonrpc":"2.0","method":"a"},{"jsonrpc":"2.0","method":"c"}]"#)
    #expect(try forwarded(text, dropping: [0, 1, 2]) == "")
  }

  @Test func idsOfWhatIsRefusedAreFound() {
    func id(_ text: String) -> String {
      String(decoding: Array(text.utf8).withUnsafeBytes { MCPRequest.identifier(of: $0) }.octets, as: UTF8.self)
    }
    #expect(id(#"{"jsonrpc":"2.0","id":"x","method":"a","method":"b"}"#) == "\"x\"")
    #expect(id(#"{"id":1,"id":2}"#) == "null")
    #expect(id(#"{"id":[]}"#) == "null")
    #expect(id("{") == "null")
    #expect(id("[]") == "null")
  }

  // MARK: Fuzz

  @Test func readsWhatTheOtherReaderReads() throws {
    var seed: UInt64 = 42
    func random(_ bound: Int) -> Int {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(seed >> 33) % bound
    }
    let start = Array(
      #"{"jsonrpc":"2.0","id":1.5e1,"method":"tools/call","params":{"name":"s\u00e9\ud83d\ude00é","_meta":{"org.paymentauth/credential":{"a":[null,true]}},"a":-0.1}}"#.utf8)
    let alphabet = Array(#"{}[]",:\u0e19-.tfn "#.utf8) + [0xC3, 0xA9, 0x00, 0xFF]
    for _ in 0..<20_000 {
      var text = start
      for _ in 0...random(3) {
        let index = random(text.count)
        switch random(3) {
        case 0: text[index] = alphabet[random(alphabet.count)]
        case 1: text.remove(at: index)
        default: text.insert(alphabet[random(alphabet.count)], at: index)
        }
      }
      let isRead = text.withUnsafeBytes { octets in (try? JSONScanner(text: octets).value()) != nil }
      do {
        _ = try JSON.parse(text, limits: JSONLimits(octets: 1 << 20, depth: RPCText.depthLimit))
        #expect(isRead)
      } catch {
        switch error {
        case .duplicateName, .numberOutOfRange: break
        default: #expect(!isRead, "\(error): \(String(decoding: text, as: UTF8.self))")
        }
      }
      // Whatever comes in, what goes on is JSON without a credential.
      if let out = text.withUnsafeBytes({ octets in (try? MCPRequest(octets)).map { $0.forwarded(octets) } }) {
        #expect(out.withUnsafeBytes { (try? JSONScanner(text: $0).value()) != nil })
        #expect(out.withUnsafeBytes { octets in (try? MCPRequest(octets))?.hasCredential(0) != true })
      }
    }
  }
}
