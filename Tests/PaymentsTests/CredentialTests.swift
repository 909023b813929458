import Bytes
import Crypto
import Encoding
import Testing

@testable import Payments

@Suite struct CredentialTests {
  let digest = SHA256.hash("body")

  func challenge(alternate: Bool = false, secrets: ChallengeSecrets? = nil) throws -> Challenge {
    try Challenge(
      realm: "api.example.com", method: "prepaid", intent: "charge", request: object(#"{"amount":"2000","currency":"usdc"}"#),
      expires: noon, digest: digest, opaque: object(#"{"method":"GET","n":"AAAAAAAAAAAAAAAAAAAAAA","route":"r"}"#),
      selectsAlternateField: alternate, description: "a quote", secrets: secrets ?? Self.issuing())
  }

  static func issuing() throws -> ChallengeSecrets { try PaymentsTests.secrets() }

  func credential(_ challenge: Challenge, _ change: (inout JSONObject) -> Void = { _ in }) -> String {
    var echo = challenge.echo
    change(&echo)
    return Credential.fieldValue(["challenge": .object(echo), "source": "did:key:z6Mk", "payload": ["type": "transfer"]])
  }

  @Test func readsWhatAClientEchoes() throws {
    let challenge = try challenge()
    let credential = try parse(credential(challenge))
    #expect(credential.challenge == challenge)
    #expect(Base64URL.encode(credential.challengeID.bytes) == challenge.id)
    #expect(credential.request["amount"] == "2000")
    #expect(credential.opaque["route"] == "r")
    #expect(credential.source == "did:key:z6Mk")
    #expect(credential.payload["type"] == "transfer")
    #expect(credential.isAuthentic(try Self.issuing()))
    #expect("\(credential)" == "<credential>")
  }

  @Test func expiresAtItsInstant() throws {
    let credential = try parse(credential(challenge()))
    #expect(!credential.isExpired(at: Timestamp(rfc3339: "2026-11-21T11:59:59Z")!))
    #expect(credential.isExpired(at: noon))
    let without = try parse(self.credential(challenge()) { $0.remove("expires") })
    #expect(without.isExpired(at: Timestamp(rfc3339: "1980-01-01T00:00:00Z")!))
    #expect(!without.isAuthentic(try Self.issuing()))
  }

  @Test(arguments: ["id", "realm", "method", "intent", "request", "expires", "digest", "opaque"])
  func alteringABoundMemberIsSeen(member: String) throws {
    let values: [String: String] = [
      "id": Base64URL.encode(SHA256.hash("x").bytes), "realm": "evil.example.com", "method": "other", "intent": "session",
      "request": Base64URL.encode(Array(#"{"amount":"1","currency":"usdc"}"#.utf8)), "expires": "2027-11-21T12:00:00Z",
      "digest": ContentDigest.text(SHA256.hash("other")), "opaque": Base64URL.encode(Array(#"{"route":"cheap"}"#.utf8)),
    ]
    let altered = try parse(credential(challenge()) { $0.set(member, .string(values[member]!)) })
    #expect(!altered.isAuthentic(try Self.issuing()))
  }

  @Test(arguments: ["expires", "digest", "opaque"])
  func droppingABoundMemberIsSeen(member: String) throws {
    #expect(!(try parse(credential(challenge()) { $0.remove(member) }).isAuthentic(Self.issuing())))
  }

  @Test(arguments: ["expires", "digest", "opaque"])
  func emptyIsNotAbsent(member: String) throws {
    #expect(throws: PaymentError.self) { try parse(credential(challenge()) { $0.set(member, "") }) }
  }

  @Test func descriptionIsNotBound() throws {
    #expect(try parse(credential(challenge()) { $0.remove("description") }).isAuthentic(Self.issuing()))
    #expect(try parse(credential(challenge()) { $0.set("description", "else") }).isAuthentic(Self.issuing()))
  }

  /// One SDK serialises `request` again and echoes `opaque`, the other the reverse.
  @Test func clientsThatSerialiseAgainAreUnderstood() throws {
    let request = Base64URL.encode(Array(#"{ "currency":"usdc", "amount":"2000" }"#.utf8))
    let opaque = Base64URL.encode(Array(#"{"route":"r","n":"AAAAAAAAAAAAAAAAAAAAAA","method":"\u0047ET"}"#.utf8))
    let challenge = try challenge()
    for change: (inout JSONObject) -> Void in [
      { $0.set("request", .string(request)) }, { $0.set("opaque", .string(opaque)) },
      { $0.set("digest", .string(challenge.digest!.replacing(":", with: ""))) },
      { $0.set("request", .string(request)); $0.set("opaque", .string(opaque)) },
    ] {
      #expect(try parse(credential(challenge, change)).isAuthentic(Self.issuing()))
    }
  }

  @Test func secretsRotate() throws {
    let old = try secrets("the-secret-before-with-enough-octets")
    let both = try secrets(previous: ["the-secret-before-with-enough-octets"])
    let issued = try parse(credential(challenge(secrets: old)))
    #expect(issued.isAuthentic(both))
    #expect(!issued.isAuthentic(try Self.issuing()))
    #expect(!(try parse(credential(challenge(secrets: both))).isAuthentic(old)))
  }

  @Test func onlyTheSelectedFieldCounts() throws {
    let plain = try credential(challenge())
    let alternate = try credential(challenge(alternate: true))
    #expect(throws: PaymentError.fieldNotSelected) { try parse(plain, .paymentAuthorization) }
    #expect(throws: PaymentError.fieldNotSelected) { try parse(alternate, .authorization) }
    #expect(try parse(alternate, .paymentAuthorization).isAuthentic(Self.issuing()))
    // Clients that drop the parameter when they echo cannot move the credential.
    let dropped = try parse(credential(challenge(alternate: true)) { $0.remove("header") })
    #expect(!dropped.isAuthentic(try Self.issuing()))
  }

  @Test(arguments: [
    ("not-valid!!!", .notBase64URL), ("", .notBase64URL), ("AB", .notBase64URL), ("e29vcHN9", .malformedJSON), ("W10", .notAnObject),
    ("e30", .missing(.challenge)),
  ] as [(String, PaymentError)])
  func refusesTokens(token: String, error: PaymentError) {
    #expect(throws: error) { try parse("Payment \(token)") }
    #expect(error.problem == .malformedCredential)
  }

  @Test(arguments: [
    (#"{"challenge":[],"payload":{}}"#, .malformed(.challenge)), (#"{"challenge":{}}"#, .missing(.payload)),
    (#"{"challenge":{},"payload":"x"}"#, .malformed(.payload)), (#"{"challenge":{},"payload":{}}"#, .missing(.method)),
    (#"{"challenge":{"method":"prepaid","intent":"charge","realm":"r","request":"e30"},"payload":{}}"#, .missing(.id)),
    (#"{"challenge":{"id":"x","method":"prepaid","intent":"charge","realm":"r","request":"e30"},"payload":{}}"#, .unknownChallenge),
    (#"{"challenge":{"id":7,"method":"prepaid","intent":"charge","realm":"r","request":"e30"},"payload":{}}"#, .malformed(.id)),
    (#"{"challenge":{"id":"x","method":"Prepaid","intent":"charge","realm":"r","request":"e30"},"payload":{}}"#, .malformed(.method)),
    (#"{"challenge":{"id":"x","method":"prepaid","intent":"charge","realm":"","request":"e30"},"payload":{}}"#, .malformed(.realm)),
    (#"{"challenge":{"id":"x","method":"prepaid","intent":"charge","realm":"r","request":"e30","header":"Authorization"},"payload":{}}"#, .malformed(.header)),
    (#"{"challenge":{"id":"x","method":"prepaid","intent":"charge","realm":"r","request":"e30","expires":null},"payload":{}}"#, .malformed(.expires)),
    (#"{"challenge":{"id":"X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4","method":"prepaid","intent":"charge","realm":"r","request":"cQ"},"payload":{}}"#, .malformedJSON),
    (#"{"challenge":{"id":"X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4","method":"prepaid","intent":"charge","realm":"r","request":"e30","opaque":"eyJuIjoxfQ"},"payload":{}}"#, .malformed(.opaque)),
    (#"{"challenge":{"id":"X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4","method":"prepaid","intent":"charge","realm":"r","request":"e30"},"payload":{},"source":1}"#, .malformed(.source)),
    (#"{"challenge":{},"challenge":{},"payload":{}}"#, .malformedJSON), (#"{"challenge":{},"payload":{}} x"#, .malformedJSON),
  ] as [(String, PaymentError)])
  func refusesObjects(json: String, error: PaymentError) {
    #expect(throws: error) { try parse("Payment \(Base64URL.encode(Array(json.utf8)))") }
    #expect(error.problem == .malformedCredential || error == .unknownChallenge)
    #expect(!error.detail.isEmpty)
  }

  @Test func sixtyFourKibibytesAndNoMore() throws {
    let challenge = try challenge()
    func padded(_ count: Int) -> String {
      Credential.fieldValue(["challenge": .object(challenge.echo), "payload": ["x": .string(String(repeating: "y", count: count))]])
    }
    let room = (Credential.limit - (padded(0).utf8.count - 8)) * 3 / 4 - 2
    #expect(try parse(padded(room)).isAuthentic(Self.issuing()))
    #expect(throws: PaymentError.tooLarge(limit: Credential.limit)) { try parse(padded(room + 8)) }
  }

  @Test func unknownMembersAreKeptForTheSignature() throws {
    let value = Credential.fieldValue([
      "challenge": .object(try challenge().echo), "payload": ["x": "y"], "later": ["a": 1],
    ])
    #expect(try parse(value).signedObject["later"]?["a"]?.intValue == 1)
  }

  /// Cut or altered anywhere, a credential is refused or still says nothing that was not issued.
  @Test func everyCutAndMutation() throws {
    let secrets = try Self.issuing()
    let whole = Array(try credential(challenge()).utf8)
    for end in 0..<whole.count {
      let cut = String(decoding: whole[..<end], as: UTF8.self)
      #expect(throws: PaymentError.self) { try parse(cut) }
    }
    let original = try parse(String(decoding: whole, as: UTF8.self))
    var generator = SeededGenerator(seed: 11)
    for _ in 0..<3_000 {
      var octets = whole
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        octets[Int.random(in: 8..<octets.count, using: &generator)] = UInt8.random(in: 0x2B...0x7A, using: &generator)
      }
      guard let altered = try? parse(String(decoding: octets, as: UTF8.self)), altered.isAuthentic(secrets) else { continue }
      #expect(altered.request == original.request)
      #expect(altered.opaque == original.opaque)
      #expect(altered.challengeID == original.challengeID)
      #expect(altered.challenge.expires == original.challenge.expires)
    }
  }
}

/// A credential that pympp 0.16 made for a challenge with these parameters: it sorts its members and escapes beyond ASCII.
private let foreignToken: [String] = [
  "eyJjaGFsbGVuZ2UiOnsiZGVzY3JpcHRpb24iOiJzYXkgXCJoaVwiIGNhZlx1MDBlOSIsImV4cGlyZXMiOiIyMDI2LTExLTIxVDEyOjA1OjAwWiIsImlkIjoi",
  "WGVreW9wb2R2WlFsMVR3THRkSmc4R1RuZVBsTGN3cG5XU0J4Z2hDWEQwOCIsImludGVudCI6ImNoYXJnZSIsIm1ldGhvZCI6InByZXBhaWQiLCJvcGFxdWUi",
  "OiJleUp0WlhSb2IyUWlPaUpIUlZRaUxDSnVJam9pUVZGQlFVRkJRVUZCUVVGRFFVRkJRVUZCUVVGQlFTSXNJbkJ5YVdObElqb2lNREV5TXpRMU5qYzRPV0Zp",
  "WTJSbFppSXNJbkp2ZFhSbElqb2ljWFZ2ZEdWeklpd2lkR0Z5WjJWMElqb2lMM2dpZlEiLCJyZWFsbSI6ImFwaS5leGFtcGxlLmNvbSIsInJlcXVlc3QiOiJl",
  "eUpoYlc5MWJuUWlPaUl5TURBd0lpd2lZM1Z5Y21WdVkza2lPaUoxYzJSaklpd2laR1Z6WTNKcGNIUnBiMjRpT2lKallXYkRxU0RpbUpVaUxDSnRaWFJvYjJS",
  "RVpYUmhhV3h6SWpwN0ltUmxZMmx0WVd4eklqbzJMQ0pzWldSblpYSWlPaUpzSWl3aWNtVnpiM1Z5WTJVaU9uc2liV1YwYUc5a0lqb2lSMFZVSWl3aWRYSnNJ",
  "am9pYUhSMGNITTZMeTloY0drdVpYaGhiWEJzWlM1amIyMHZlQ0o5ZlN3aWNtVmphWEJwWlc1MElqb2lZV050WlNKOSJ9LCJwYXlsb2FkIjp7InNpZ25hdHVy",
  "ZSI6InMiLCJ0eXBlIjoidHJhbnNmZXIiLCJ3YWxsZXQiOiJkaWQ6a2V5OnoifSwic291cmNlIjoiZGlkOmtleTp6In0",
]

@Suite struct ForeignCredentialTests {
  @Test func verifies() throws {
    let credential = try parse("Payment " + foreignToken.joined())
    #expect(credential.challenge.id == "XekyopodvZQl1TwLtdJg8GTnePlLcwpnWSBxghCXD08")
    #expect(credential.challenge.description == #"say "hi" café"#)
    #expect(credential.request["description"] == "café ☕")
    #expect(credential.payload["type"] == "transfer")
    #expect(credential.isAuthentic(try secrets()))
  }
}

@Suite struct CredentialScanTests {
  private func scan(_ value: String) -> CredentialScan { Array(value.utf8).withUnsafeBytes { CredentialScan($0) } }

  @Test(arguments: [
    ("Payment abc", CredentialScan.one(8..<11)), ("payment  abc", .one(9..<12)), ("PAYMENT abc", .one(8..<11)), ("Payment", .one(7..<7)),
    ("Payment ", .one(8..<8)), ("", .none), ("Bearer abc", .none), ("Payments abc", .none), ("Basic UGF5bWVudA==", .none),
    ("Digest username=\"x\", realm=\"payment\"", .none), ("Payment abc, Payment def", .several), ("Payment abc,payment def", .several),
    ("Bearer abc, Payment def", .several), ("Bearer abc ,\t PAYMENT def", .several), ("Payment abc, Bearer def", .one(8..<23)),
    ("Bearer abc, Paymentx", .none), ("Bearer payment abc", .none),
  ])
  func finds(value: String, expected: CredentialScan) { #expect(scan(value) == expected) }

  @Test func everyCut() {
    let value = "Bearer abc, Payment def"
    for end in 0..<value.utf8.count {
      let found = scan(String(value.prefix(end)))
      #expect(found == (end >= 19 ? .several : .none))
    }
  }
}
