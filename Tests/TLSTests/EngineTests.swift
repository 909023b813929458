import Bytes
import Encoding
import Testing

@testable import TLS

private let made = Certificates.shared

private func server(
  _ identities: [String] = ["first"], protocols: [TLSApplicationProtocol] = [.http2, .http1], keys: TLSTicketKeys = TLSTicketKeys(),
  clients: TLSClientPolicy? = nil, minimum: TLSVersion = .tls12
) throws -> TLSServerContext {
  try TLSServerContext(
    identities: identities.map { try made.identity($0) }, protocols: protocols, ticketKeys: keys, clients: clients, minimum: minimum)
}

private func client(
  _ authority: String? = "ca", identity: TLSIdentity? = nil, protocols: [TLSApplicationProtocol] = [.http2, .http1],
  minimum: TLSVersion = .tls12
) throws -> TLSClientContext {
  let trust: TLSServerTrust = try authority.map { .authorities(try made.authorities($0)) } ?? .insecure
  return try TLSClientContext(trust: trust, identity: identity, protocols: protocols, minimum: minimum)
}

@Suite struct EngineTests {
  @Test func bothSidesAgreeAndTalk() throws {
    var pair = try EnginePair(try server(), try client())
    #expect(!pair.client.isEstablished && !pair.server.isEstablished)
    pair.run()
    #expect(pair.client.isEstablished && pair.server.isEstablished)
    #expect(pair.client.version == .tls13 && pair.server.version == .tls13)
    #expect(pair.client.applicationProtocol == .http2 && pair.server.applicationProtocol == .http2)
    #expect(pair.server.serverNameAsked == "first.test")
    #expect(!pair.client.isResumed && !pair.server.isResumed)
    let shown = pair.client.peerCertificate
    let certificate = try #require(shown)
    #expect(certificate.subject == "CN=First,O=Test" && certificate.isVerified)
    #expect(certificate.fingerprint == (try made.identity("first")).fingerprint)
    #expect(pair.server.peerCertificate == nil)
    try pair.client.send(Array("question".utf8), output: &pair.toServer)
    try pair.server.send(Array("answer".utf8), output: &pair.toClient)
    pair.run()
    #expect(pair.atServer == Array("question".utf8) && pair.atClient == Array("answer".utf8))
    pair.client.end(output: &pair.toServer)
    pair.run()
    #expect(pair.server.isEnded && !pair.client.isEnded)
    try pair.server.send(Array(" and rest".utf8), output: &pair.toClient)
    pair.server.end(output: &pair.toClient)
    pair.server.end(output: &pair.toClient)
    pair.run()
    #expect(pair.client.isEnded && pair.atClient == Array("answer and rest".utf8))
    #expect(throws: TLSError.notEstablished) { try pair.client.send([1], output: &pair.toServer) }
    #expect(pair.clientError == nil && pair.serverError == nil)
  }

  @Test func versionsAreAgreedOn() throws {
    let old = try LegacyPeer.client(maximum: .tls12)
    var pair = try EnginePair(try server(), old)
    pair.run()
    #expect(pair.client.version == .tls12 && pair.server.version == .tls12)
    #expect(pair.client.cipher == "ECDHE-ECDSA-AES128-GCM-SHA256")
    try pair.client.send([1, 2], output: &pair.toServer)
    pair.run()
    #expect(pair.atServer == [1, 2])

    pair = try EnginePair(try server(minimum: .tls13), old)
    pair.run()
    #expect(pair.serverError == .versionUnsupported)
    #expect(pair.clientError == .alertReceived(70))
    #expect(!pair.client.isEstablished && !pair.server.isEstablished)
  }

  @Test func protocolsAreAgreedOn() throws {
    var pair = try EnginePair(try server(protocols: [.http1]), try client())
    pair.run()
    #expect(pair.client.applicationProtocol == .http1 && pair.server.applicationProtocol == .http1)
    pair = try EnginePair(try server(), try client(protocols: []))
    pair.run()
    #expect(pair.server.isEstablished && pair.server.applicationProtocol == nil)
    pair = try EnginePair(try server(protocols: [.http1]), try client(protocols: [.http2]))
    pair.run()
    #expect(pair.serverError == .applicationProtocolMismatch && pair.clientError == .alertReceived(120))
  }

