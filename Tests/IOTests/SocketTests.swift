import IO
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct SocketTests {
  @Test func connectsSendsAndReceivesOverLoopback() throws {
    let listener = try Listener(address: SocketAddress(127, 0, 0, 1, port: 0))
    #expect(listener.port != 0)
    guard case .wouldBlock = listener.accept() else {
      Issue.record("nobody has connected yet")
      return
    }
    let client: Int32
    switch Connector.connect(to: SocketAddress(127, 0, 0, 1, port: listener.port)) {
    case .connected(let descriptor), .started(let descriptor): client = descriptor
    case .failed, .exhausted: throw IOError.cannotOpen(code: 0)
    }
    defer { Syscalls.close(client) }
    let epoll = try Epoll()
    try epoll.add(client, token: 1)
    try epoll.addLevelTriggered(listener.descriptor, token: 2)
    _ = epoll.wait(milliseconds: 1000)
    guard case .accepted(let server, let peer) = listener.accept() else {
      Issue.record("the connection was not accepted")
      return
    }
    defer { Syscalls.close(server) }
    #expect(peer.family == .inet)
    #expect(peer.low == 0xffff_7f00_0001)
    #expect(Syscalls.socketError(client) == 0)
    let sent = [UInt8]("hello".utf8)
    let result = sent.withUnsafeBytes { Syscalls.send(client, $0) }
    #expect(result == .moved(5))
    var received = [UInt8](repeating: 0, count: 16)
    #expect(received.withUnsafeMutableBytes { Syscalls.receive(server, into: $0) } == .moved(5))
    #expect(received.withUnsafeMutableBytes { Syscalls.receive(server, into: $0) } == .wouldBlock)
    Syscalls.shutdownWrite(client)
    #expect(received.withUnsafeMutableBytes { Syscalls.receive(server, into: $0) } == .ended)
  }

  @Test func aRefusedConnectIsAnError() throws {
    let listener = try Listener(address: SocketAddress(127, 0, 0, 1, port: 0))
    let port = listener.port
    _ = consume listener
    switch Connector.connect(to: SocketAddress(127, 0, 0, 1, port: port)) {
    case .failed(let code): #expect(code == ECONNREFUSED)
    case .started(let descriptor), .connected(let descriptor):
      let epoll = try Epoll()
      try epoll.add(descriptor, token: 1)
      _ = epoll.wait(milliseconds: 1000)
      #expect(Syscalls.socketError(descriptor) == ECONNREFUSED)
      Syscalls.close(descriptor)
    case .exhausted: Issue.record("no descriptor left")
    }
  }

  @Test func aUnixSocketLeftBehindIsReplacedAndOneInUseIsNot() throws {
    let path = "/tmp/farebox-io-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).sock"
    #expect(throws: Never.self) { try Listener.checkUnused(unixPath: path) }
    let first = try Listener(unixPath: path)
    #expect(throws: IOError.cannotBind(code: EADDRINUSE)) { try Listener.checkUnused(unixPath: path) }
    #expect(throws: IOError.cannotBind(code: EADDRINUSE)) { _ = try Listener(unixPath: path) }
    _ = consume first
    #expect(access(path, F_OK) != 0)
    // A file that a dead process left: bound, and never removed.
    let dead = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(dead, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    #expect(bound == 0)
    close(dead)
    #expect(access(path, F_OK) == 0)
    #expect(throws: Never.self) { try Listener.checkUnused(unixPath: path) }
    _ = try Listener(unixPath: path)
    #expect(throws: IOError.pathTooLong) {
      _ = try Listener(unixPath: "/tmp/" + String(repeating: "x", count: 200))
    }
  }

  @Test func aFileOfAnotherKindIsNotReplacedByAUnixSocket() throws {
    let path = "/tmp/farebox-io-test-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).txt"
    close(open(path, O_WRONLY | O_CREAT, 0o600))
    defer { unlink(path) }
    #expect(throws: IOError.cannotBind(code: EADDRINUSE)) { _ = try Listener(unixPath: path) }
    #expect(access(path, F_OK) == 0)
  }

  @Test func resolvesLiteralsAndRefusesNonsense() throws {
    let found = try SocketAddress.resolve("127.0.0.1", port: 80)
    #expect(found == [SocketAddress(127, 0, 0, 1, port: 80)])
    let six = try SocketAddress.resolve("::1", port: 81)
    #expect(six == [SocketAddress(family: .inet6, high: 0, low: 1, port: 81)])
    #expect(throws: IOError.self) { try SocketAddress.resolve("no such host", port: 1) }
  }

  @Test func mailboxIsBoundedAndKeepsOrder() throws {
    let box = Mailbox<Int>(waker: try Waker(), limit: 3)
    #expect(!box.mayHaveMessages)
    for number in 1...3 { #expect(box.send(number)) }
    #expect(!box.send(4))
    #expect(box.mayHaveMessages)
    #expect(box.takeAll() == [1, 2, 3])
    #expect(box.takeAll().isEmpty)
  }

  @Test func slabReusesPlacesUnderANewGeneration() {
    var slab = Slab<Int>(limit: 128)
    let first = slab.insert(10)
    #expect(first == 0)
    let generation = slab.generation(0)
    let isCurrent = slab.isCurrent(0, generation: generation)
    #expect(isCurrent)
    let address = slab.pointer(0)
    for value in 1..<128 { #expect(slab.insert(value) == value) }
    #expect(slab.insert(1) == nil)
    let sameAddress = slab.pointer(0)
    #expect(sameAddress == address)
    slab.remove(0)
    let isStale1 = slab.isCurrent(0, generation: generation)
    #expect(!isStale1)
    #expect(slab.insert(5) == 0)
    let isStale2 = slab.isCurrent(0, generation: generation)
    #expect(!isStale2)
    let count = slab.count
    #expect(count == 128)
  }
}
