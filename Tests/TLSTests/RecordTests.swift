import Bytes
import CLibSSL
import Testing

@testable import TLS

private let made = Certificates.shared

private func contexts(_ maximum: TLSVersion = .tls13) throws -> (TLSServerContext, TLSClientContext) {
  let client = try TLSClientContext(trust: .authorities(try made.authorities()), protocols: [.http1])
  try #require(client.limit(maximum: maximum, ciphers: nil))
  return (try TLSServerContext(identities: [try made.identity("first")], ticketKeys: TLSTicketKeys()), client)
}

private func established(_ maximum: TLSVersion = .tls13) throws -> EnginePair {
  let (server, client) = try contexts(maximum)
  var pair = try EnginePair(server, client)
  pair.run()
  try #require((pair.clientError == nil && pair.serverError == nil) as Bool)
  return pair
}

private func pattern(_ count: Int, _ seed: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 31) ^ ($0 >> 8) &+ seed) }
}

@Suite struct RecordTests {
  @Test(arguments: TLSVersion.allCases, [1, 2, 3, 4, 5, 6, 7, 64, 1000])
  func everythingPassesInPiecesOfAnySize(_ version: TLSVersion, _ piece: Int) throws {
    let (server, client) = try contexts(version)
    var pair = try EnginePair(server, client)
    pair.run(piece: piece)
    #expect(pair.client.isEstablished && pair.server.isEstablished)
    let (question, answer) = (pattern(300, 1), pattern(40_000, 2))
    try pair.client.send(question, output: &pair.toServer)
    try pair.server.send(answer, output: &pair.toClient)
    pair.server.end(output: &pair.toClient)
    pair.run(piece: piece)
    #expect(pair.atServer == question && pair.atClient == answer && pair.client.isEnded)
  }

  /// Each asks for work that is dear beside its 27 octets.
  @Test func keyUpdatesAreLimited() throws {
    var pair = try established()
    for _ in 0..<50 {
      #expect(SSL_key_update(pair.client.session, SSL_KEY_UPDATE_REQUESTED) == 1)
      try pair.client.send([1], output: &pair.toServer)
      pair.run()
    }
    #expect(pair.serverError == nil && pair.atServer.count == 50)
    try pair.server.send([2], output: &pair.toClient)
    pair.run()
    #expect(pair.atClient == [2])
    var count = 50
    while pair.serverError == nil, count < 1000 {
      #expect(SSL_key_update(pair.client.session, SSL_KEY_UPDATE_REQUESTED) == 1)
      try pair.client.send([1], output: &pair.toServer)
      count += 1
      pair.run()
    }
    #expect(pair.serverError == .protocolBroken(reason: SSL_R_TOO_MANY_KEY_UPDATES) && count < 120, "\(count)")
  }

  /// Whoever sends much may change keys as often as that.
  @Test func keyUpdatesAmongContentAreNoFlood() throws {
    var pair = try established()
    let content = pattern(100_000, 3)
    for _ in 0..<120 {
      #expect(SSL_key_update(pair.client.session, SSL_KEY_UPDATE_REQUESTED) == 1)
      try pair.client.send(content, output: &pair.toServer)
      pair.run(piece: 32_768)
      pair.atServer = []
    }
    #expect(pair.serverError == nil && pair.clientError == nil)
  }

  @Test(arguments: TLSVersion.allCases)
  func everyFlightPassesCutAtEveryOctet(_ version: TLSVersion) throws {
    let (server, client) = try contexts(version)
    var (cut, isLonger) = (1, true)
    while isLonger {
      isLonger = false
      var pair = try EnginePair(server, client)
      // Each flight comes in two parts, cut at the same octet, as long as any flight is longer than that.
      while !pair.toServer.isEmpty || !pair.toClient.isEmpty {
        isLonger = isLonger || max(pair.toServer.count, pair.toClient.count) > cut
        EnginePair.deliver(&pair.toServer, to: &pair.server, cut, &pair.toClient, &pair.atServer, &pair.serverError)
        EnginePair.deliver(&pair.toClient, to: &pair.client, .max, &pair.toServer, &pair.atClient, &pair.clientError)
      }
      let isEstablished = pair.client.isEstablished && pair.server.isEstablished
      #expect(isEstablished, "cut at \(cut)")
      guard isEstablished else { return }
      cut += 1
    }
    #expect(cut > 150)
  }

