import Bytes
import Testing

@testable import TLS

private let made = Certificates.shared

private func server(_ keys: TLSTicketKeys, _ identity: String = "first", clients: TLSClientPolicy? = nil) throws -> TLSServerContext {
  try TLSServerContext(identities: [try made.identity(identity)], ticketKeys: keys, clients: clients)
}

private func client(_ maximum: TLSVersion, identity: TLSIdentity? = nil) throws -> TLSClientContext {
  let context = try TLSClientContext(trust: .authorities(try made.authorities()), identity: identity, protocols: [.http2, .http1])
  try #require(context.limit(maximum: maximum, ciphers: nil))
  return context
}

/// Connects, says something both ways, and tells whether an earlier session went on; nil where the handshake failed.
private func connect(_ server: TLSServerContext, _ client: TLSClientContext, name: String = "first.test") throws -> Bool? {
  var pair = try EnginePair(server, client, name: name)
  pair.run()
  guard pair.client.isEstablished && pair.server.isEstablished else { return nil }
  try pair.client.send([1], output: &pair.toServer)
  try pair.server.send([2], output: &pair.toClient)
  pair.run()
  #expect(pair.atServer == [1] && pair.atClient == [2])
  #expect(pair.client.isResumed == pair.server.isResumed)
  #expect(pair.client.peerCertificate?.subject == "CN=First,O=Test")
  #expect(pair.server.applicationProtocol == .http2)
  return pair.client.isResumed
}

@Suite struct ResumptionTests {
  @Test(arguments: TLSVersion.allCases)
  func ticketsResumeAtEveryContextWithTheSameKeys(_ version: TLSVersion) throws {
    let keys = TLSTicketKeys()
    let context = try client(version)
    #expect(try connect(try server(keys), context) == false)
    #expect(try connect(try server(keys), context) == true)
    #expect(try connect(try server(keys), context) == true)
    // Every resumption brings another ticket, or the one that there is can be used again.
    for _ in 0..<5 { #expect(try connect(try server(keys), context) == true) }
    #expect(try connect(try server(TLSTicketKeys()), context) == false)
  }

  @Test(arguments: TLSVersion.allCases)
  func ticketsOutliveRotationsAndThenEnd(_ version: TLSVersion) throws {
    let keys = TLSTicketKeys()
    let context = try server(keys)
    let first = try client(version)
    #expect(try connect(context, first) == false)
    for _ in 1..<TLSTicketKeys.keptCount { keys.rotate() }
    #expect(try connect(context, first) == true)
    // The resumption brought a ticket under the newest key; libssl tells it to clients of TLS 1.3 only.
    for _ in 1..<TLSTicketKeys.keptCount { keys.rotate() }
    let second = try client(version)
    #expect(try connect(context, first) == (version == .tls13))
    #expect(try connect(context, second) == false)
    for _ in 0..<TLSTicketKeys.keptCount { keys.rotate() }
    #expect(try connect(context, second) == false)
  }

  @Test func sessionsBelongToAName() throws {
    let keys = TLSTicketKeys()
    let (context, peer) = (try server(keys), try client(.tls13))
    #expect(try connect(context, peer) == false)
    #expect(try connect(context, peer, name: "second.test") == false)
    #expect(try connect(context, peer, name: "second.test") == true)
  }

  @Test func otherNamesAreVerifiedAnewThoughKeysAreShared() throws {
    let keys = TLSTicketKeys()
    let peer = try client(.tls13)
    #expect(try connect(try server(keys), peer) == false)
    #expect(try connect(try server(keys, "wild"), peer, name: "wrong.test") == nil)
  }

  @Test(arguments: TLSVersion.allCases)
  func sessionsWithoutCertificateNeverResumeWhereOneIsRequired(_ version: TLSVersion) throws {
    let keys = TLSTicketKeys()
    let open = try server(keys)
    let closed = try server(keys, clients: TLSClientPolicy(authorities: try made.authorities(), isRequired: true))
    let otherAuthority = try server(keys, clients: TLSClientPolicy(authorities: try made.authorities("other"), isRequired: true))
    let stranger = try client(version)
    #expect(try connect(open, stranger) == false)
    #expect(try connect(closed, stranger) == nil)
    let known = try client(version, identity: try made.identity("client"))
    #expect(try connect(closed, known) == false)
    var pair = try EnginePair(closed, known)
    pair.run()
    #expect(pair.server.isResumed && pair.server.peerCertificate?.isVerified == true)
    #expect(try connect(otherAuthority, known) == nil)
  }

  @Test func keptSessionsAreBounded() throws {
    let keys = TLSTicketKeys()
    let (context, peer) = (try server(keys), try client(.tls13))
    for _ in 0..<20 {
      var pair = try EnginePair(context, peer)
      pair.run()
    }
    var count = 0
    while let kept = peer.sessions.take(for: "first.test") {
      withExtendedLifetime(kept) { count += 1 }
    }
    #expect((1...SessionShelf.sessionsPerName).contains(count))
  }
}
