import Testing

@testable import Payments

@Suite struct AcceptPaymentTests {
  private func preferences(_ value: String) -> AcceptPayment? { Array(value.utf8).withUnsafeBytes { AcceptPayment($0) } }

  private func rank(_ value: String, _ offers: [String]) throws -> [String] {
    let pairs = offers.map { $0.split(separator: "/") }.map { (method: String($0[0]), intent: String($0[1])) }
    return try #require(preferences(value)).rank(pairs).map { offers[$0] }
  }

  /// The examples of the draft.
  @Test(arguments: [
    ("tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3", ["stripe/charge", "solana/charge", "tempo/charge", "tempo/session"], ["tempo/charge", "tempo/session", "stripe/charge", "solana/charge"]),
    ("tempo/charge, solana/charge", ["solana/charge", "tempo/charge"], ["solana/charge", "tempo/charge"]),
    ("tempo/*, solana/*;q=0.6, stripe/charge;q=0.2", ["stripe/charge", "tempo/session", "tempo/charge", "solana/charge"], ["tempo/session", "tempo/charge", "solana/charge", "stripe/charge"]),
    ("tempo/charge, tempo/session;q=0, solana/charge;q=0.8, stripe/charge;q=0.4", ["tempo/charge", "tempo/session", "solana/charge", "stripe/charge"], ["tempo/charge", "solana/charge", "stripe/charge"]),
    ("tempo/*, solana/*;q=0.6, */session;q=0.3", ["x/session", "tempo/session", "solana/session", "x/charge"], ["tempo/session", "solana/session", "x/session"]),
    // The specific range decides, whatever the general one weighs.
    ("*/*, prepaid/session;q=0.1", ["prepaid/session", "prepaid/charge"], ["prepaid/charge", "prepaid/session"]),
    ("*/*;q=0, prepaid/charge", ["prepaid/session", "prepaid/charge"], ["prepaid/charge"]),
    ("*/session;q=0.2, prepaid/*;q=0.9", ["prepaid/charge", "prepaid/session"], ["prepaid/charge", "prepaid/session"]),
    // Nothing is left: everything is offered.
    ("tempo/charge", ["prepaid/charge", "prepaid/session"], ["prepaid/charge", "prepaid/session"]),
    ("*/*;q=0", ["prepaid/charge"], ["prepaid/charge"]),
  ])
  func ranks(value: String, offers: [String], expected: [String]) throws {
    #expect(try rank(value, offers) == expected)
  }

  @Test(arguments: ["a/b;q=1", "a/b ; q=0.5", "a/b;Q=0.123", "a/b;q=1.000", "a/b;q=0.", "a/b,", ",,a/b ,", "*/*", "x-1:y_z/Charge"])
  func accepts(value: String) { #expect(preferences(value) != nil) }

  @Test(arguments: ["", ",", "a", "a/", "/b", "a/b/c", "a/b;", "a/b;q", "a/b;q=", "a/b;q=2", "a/b;q=1.1", "a/b;q=0.1234", "a/b;q=-1", "a/b;q=.5", "a/b;level=1", "A/b", "a b/c", "a/b;q=0.5;x=1", "é/b"])
  func refuses(value: String) { #expect(preferences(value) == nil) }

  @Test func listsAreBounded() {
    #expect(preferences(Array(repeating: "a/b", count: AcceptPayment.rangeLimit).joined(separator: ",")) != nil)
    #expect(preferences(Array(repeating: "a/b", count: AcceptPayment.rangeLimit + 1).joined(separator: ",")) == nil)
  }

  @Test func mutationsNeverTrap() {
    var generator = SeededGenerator(seed: 3)
    let offers = [(method: "a", intent: "b"), (method: "c", intent: "d")]
    for _ in 0..<4_000 {
      var octets = Array("a/b;q=0.5, */d;q=1.000, c/*".utf8)
      for _ in 0..<3 { octets[Int.random(in: octets.indices, using: &generator)] = UInt8.random(in: 0x20...0x7F, using: &generator) }
      let ranked = octets.withUnsafeBytes { AcceptPayment($0) }?.rank(offers)
      #expect(ranked.map { !$0.isEmpty && Set($0).count == $0.count } ?? true)
    }
  }
}