  @Test func hugePlaintextIsCutIntoRecords() throws {
    var pair = try established()
    let octets = pattern(3_000_001, 7)
    try pair.server.send(octets, output: &pair.toClient)
    #expect(pair.toClient.count > octets.count && pair.toClient.count < octets.count + 184 * 64)
    pair.run(piece: 65_536)
    #expect(pair.atClient == octets)
    try pair.server.send([], output: &pair.toClient)
    #expect(pair.toClient.count == 0)
  }

  @Test func bothDirectionsInterleave() throws {
    var pair = try established()
    var generator = SplitMix(state: 42)
    var (sent, received): ([UInt8], [UInt8]) = ([], [])
    for round in 0..<200 {
      let up = pattern(Int.random(in: 0...5000, using: &generator), round)
      let down = pattern(Int.random(in: 0...40_000, using: &generator), -round)
      try pair.client.send(up, output: &pair.toServer)
      try pair.server.send(down, output: &pair.toClient)
      sent += up
      received += down
      if round % 3 == 0 { pair.run(piece: Int.random(in: 1...9000, using: &generator)) }
    }
    pair.run()
    #expect(pair.atServer == sent && pair.atClient == received)
  }

  @Test(arguments: TLSVersion.allCases)
  func truncationIsNoEnd(_ version: TLSVersion) throws {
    var pair = try established(version)
    try pair.server.send(pattern(1000, 1), output: &pair.toClient)
    pair.server.end(output: &pair.toClient)
    // All but the last octet of close_notify: the content is here, the end is not.
    pair.toClient.truncate(to: pair.toClient.count - 1)
    pair.run()
    #expect(pair.atClient.count == 1000 && !pair.client.isEnded && pair.clientError == nil)
  }

  @Test(arguments: TLSVersion.allCases)
  func whatFollowsTheEndIsIgnored(_ version: TLSVersion) throws {
    var pair = try established(version)
    try pair.server.send([1, 2, 3], output: &pair.toClient)
    pair.server.end(output: &pair.toClient)
    pair.toClient.append(pattern(500, 1))
    pair.run()
    #expect(pair.atClient == [1, 2, 3] && pair.client.isEnded && pair.clientError == nil)
    #expect(pair.toServer.count == 0)
  }

  @Test(arguments: TLSVersion.allCases)
  func alteredRecordsEndTheConnection(_ version: TLSVersion) throws {
    var pair = try established(version)
    try pair.client.send(pattern(100, 1), output: &pair.toServer)
    pair.toServer.withUnsafeMutableBytes { $0[50] ^= 1 }
    let count = pair.toClient.count
    EnginePair.deliver(&pair.toServer, to: &pair.server, .max, &pair.toClient, &pair.atServer, &pair.serverError)
    guard case .protocolBroken = pair.serverError else {
      Issue.record("\(String(describing: pair.serverError))")
      return
    }
    #expect(pair.atServer.isEmpty && pair.toClient.count > count)
    // The peer is told, and later calls repeat the error.
    pair.run()
    #expect(pair.clientError == .alertReceived(20))
    #expect(throws: TLSError.self) { try pair.server.send([1], output: &pair.toClient) }
    #expect(throws: TLSError.self) { try pair.client.send([1], output: &pair.toServer) }
  }