  @Test func oneConnectionMayAskForLess() throws {
    let (server, client) = (try server(protocols: [.http2, .http1]), try client(protocols: [.http2, .http1]))
    // The third goes on with a session of the second, and the fourth with one of the third.
    for (protocols, agreed) in [(nil, .http2), ([.http1], .http1), (nil, .http2), ([.http1], .http1)]
      as [([TLSApplicationProtocol]?, TLSApplicationProtocol)]
    {
      var pair = try EnginePair(server, client, protocols: protocols)
      pair.run()
      #expect(pair.client.applicationProtocol == agreed && pair.server.applicationProtocol == agreed)
    }
  }

  @Test(arguments: [
    ("first.test", "CN=First,O=Test"), ("SECOND.test", "CN=First,O=Test"), ("a.wild.test", "CN=Wild"), ("A.Wild.Test", "CN=Wild"),
    ("below.test", "CN=Below"), ("nowhere.test", "CN=First,O=Test"), ("a.b.wild.test", "CN=First,O=Test"), ("wild.test", "CN=First,O=Test"),
    ("127.0.0.1", "CN=First,O=Test"),
  ])
  func serverIsChosenByName(_ name: String, _ subject: String) throws {
    let context = try TLSServerContext(
      identities: [try made.identity("first"), try made.identity("wild"), try made.identity("below", chain: ["middle"])],
      ticketKeys: TLSTicketKeys())
    var pair = try EnginePair(context, try client(nil), name: name)
    pair.run()
    let shown = pair.client.peerCertificate
    let certificate = try #require(shown)
    #expect(certificate.subject == subject && !certificate.isVerified)
    #expect(pair.server.applicationProtocol == .http2)
    pair = try EnginePair(context, try client(nil), name: nil)
    pair.run()
    #expect(pair.client.peerCertificate?.subject == "CN=First,O=Test" && pair.server.serverNameAsked == nil)
  }

  @Test func twoKindsOfKeysServeOneName() throws {
    let context = try server(["first", "firstrsa"])
    for (cipher, place) in [("ECDHE-RSA-AES128-GCM-SHA256", "firstrsa"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "first")] {
      var pair = try EnginePair(context, try LegacyPeer.client(maximum: .tls12, ciphers: cipher))
      pair.run()
      #expect(pair.client.cipher == cipher)
      #expect(pair.client.peerCertificate?.fingerprint == (try made.identity(place)).fingerprint)
    }
  }

  @Test(arguments: [
    ("first", "first.test", "ca", nil), ("first", "second.test", "ca", nil), ("first", "other.test", "ca", .nameMismatch),
    ("first", "sub.first.test", "ca", .nameMismatch), ("wild", "a.wild.test", "ca", nil), ("wild", "a.b.wild.test", "ca", .nameMismatch),
    ("address", "127.0.0.1", "ca", nil), ("address", "::1", "ca", nil), ("address", "127.0.0.2", "ca", .nameMismatch),
    ("first", "127.0.0.1", "ca", .nameMismatch), ("nameless", "nameless", "ca", .nameMismatch),
    ("foreign", "first.test", "ca", .unknownAuthority), ("foreign", "first.test", "other", nil),
  ] as [(String, String, String, TLSCertificateFault?)])
  func serverIsVerified(_ identity: String, _ name: String, _ authority: String, _ fault: TLSCertificateFault?) throws {
    var pair = try EnginePair(try server([identity]), try client(authority), name: name)
    pair.run()
    #expect(pair.clientError == fault.map { .peerCertificate($0) })
    #expect(pair.client.isEstablished == (fault == nil))
    if fault != nil {
      guard case .alertReceived = pair.serverError else {
        Issue.record("the server was not told: \(String(describing: pair.serverError))")
        return
      }
    }
  }

