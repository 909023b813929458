import Bytes
import Encoding
import Testing

@testable import Payments

@Suite struct ChallengeListTests {
  private static let base = #"id="a", realm="r", method="tempo", intent="charge", request="e30""#

  private func ids(_ value: String) -> [String] { ChallengeList.parse(value).map(\.id) }

  @Test func readsSeveralInOneValue() {
    let second = #"id="b", realm="r", method="tempo", intent="session", request="e30""#
    for separator in [", ", ",", " , , ", ",\t,"] {
      let list = ChallengeList.parse("Payment \(Self.base)\(separator)Payment \(second)")
      #expect(list.map(\.id) == ["a", "b"])
      #expect(list.map(\.intent) == ["charge", "session"])
    }
    #expect(ChallengeList.parse(["Payment \(Self.base)", "Payment \(second)"]).count == 2)
  }

  @Test func otherSchemesLeakNothing() {
    #expect(ids("Basic realm=\"other\", Payment \(Self.base), Digest realm=\"x\", id=\"z\", intent=\"bogus\"") == ["a"])
    #expect(ids("Bearer, Payment \(Self.base)") == ["a"])
    #expect(ids("Negotiate abc/+=, Payment \(Self.base)") == ["a"])
    #expect(ids("Negotiate YWJj==, Basic, Payment \(Self.base), Bearer error=\"x\"") == ["a"])
    #expect(ids("Digest realm=\"a, Payment id=\\\"q\\\"\", nonce=1, Payment \(Self.base)") == ["a"])
    #expect(ids(#"Basic realm="other""#) == [])
    #expect(ids("") == [])
  }

  @Test func quotesHideStructure() throws {
    let challenge = try Challenge.parse(
      #"Payment id="a,b", realm="Payment id=c", method="tempo", intent="charge", request="e30", description="Payment id=\"spoofed\", x""#)
    #expect(challenge.id == "a,b")
    #expect(challenge.realm == "Payment id=c")
    #expect(challenge.description == #"Payment id="spoofed", x"#)
    #expect(try Challenge.parse("Payment \(Self.base), description=\"Path C:\\\\tempo\\\\api\"").description == #"Path C:\tempo\api"#)
    #expect(try Challenge.parse("Payment \(Self.base), description=\"tab\there café\"").description == "tab\there café")
  }

  @Test func spellingsThatAreOne() throws {
    let expected = try Challenge.parse("Payment \(Self.base)")
    for value in [
      "payment \(Self.base)", "PAYMENT \(Self.base)", #"Payment ID="a", Realm="r", METHOD="tempo", intent="charge", ReQuEsT="e30""#,
      "Payment id=a, realm=r, method=tempo, intent=charge, request=e30", "Payment   id = \"a\" ,  realm =\"r\" ,method= tempo,intent=charge,request=\"e30\"",
      #"Payment request="e30", realm="r", intent="charge", id="a", method="tempo""#, "Payment \(Self.base), foo=\"bar\", baz=qux",
      " , Payment \(Self.base),",
    ] {
      #expect(try Challenge.parse(value) == expected, "\(value)")
    }
  }

  @Test(arguments: [
    ("Bearer token123", .notPaymentScheme), ("", .notPaymentScheme), ("Payment", .missing(.method)),
    (#"Payment realm="r", method="tempo", intent="charge", request="e30""#, .missing(.id)),
    (#"Payment id="", realm="r", method="tempo", intent="charge", request="e30""#, .missing(.id)),
    (#"Payment id="a", method="tempo", intent="charge", request="e30""#, .missing(.realm)),
    (#"Payment id="a", realm="r", intent="charge", request="e30""#, .missing(.method)),
    (#"Payment id="a", realm="r", method="tempo", request="e30""#, .missing(.intent)),
    (#"Payment id="a", realm="r", method="tempo", intent="charge""#, .missing(.request)),
    (#"Payment id="a", realm="r", method="Tempo", intent="charge", request="e30""#, .malformed(.method)),
    (#"Payment id="a", realm="r", method="tempo", intent="a_b", request="e30""#, .malformed(.intent)),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="not-valid!!!""#, .notBase64URL),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="bm90IGpzb24""#, .malformedJSON),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="W10""#, .notAnObject),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="e30", id="b""#, .duplicate(.id)),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="e30", header="Cookie""#, .malformed(.header)),
    (#"Payment id="a", realm="r", method="tempo", intent="charge", request="e30", opaque="eyJuIjoxfQ""#, .malformed(.opaque)),
  ] as [(String, PaymentError)])
  func refuses(value: String, error: PaymentError) {
    #expect(throws: error) { try Challenge.parse(value) }
    #expect(ids(value) == [])
    #expect(ids("\(value), Payment \(Self.base)") == ["a"])
  }

  @Test func whatFollowsASyntaxErrorIsDropped() throws {
    let challenge = try Challenge.parse("Payment \(Self.base), description=\"Payment for \"Premium\" service — 50% off!\"")
    #expect(challenge.description == "Payment for ")
    #expect(ids("Payment \(Self.base), fuzz=\"" + String(repeating: "\\", count: 12_000)) == ["a"])
    #expect(ids("Payment \(Self.base), =, Payment id=b") == ["a"])
  }

  @Test func aLongValueIsRefused() {
    let value = "Payment \(Self.base), x=\"" + String(repeating: "y", count: ChallengeList.valueLimit) + "\""
    #expect(throws: PaymentError.tooLarge(limit: ChallengeList.valueLimit)) { try Challenge.parse(value) }
  }

  /// Cut anywhere, the value yields the challenges that are whole, and never one that differs from them.
  @Test func everyCut() throws {
    let whole = "Basic realm=\"x\", Payment \(Self.base), Payment id=\"b\", realm=\"r\", method=\"tempo\", intent=\"charge\", request=\"e30\""
    let full = ChallengeList.parse(whole)
    #expect(full.count == 2)
    for end in 0...whole.utf8.count {
      let cut = ChallengeList.parse(String(decoding: whole.utf8.prefix(end), as: UTF8.self))
      #expect(cut.count <= 2)
      for challenge in cut { #expect(full.contains(challenge)) }
    }
  }

  @Test func mutationsNeverTrap() {
    var generator = SeededGenerator(seed: 7)
    let whole = Array("Basic realm=\"x\", Payment \(Self.base), description=\"a\\\"b\", Payment id=\"b\", realm=r, method=m, intent=i, request=e30".utf8)
    for _ in 0..<4_000 {
      var octets = whole
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        octets[Int.random(in: octets.indices, using: &generator)] = [0x22, 0x2C, 0x3D, 0x20, 0x5C, 0x7C, UInt8.random(in: 0...255, using: &generator)].randomElement(using: &generator)!
      }
      for challenge in ChallengeList.parse(String(decoding: octets, as: UTF8.self)) { #expect(!challenge.id.isEmpty) }
    }
  }
}