  @Test(arguments: [
    ("GET / HTTP/1.1\r\nHost: first.test\r\n\r\n", TLSError.plainHTTP), ("PUT /x HTTP/1.1\r\n\r\n", .plainHTTP),
    ("CONNECT a:1 HTTP/1.1\r\n\r\n", .notTLS), ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", .notTLS), ("\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}", .notTLS),
  ])
  func whatIsNotTLSIsNamed(_ text: String, _ expected: TLSError) throws {
    var engine = try TLSEngine(server: try contexts().0)
    var output = ByteBuffer()
    let octets = Array(text.utf8)
    var failure: TLSError?
    octets.withUnsafeBytes { octets in
      do throws(TLSError) { _ = try engine.receive(octets, output: &output) } catch { failure = error }
    }
    #expect(failure == expected)
  }

  @Test func clientsCannotRenegotiate() throws {
    var pair = try established(.tls12)
    let isReady = pair.client.beginAgain()
    #expect(isReady)
    // libssl writes its new hello with the next content; the server refuses, and goes on with neither.
    #expect(throws: (any Error).self) { try pair.client.send([1], output: &pair.toServer) }
    #expect(pair.toServer.count > 0)
    pair.run()
    #expect(pair.atServer.isEmpty && pair.serverError == nil)
    #expect(pair.clientError != nil)
  }

  @Test func keysAreUpdatedOnTheWay() throws {
    var pair = try established(.tls13)
    for round in 0..<5 as Range<UInt8> {
      let isReady = pair.client.beginAgain()
      #expect(isReady)
      try pair.client.send([round], output: &pair.toServer)
      try pair.server.send([round], output: &pair.toClient)
      pair.run()
    }
    #expect(pair.atServer == [0, 1, 2, 3, 4] && pair.atClient == [0, 1, 2, 3, 4])
  }

  @Test func anyOctetsEndInAnErrorOrNothing() throws {
    let (server, client) = try contexts()
    for seed in 0..<600 as Range<UInt64> {
      var generator = SplitMix(state: seed)
      var pair = try EnginePair(server, client)
      let rounds = Int.random(in: 0...4, using: &generator)
      for _ in 0..<rounds {
        Self.spoil(&pair.toServer, &generator)
        EnginePair.deliver(&pair.toServer, to: &pair.server, Int.random(in: 1...2000, using: &generator), &pair.toClient, &pair.atServer, &pair.serverError)
        Self.spoil(&pair.toClient, &generator)
        EnginePair.deliver(&pair.toClient, to: &pair.client, Int.random(in: 1...2000, using: &generator), &pair.toServer, &pair.atClient, &pair.clientError)
        if pair.server.isEstablished { try? pair.server.send(pattern(20, 1), output: &pair.toClient) }
        if pair.client.isEstablished { try? pair.client.send(pattern(20, 1), output: &pair.toServer) }
      }
      #expect(pair.toServer.count < 200_000 && pair.toClient.count < 200_000)
    }
    // The thread is well afterwards.
    var pair = try EnginePair(server, client)
    pair.run()
    #expect(pair.server.isEstablished == true)
  }

  /// Changes, cuts, repeats or makes up octets; leaves them alone in a third of all cases.
  private static func spoil(_ buffer: inout ByteBuffer, _ generator: inout SplitMix) {
    let count = buffer.count
    switch Int.random(in: 0..<12, using: &generator) {
    case 0, 1, 2, 3:
      guard count > 0 else { return }
      let position = Int.random(in: 0..<count, using: &generator)
      let octet = UInt8.random(in: 0...255, using: &generator)
      buffer.withUnsafeMutableBytes { $0[position] = octet }
    case 4: buffer.truncate(to: Int.random(in: 0...count, using: &generator))
    case 5: buffer.append((0..<Int.random(in: 1...300, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) })
    case 6:
      let copy = buffer.array()
      buffer.append(copy)
    case 7: buffer.append([22, 3, 3, UInt8.random(in: 0...64, using: &generator), UInt8.random(in: 0...255, using: &generator), 1, 0, 255, 255])
    default: break
    }
  }
}