  @Test func chainsAreCompletedByTheServer() throws {
    let whole = try TLSServerContext(identities: [try made.identity("below", chain: ["middle"])], ticketKeys: TLSTicketKeys())
    var pair = try EnginePair(whole, try client(), name: "below.test")
    pair.run()
    #expect(pair.client.isEstablished && pair.clientError == nil)
    pair = try EnginePair(try server(["below"]), try client(), name: "below.test")
    pair.run()
    #expect(pair.clientError == .peerCertificate(.unknownAuthority))
  }

  @Test func timesAreVerified() throws {
    for (name, year, fault) in [("expired", 2020, TLSCertificateFault.expired), ("future", 2045, .notYetValid)] as [(String, Int64, TLSCertificateFault)] {
      let context = try TLSServerContext(identities: [try made.identity(name, in: year)], ticketKeys: TLSTicketKeys())
      var pair = try EnginePair(context, try client())
      pair.run()
      #expect(pair.clientError == .peerCertificate(fault))
    }
  }

  @Test func namesThatAreNoneAreRefused() throws {
    let context = try client()
    for name in ["", ".test", "a..test", "a test", "a\u{0}.test", "*.test", "ex\u{E4}mple.test", "[::1]", String(repeating: "a", count: 64), nil] {
      #expect(throws: TLSError.serverNameInvalid) { _ = try TLSEngine(client: context, serverName: name) }
    }
    _ = try TLSEngine(client: try client(nil), serverName: nil)
  }

  /// A server that trusts its own issuer, for clients, must not go looking for the rest of its chain there.
  @Test func nothingIsShownButWhatTheFileHolds() throws {
    let policy = TLSClientPolicy(authorities: try made.authorities(), isRequired: false)
    var counts: [Int] = []
    for clients in [nil, policy] {
      var pair = try EnginePair(try server(clients: clients), try client())
      let hello = pair.toServer.array()
      _ = try hello.withUnsafeBytes { try pair.server.receive($0, output: &pair.toClient) }
      counts.append(pair.toClient.count)
    }
    // Asking for a certificate takes far fewer octets than the authority's own.
    #expect(counts[1] > counts[0] && counts[1] - counts[0] < 200)
  }

  @Test func clientsAreVerified() throws {
    let required = TLSClientPolicy(authorities: try made.authorities(), isRequired: true)
    let optional = TLSClientPolicy(authorities: try made.authorities(), isRequired: false)
    for policy in [required, optional] {
      var pair = try EnginePair(try server(clients: policy), try client(identity: try made.identity("client")))
      pair.run()
      let shown = pair.server.peerCertificate
      let certificate = try #require(shown)
      #expect(certificate.isVerified && certificate.subject == #"CN=Agent \C3\A9,O=Test \, Inc"#)
      for stranger in [try made.identity("strange"), try made.identity("old", in: 2020)] {
        pair = try EnginePair(try server(clients: policy), try client(identity: stranger))
        pair.run()
        guard case .peerCertificate = pair.serverError else {
          Issue.record("\(stranger) was let in: \(String(describing: pair.serverError))")
          continue
        }
        #expect(pair.clientError != nil && !pair.server.isEstablished)
      }
      pair = try EnginePair(try server(clients: policy), try client())
      pair.run()
      #expect(pair.serverError == (policy.isRequired ? .peerCertificateMissing : nil))
      #expect(pair.server.isEstablished == !policy.isRequired && pair.server.peerCertificate == nil)
    }
    // A server's certificate is none of a client's, and nobody asks where no policy says so.
    var pair = try EnginePair(try server(), try client(identity: try made.identity("client")))
    pair.run()
    #expect(pair.server.isEstablished && pair.server.peerCertificate == nil)
  }

  @Test func nothingIsSentBeforeTheHandshake() throws {
    var pair = try EnginePair(try server(), try client())
    #expect(throws: TLSError.notEstablished) { try pair.client.send([1], output: &pair.toServer) }
    let count = pair.toServer.count
    pair.client.end(output: &pair.toServer)
    #expect(pair.toServer.count == count)
  }
}
