import Bytes
import HTTP
import HTTP2
import Testing

@Suite struct SessionFuzzTests {
  /// Two sessions whose drivers do anything at any moment: what was accepted arrives, in order, unless its stream was reset.
  @Test func driversMayDoAnythingAtAnyMoment() {
    let tried = Fuzzing.run("drivers", [[0]]) { _, generator in
      var pair = RandomPair()
      for _ in 0..<Int.random(in: 1...60, using: &generator) { pair.step(&generator) }
      pair.finish()
    }
    #expect(tried > 0)
  }
}

/// A client and a server that act at random.
private struct RandomPair: ~Copyable {
  var client = HTTP2Session(role: .client(isSecure: false), now: 0)
  var server = HTTP2Session(role: .server, now: 0)
  var asked: [HTTP2Stream] = []
  var answering: [HTTP2Stream] = []
  var sent: [Int32: [UInt8]] = [:], received: [Int32: [UInt8]] = [:]
  var answered: [Int32: [UInt8]] = [:], got: [Int32: [UInt8]] = [:]
  var broken: Set<Int32> = [], hasHead: Set<Int32> = []
  var next: UInt8 = 0
  var now: Int64 = 0

  mutating func step(_ generator: inout SeededGenerator) {
    now += 1_000_000_000
    switch Int.random(in: 0..<13, using: &generator) {
    case 0, 1:
      let stream = Array("POST / HTTP/1.1\r\nHost: a\r\n\r\n".utf8).withUnsafeBytes { try? client.request($0, endsStream: false) }
      if let stream { asked.append(stream) }
    case 2, 3:
      if let stream = asked.randomElement(using: &generator) { send(stream, Int.random(in: 0...40_000, using: &generator)) }
    case 4: if let stream = asked.randomElement(using: &generator) { client.end(stream) }
    case 5:
      if let stream = asked.randomElement(using: &generator) {
        broken.insert(stream.id)
        client.reset(stream, .cancel)
      }
    case 6:
      if let stream = answering.randomElement(using: &generator) {
        Array("HTTP/1.1 200 OK\r\nX: y\r\n\r\n".utf8).withUnsafeBytes { try? server.submitHead(stream, $0, endsStream: false) }
      }
    case 7, 12: if let stream = answering.randomElement(using: &generator) { answer(stream, Int.random(in: 0...80_000, using: &generator)) }
    case 8:
      // A server's end before the request's is a reset as well.
      if let stream = answering.randomElement(using: &generator) {
        broken.insert(stream.id)
        Array("x-t: 1\r\n".utf8).withUnsafeBytes { server.end(stream, trailers: $0) }
      }
    case 9:
      if let stream = answering.randomElement(using: &generator) {
        broken.insert(stream.id)
        server.reset(stream, .internalError)
      }
    case 10: carryUp(limit: Int.random(in: 1...70_000, using: &generator))
    default: carryDown(limit: Int.random(in: 1...70_000, using: &generator))
    }
  }

  private mutating func send(_ stream: HTTP2Stream, _ count: Int) {
    next &+= 1
    let octets = [UInt8](repeating: next, count: count)
    let taken = octets.withUnsafeBytes { client.send(stream, $0) }
    sent[stream.id, default: []] += octets.prefix(taken)
  }

  private mutating func answer(_ stream: HTTP2Stream, _ count: Int) {
    next &+= 1
    let octets = [UInt8](repeating: next, count: count)
    let taken = octets.withUnsafeBytes { server.send(stream, $0) }
    answered[stream.id, default: []] += octets.prefix(taken)
  }

  private mutating func carryUp(limit: Int) {
    var buffer = ByteBuffer()
    client.takeOutput(into: &buffer, limit: limit)
    while client.nextEvent() != nil {}
    let now = now
    let octets = buffer.array()
    octets.withUnsafeBytes { octets in
      do { try server.receive(octets, now: now) } catch { Issue.record("\(error)") }
      while let event = server.nextEvent() {
        if case .head(let stream, _, _, _) = event { answering.append(stream) }
        if case .data(let stream, let range) = event {
          received[stream.id, default: []] += octets[range]
          server.consumed(stream, range.count)
        }
      }
    }
  }

  private mutating func carryDown(limit: Int) {
    var buffer = ByteBuffer()
    server.takeOutput(into: &buffer, limit: limit)
    while server.nextEvent() != nil {}
    let now = now
    let octets = buffer.array()
    octets.withUnsafeBytes { octets in
      do { try client.receive(octets, now: now) } catch { Issue.record("\(error)") }
      while let event = client.nextEvent() {
        if case .head(let stream, _, _, _) = event { hasHead.insert(stream.id) }
        guard case .data(let stream, let range) = event else { continue }
        got[stream.id, default: []] += octets[range]
        client.consumed(stream, range.count)
      }
    }
  }

  /// Carries everything, and compares.
  mutating func finish() {
    for stream in asked { client.end(stream) }
    for _ in 0..<1000 where client.wantsOutput() || server.wantsOutput() {
      carryUp(limit: 100_000)
      carryDown(limit: 100_000)
    }
    for (id, octets) in sent {
      let got = received[id] ?? []
      #expect(broken.contains(id) ? octets.starts(with: got) : octets == got, "stream \(id): \(octets.count) sent, \(got.count) received")
    }
    for (id, octets) in answered where hasHead.contains(id) {
      let arrived = got[id] ?? []
      #expect(broken.contains(id) ? octets.starts(with: arrived) : octets == arrived, "stream \(id): \(octets.count) answered, \(arrived.count) arrived")
    }
    for stream in asked { client.reset(stream, .cancel) }
    for stream in answering { server.reset(stream, .cancel) }
    for _ in 0..<3 {
      carryUp(limit: 100_000)
      carryDown(limit: 100_000)
    }
    #expect(client.streamCount() == 0 && server.streamCount() == 0)
  }
}
