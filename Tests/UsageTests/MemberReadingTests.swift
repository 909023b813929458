import Testing
import Usage

/// One top-level member of a request's content, as every server reads it.
@Suite struct MemberReadingTests {
  private static let model = MemberReading.paths(of: "model")

  private func reading(_ body: String) throws(UsageError) -> MemberReading {
    try MemberReading(Array(body.utf8).span.bytes, Self.model)
  }

  @Test(arguments: [
    (#"{"model":"gpt-4o"}"#, MemberReading.text("gpt-4o")), (#" { "a" : [1,{"model":"x"}], "model" : "y" } "#, .text("y")),
    (#"{"m\u006fdel":"g\u0070t"}"#, .text("gpt")), (#"{"model":""}"#, .text("")), (#"{}"#, .absent), (#"{"model":null}"#, .absent),
    (#"{"messages":{"model":"x"}}"#, .absent), (#"{"model":"a","model":"b"}"#, .ambiguous), (#"{"model":"a","model":"a"}"#, .ambiguous),
    (#"{"model":"a","model":null}"#, .ambiguous), (#"{"model":null,"model":"a"}"#, .ambiguous), (#"{"Model":"a"}"#, .ambiguous),
    (#"{"MODEL":"a","model":"b"}"#, .ambiguous), (#"{"model":1}"#, .ambiguous), (#"{"model":true}"#, .ambiguous), (#"{"model":["a"]}"#, .ambiguous),
    (#"{"model":{"model":"a"}}"#, .ambiguous), (#"{"model":"\#(String(repeating: "x", count: 129))"}"#, .ambiguous),
    (#"{"models":"a","mode":"b"}"#, .absent),
  ])
  func readsOneMember(body: String, expected: MemberReading) throws {
    #expect(try reading(body) == expected)
  }

  @Test(arguments: ["", "null", "[]", #"["model"]"#, #"[{"model":"a"}]"#, #""model""#, #"{"model":"a""#, #"{"model":"a"}}"#, #"{"model":"a"} x"#, "model=a", "{'model':'a'}"])
  func refusesWhatIsNoObject(body: String) {
    #expect(throws: UsageError.self) { try reading(body) }
  }

  @Test func noOctetsTrap() {
    var state: UInt64 = 5
    let alphabet = Array(#"{}[]":,model \u0064n1"#.utf8)
    for _ in 0..<20_000 {
      var body: [UInt8] = []
      for _ in 0..<24 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        body.append(alphabet[Int(state >> 33) % alphabet.count])
      }
      _ = try? MemberReading(body.span.bytes, Self.model)
    }
  }
}
