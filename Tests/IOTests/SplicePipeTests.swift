import IO
import Testing

#if canImport(Glibc)
  import Glibc
#endif

@Suite struct SplicePipeTests {
  /// Two pairs of connected sockets that do not wait: what is sent into the first of each comes out of the second.
  private func sockets() -> [Int32] {
    (0..<2).flatMap { _ -> [Int32] in
      var ends: [Int32] = [-1, -1]
      _ = socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0, &ends)
      return ends
    }
  }

  private func received(_ descriptor: Int32) -> [UInt8] {
    var octets = [UInt8](repeating: 0, count: 1 << 20)
    guard case .moved(let count) = octets.withUnsafeMutableBytes({ Syscalls.receive(descriptor, into: $0) }) else { return [] }
    return Array(octets[..<count])
  }

  @Test func movesOctetsFromSocketToSocketAndCountsThem() {
    let ends = sockets()
    defer { ends.forEach { Syscalls.close($0) } }
    guard var pipe = SplicePipe(capacity: 65_536) else {
      Issue.record("the system gives no pipe")
      return
    }
    #expect(pipe.fill(from: ends[1], limit: 10) == .wouldBlock)
    let sent = (0..<1_000).map { UInt8(truncatingIfNeeded: $0) }
    #expect(sent.withUnsafeBytes { Syscalls.send(ends[0], $0) } == .moved(1_000))
    // No more than was asked for, however much is there.
    #expect(pipe.fill(from: ends[1], limit: 300) == .moved(300))
    #expect(pipe.count == 300)
    #expect(pipe.drain(to: ends[2]) == .moved(300))
    #expect(pipe.count == 0)
    #expect(received(ends[3]) == Array(sent[..<300]))
    #expect(received(ends[1]) == Array(sent[300...]))
    Syscalls.shutdownWrite(ends[0])
    #expect(pipe.fill(from: ends[1], limit: 10) == .ended)
  }

  @Test func keepsWhatTheReceiverDoesNotTake() {
    let ends = sockets()
    defer { ends.forEach { Syscalls.close($0) } }
    guard var pipe = SplicePipe(capacity: 65_536) else {
      Issue.record("the system gives no pipe")
      return
    }
    let block = (0..<32_768).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    var moved: [UInt8] = []
    // Until the receiver's buffer is full.
    for _ in 0..<1_000 where pipe.count == 0 {
      guard case .moved(let count) = block.withUnsafeBytes({ Syscalls.send(ends[0], $0) }) else { break }
      moved += block[..<count]
      while case .moved = pipe.fill(from: ends[1], limit: 65_536) {
        while pipe.count > 0, case .moved = pipe.drain(to: ends[2]) {}
        if pipe.count > 0 { break }
      }
    }
    #expect(pipe.count > 0)
    #expect(pipe.drain(to: ends[2]) == .wouldBlock)
    var arrived: [UInt8] = []
    while true {
      let octets = received(ends[3])
      if octets.isEmpty, pipe.count == 0 { break }
      arrived += octets
      if pipe.count > 0 { _ = pipe.drain(to: ends[2]) }
    }
    #expect(arrived == Array(moved[..<arrived.count]) && arrived.count > 65_536)
  }

  @Test func aReceiverThatIsGoneIsAnError() {
    let ends = sockets()
    defer { ends[..<3].forEach { Syscalls.close($0) } }
    guard var pipe = SplicePipe(capacity: 65_536) else {
      Issue.record("the system gives no pipe")
      return
    }
    #expect([1, 2, 3].withUnsafeBytes { Syscalls.send(ends[0], $0) } == .moved(24))
    #expect(pipe.fill(from: ends[1], limit: 100) == .moved(24))
    Syscalls.close(ends[3])
    signal(SIGPIPE, SIG_IGN)
    #expect(pipe.drain(to: ends[2]) == .failed(EPIPE))
    #expect(!SplicePipe.isUnsupported(EPIPE) && SplicePipe.isUnsupported(EINVAL))
  }
}
