import Bytes
import Encoding
import Testing

@testable import TLS

private let made = Certificates.shared

@Suite struct TLSIdentityTests {
  @Test func identitySaysWhatItProves() throws {
    let identity = try made.identity("first")
    #expect(identity.names == ["first.test", "second.test"])
    #expect(identity.subject == "CN=First,O=Test" && "\(identity)" == "CN=First,O=Test")
    #expect(identity.expires.rfc3339Milliseconds == "2040-01-01T00:00:00.000Z")
    #expect(try made.identity("address").names == [])
    let chained = try made.identity("below", chain: ["middle", "ca"])
    #expect(chained.names == ["below.test"])
    #expect(chained.expires < Timestamp(seconds: 2_200_000_000), "the root ends before the identity does")
    var text = ""
    dump(identity, to: &text)
    #expect(!text.contains("0x") && !text.contains("key"))
  }

  @Test func brokenFilesAreRefusedForTheirReason() throws {
    let (chain, key) = (made.octets("first.pem"), made.octets("first.key"))
    let other = made.octets("wild.key")
    let rsa = made.octets("firstrsa.key")
    let torn = Array(chain[..<(chain.count / 2)]) + Array("\n-----END CERTIFICATE-----\n".utf8)
    let cases: [([UInt8], [UInt8], TLSError)] = [
      ([], key, .certificateMissing),
      (key, key, .certificateMissing),
      (Array("no PEM at all".utf8), key, .certificateMissing),
      (torn, key, .certificateUnreadable(position: 1)),
      (chain + torn, key, .certificateUnreadable(position: 2)),
      (chain, [], .keyMissing),
      (chain, chain, .keyMissing),
      (chain, Array(key[..<60]) + Array("\n-----END PRIVATE KEY-----\n".utf8), .keyUnreadable),
      (chain, made.octets("first.encrypted.key"), .keyEncrypted),
      (chain, other, .keyMismatch),
      (chain, rsa, .keyMismatch),
      (made.octets("short.pem"), made.octets("short.key"), .certificateWeak),
      (made.octets("below.pem") + made.octets("first.pem"), made.octets("below.key"), .certificateOutOfOrder(position: 2)),
      (made.octets("below.pem") + made.octets("ca.pem"), made.octets("below.key"), .certificateOutOfOrder(position: 2)),
    ]
    for (index, (chain, key, expected)) in cases.enumerated() {
      #expect(throws: expected, "case \(index)") { _ = try TLSIdentity(chain: chain, key: SecretBytes(key), now: .now()) }
    }
  }

  @Test func timesAreLookedAt() throws {
    let expired = Timestamp(seconds: 1_609_459_200)
    #expect(throws: TLSError.certificateExpired(position: 1, at: expired)) { _ = try made.identity("expired") }
    let begins = Timestamp(seconds: 2_366_841_600)
    #expect(throws: TLSError.certificateNotYetValid(position: 1, from: begins)) { _ = try made.identity("future") }
    let (chain, key) = (made.octets("expired.pem"), made.secret("expired.key"))
    _ = try TLSIdentity(chain: chain, key: key, now: expired)
    #expect(throws: TLSError.self) { _ = try TLSIdentity(chain: chain, key: key, now: expired + .seconds(1)) }
    #expect(throws: TLSError.self) { _ = try TLSIdentity(chain: chain, key: key, now: Timestamp(seconds: 1_577_836_799)) }
    _ = try TLSIdentity(chain: chain, key: key, now: Timestamp(seconds: 1_577_836_800))
  }

  @Test func authoritiesAreRead() throws {
    #expect(throws: TLSError.authorityMissing) { _ = try TLSAuthorities(pem: []) }
    let root = made.octets("ca.pem")
    let torn = Array(root[..<100]) + Array("\n-----END CERTIFICATE-----\n".utf8)
    #expect(throws: TLSError.authorityUnreadable(position: 2)) { _ = try TLSAuthorities(pem: root + torn) }
    let both = try TLSAuthorities(pem: root + made.octets("other.pem") + root)
    #expect(both.isRead(from: root + made.octets("other.pem") + root) && !both.isRead(from: root))
    for name in ["first", "foreign"] {
      let server = try TLSServerContext(identities: [try made.identity(name)], ticketKeys: TLSTicketKeys())
      var pair = try EnginePair(server, try TLSClientContext(trust: .authorities(both)))
      pair.run()
      #expect(pair.client.isEstablished == true)
    }
  }

  @Test func contextsNeedIdentitiesWithNames() throws {
    #expect(throws: TLSError.identityMissing) { _ = try TLSServerContext(identities: [], ticketKeys: TLSTicketKeys()) }
    _ = try TLSServerContext(identities: [try made.identity("nameless")], ticketKeys: TLSTicketKeys())
    #expect(throws: TLSError.nameMissing(identity: 2)) {
      _ = try TLSServerContext(identities: [try made.identity("first"), try made.identity("nameless")], ticketKeys: TLSTicketKeys())
    }
  }

  @Test func anySpellingOfPEMEndsInAnIdentityOrAReason() throws {
    var entropy = SystemRandomNumberGenerator()
    let seed = UInt64.random(in: 0 ..< .max, using: &entropy)
    var generator = SplitMix(state: seed)
    let (chain, key) = (made.octets("first.pem") + made.octets("ca.pem"), made.octets("first.key"))
    for _ in 0..<400 {
      var (mutant, mutantKey) = (chain, key)
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        mutant[Int.random(in: 0..<mutant.count, using: &generator)] = UInt8.random(in: 0...127, using: &generator)
        if Bool.random(using: &generator) { mutantKey[Int.random(in: 0..<mutantKey.count, using: &generator)] ^= 1 }
      }
      _ = try? TLSIdentity(chain: mutant, key: SecretBytes(mutantKey), now: .now())
      _ = try? TLSAuthorities(pem: mutant)
    }
    // What went wrong above leaves nothing behind that the next connection would stumble over.
    var pair = try EnginePair(
      try TLSServerContext(identities: [try made.identity("first")], ticketKeys: TLSTicketKeys()),
      try TLSClientContext(trust: .authorities(try made.authorities())))
    pair.run()
    #expect(pair.client.isEstablished && pair.server.isEstablished, "seed \(seed)")
  }
}
