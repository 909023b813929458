import Bytes
import Configuration
import Encoding
import Gateway
import Glibc
import HTTP
import IO
import Metering
import Testing

@testable import Proxy

/// What goes from one process to another, here within one.
@Suite struct HandoverTests {
  @Test func connectionsAreReadAsTheyWereWritten() throws {
    let (one, other) = try MessageChannel.pair()
    var pipes: [Int32] = [-1, -1]
    try #require(pipe(&pipes) == 0)
    let peer = try #require(ClientAddress("2001:db8::17"))
    for input in [[UInt8](), Array("GET / HT".utf8), Array(repeating: 9, count: 64 << 10)] {
      let sent = Handover.Connection(descriptor: pipes[0], peer: peer, peerPort: 40_001, listener: "127.0.0.1:8402", input: input)
      #expect(Handover.pass(sent, one))
    }
    #expect(Handover.tell(.released, one))
    guard case .released(let connections) = Handover.awaitRelease(other) else {
      Issue.record("released")
      return
    }
    guard case .message([Handover.Kind.taken.rawValue], nil) = one.receive(milliseconds: 1000) else {
      Issue.record("the one that ends hears that the ledger is taken")
      return
    }
    #expect(connections.map(\.input.count) == [0, 8, 64 << 10])
    for connection in connections {
      #expect(connection.peer == peer && connection.peerPort == 40_001 && connection.listener == "127.0.0.1:8402")
      close(connection.descriptor)
    }
    let long = Handover.Connection(
      descriptor: pipes[0], peer: peer, peerPort: 1, listener: "x", input: Array(repeating: 0, count: MessageChannel.messageLimit))
    #expect(!Handover.pass(long, one), "what is too long stays")
    for octets in [[], [2], Array(repeating: 2, count: 19), Array(repeating: 2, count: 20)] as [[UInt8]] {
      #expect(Handover.connection(octets, descriptor: 0) == nil)
    }
    close(pipes[0])
    close(pipes[1])
  }

  @Test func everySocketIsSomeWorkersAndEveryWorkerHasOne() {
    for sockets in 1...9 {
      for workers in 1...9 {
        let all = (0..<workers).map { ListeningSockets.indices(worker: $0, of: workers, sockets: sockets) }
        #expect(Set(all.joined()) == Set(0..<sockets) || workers < sockets && Set(all.joined()).count == sockets)
        #expect(all.allSatisfy { !$0.isEmpty })
      }
    }
  }

  /// Two servers in one process: the second takes the first's sockets and connections over while both are at work.
  @Test func aServerTakesAnothersPlace() throws {
    let upstream = try ScriptedUpstream.answering { head in
      let slow = head.contains("/slow")
      if slow { Pause.milliseconds(300) }
      return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.workers = 2 }
    let (idle, partial, busy, piped) = (try relay.connect(), try relay.connect(), try relay.connect(), try relay.connect())
    let request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    #expect(try idle.request(request).status == 200)
    partial.send("GET /x HTTP/1.1\r\nHo")
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    piped.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + request + request)
    Pause.milliseconds(100)
    let (own, other) = try MessageChannel.pair()
    let server = try Server(settings: relay.server.settings, ledger: nil, keys: relay.server.keys)
    let sockets = try relay.server.listeners.enumerated().map { number, sockets in
      try ListeningSockets(
        relay.server.settings.listeners[number], number: number, adopting: sockets.descriptors.map { dup($0) }, ownsFile: true)
    }
    for control in relay.server.state.withLock({ $0.controls }) { control.mailbox.send(.handOver(own)) }
    let waiting = try relay.connect()
    waiting.send(request)
    relay.server.join()
    #expect(Handover.tell(.released, own))
    guard case .released(let connections) = Handover.awaitRelease(other) else {
      Issue.record("released")
      return
    }
    // The last one was accepted by the first server, where it came before the message.
    #expect(connections.count == 4 || connections.count == 5)
    try server.start(sockets, connections)
    partial.send("st: a\r\n\r\n")
    for wire in [partial, busy, waiting] { #expect(try wire.response().status == 200) }
    for _ in 0..<3 { #expect(try piped.response().status == 200) }
    for wire in [idle, partial, busy, piped, waiting] { #expect(try wire.request(request).status == 200) }
    server.stop()
    server.join()
  }

  /// The new program was ready, and takes nothing more: its connections go on here until they are ended in order, and none costs a wait.
  @Test(.timeLimit(.minutes(5))) func aProgramThatTakesNothingIsWaitedForOnce() throws {
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" }
    let relay = try RelayFixture(upstreamPort: upstream.port)
    let request = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
    let wires = try (0..<400).map { _ in try relay.connect() }
    for wire in wires { #expect(try wire.request(request).status == 200) }
    let (own, other) = try MessageChannel.pair()
    // Until nothing more goes in.
    let filler = MessageChannel(adopting: dup(own.descriptor))
    while filler.send(Array(repeating: 9, count: 4096)) {}
    // With a second for each connection this would exceed the test's limit.
    for control in relay.server.state.withLock({ $0.controls }) { control.mailbox.send(.handOver(own)) }
    relay.server.join()
    #expect(own.hasFailed)
    withExtendedLifetime(other) {}
  }

  /// Systemd's sockets stay systemd's over any number of upgrades, and ours ours.
  @Test func filesOfSystemdStayItsOwn() async {
    await #expect(processExitsWith: .success) {
      let path = "/tmp/farebox-inherit-\(getpid()).sock"
      let listener = Settings.Listener(.unix(path: path))
      for (foreign, owns) in [([], true), ([listener.words], false)] as [([String], Bool)] {
        for (name, value) in Inheritance.variables(names: [listener.words], foreign: foreign) { setenv(name, value, 1) }
        let inheritance = Inheritance.take()
        precondition(inheritance.channel != nil && inheritance.ownsFile(of: listener) == owns)
        precondition(ProcessControl.variables.allSatisfy { !$0.name.hasPrefix("FAREBOX_LISTEN") }, "no child inherits them")
      }
      precondition(!Inheritance().ownsFile(of: listener), "what systemd has passed on is systemd's")
      _exit(0)
    }
  }

  @Test func formerOffersAreBoundedAndForgotten() throws {
    var settings = try shopSettings()
    var former = FormerOffers()
    let start = Timestamp(seconds: 1_800_000_000)
    func price(_ number: Int) throws -> Settings.RouteOffer {
      .priced(try Price(parsing: "0.00\(number) USDC per request", currencies: settings.currencies))
    }
    let id = settings.routes[0].id
    former.replace(settings, with: settings, at: start)
    #expect(former[id].isEmpty, "nothing has changed")
    for number in 1...40 {
      let before = settings
      settings.routes[0].offer = try price(100 + number)
      former.replace(before, with: settings, at: start + .seconds(Int64(number)))
    }
    #expect(former[id].count == FormerOffers.limitPerRoute)
    #expect(former[id].first?.until == start + .seconds(40) + settings.expires + .seconds(60))
    former.replace(settings, with: settings, at: start + .seconds(100_000))
    #expect(former[id].isEmpty)
  }
}
