import Bytes
import Glibc
import Testing

@testable import IO

/// Sockets and messages that go from one process to another.
@Suite struct ProcessTests {
  @Test func aChannelCarriesMessagesAndDescriptors() throws {
    let (one, other) = try MessageChannel.pair()
    #expect(one.send([1]))
    #expect(one.send(Array(repeating: 7, count: MessageChannel.messageLimit)))
    var pipes: [Int32] = [-1, -1]
    try #require(pipe(&pipes) == 0)
    #expect(one.send([2, 3], descriptor: pipes[1]))
    close(pipes[1])
    guard case .message([1], nil) = other.receive(milliseconds: 1000) else {
      Issue.record("the first message")
      return
    }
    guard case .message(let long, nil) = other.receive(milliseconds: 1000), long.count == MessageChannel.messageLimit else {
      Issue.record("the longest message")
      return
    }
    guard case .message([2, 3], let passed?) = other.receive(milliseconds: 1000) else {
      Issue.record("the descriptor")
      return
    }
    #expect(fcntl(passed, F_GETFD) & FD_CLOEXEC != 0)
    #expect(write(passed, "x", 1) == 1)
    close(passed)
    var octet: [UInt8] = [0, 0]
    #expect(read(pipes[0], &octet, 2) == 1 && octet[0] == UInt8(ascii: "x"))
    #expect(read(pipes[0], &octet, 2) == 0, "no other copy is left open")
    close(pipes[0])
    guard case .nothing = other.receive(milliseconds: 1) else {
      Issue.record("nothing was sent")
      return
    }
  }

  @Test func theOtherEndsDeathIsSeen() throws {
    var pair: (own: MessageChannel, other: MessageChannel)? = try MessageChannel.pair()
    let own = try #require(pair?.own)
    pair = nil
    guard case .ended = own.receive(milliseconds: 1000) else {
      Issue.record("the end")
      return
    }
    #expect(!own.send([1]))
  }

  @Test func aChildGetsDescriptorsInOrderAndNothingElse() throws {
    let (own, other) = try MessageChannel.pair()
    let (spare, _) = try MessageChannel.pair()
    // Descriptors whose own numbers collide with the places that they are to have.
    let listener = try Listener(address: SocketAddress(127, 0, 0, 1, port: 0))
    let script = "test \"$MARK\" = here && test -S /proc/self/fd/3 && test -S /proc/self/fd/4 && ! test -e /proc/self/fd/5 && exit 42"
    let child = try ProcessControl.spawn(
      "/bin/sh", arguments: ["sh", "-c", script], variables: [("MARK", "here")], descriptors: [other.descriptor, listener.descriptor])
    var status: Int32?
    for _ in 0..<1000 where status == nil {
      status = ProcessControl.exitStatus(of: child)
      usleep(5000)
    }
    #expect(status == 42)
    #expect(own.send([1]) && spare.descriptor > 0)
    #expect(throws: IOError.cannotOpen(code: ENOENT)) {
      try ProcessControl.spawn("/nonexistent", arguments: ["x"], variables: [], descriptors: [])
    }
  }

  @Test func aListeningSocketIsTakenOver() throws {
    let first = try Listener(address: SocketAddress(127, 0, 0, 1, port: 0))
    let copy = dup(first.descriptor)
    let place = try #require(Listener.place(of: copy))
    #expect(place.address == SocketAddress(127, 0, 0, 1, port: first.port) && place.unixPath == nil)
    let second = try Listener(adopting: copy, unixPath: nil)
    #expect(second.port == first.port && fcntl(copy, F_GETFD) & FD_CLOEXEC != 0)
    let plain = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #expect(throws: IOError.cannotListen(code: EINVAL)) { _ = try Listener(adopting: plain, unixPath: nil) }
    close(plain)
    let path = "/tmp/farebox-place-\(getpid()).sock"
    var local: Listener? = try Listener(unixPath: path, mode: 0o600)
    #expect(Listener.place(of: local?.descriptor ?? -1)?.unixPath == path)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    local?.leaveFile()
    local = nil
    #expect(stat(path, &status) == 0, "the file was left to somebody else")
    unlink(path)
  }

  /// Whoever takes nothing is waited for once, also where descriptors are under way and the socket itself has room.
  @Test(.timeLimit(.minutes(5))) func aReceiverThatIsStuckIsSeen() throws {
    let (one, other) = try MessageChannel.pair()
    #expect(!one.hasFailed)
    var sent = 0
    while one.send(Array(repeating: 7, count: 4096), descriptor: other.descriptor) {
      sent += 1
      try #require(sent < 10_000)
    }
    #expect(sent > 0 && one.hasFailed && !other.hasFailed)
  }

  @Test func theProgramIsFoundByTheNameThatItWasStartedBy() throws {
    let own = try #require(ProcessControl.executable(startedAs: "/nonexistent/name"))
    let folder = "/tmp/farebox-started-\(getpid())"
    try #require(mkdir(folder, 0o700) == 0)
    defer {
      unlink(folder + "/linked")
      unlink(folder + "/other")
      rmdir(folder)
    }
    try #require(symlink(own, folder + "/linked") == 0 && symlink("/bin/sh", folder + "/other") == 0)
    #expect(ProcessControl.executable(startedAs: folder + "/linked") == folder + "/linked", "a link is followed anew by whoever starts it again")
    #expect(ProcessControl.executable(startedAs: folder + "/other") == own, "another program is not this one")
    #expect(ProcessControl.executable(startedAs: "linked") == own)
    #expect(ProcessControl.executable(startedAs: "") == own)
  }
}
