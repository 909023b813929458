import IO
import Synchronization
import Testing

@Suite struct WakerTests {
  @Test func wakesASleeperOnlyWhenItSaidSo() throws {
    let waker = try Waker()
    let epoll = try Epoll()
    try epoll.add(waker.descriptor, token: 7)
    _ = epoll.wait(milliseconds: 0)
    waker.wakeIfAsleep()
    #expect(epoll.wait(milliseconds: 0) == 0)
    waker.prepareToSleep()
    #expect(waker.isAsleep)
    waker.wakeIfAsleep()
    #expect(!waker.isAsleep)
    #expect(epoll.wait(milliseconds: 1000) == 1)
    #expect(epoll.token(0) == 7)
    // Edge-triggered and never read: a second wake is a second edge.
    #expect(epoll.wait(milliseconds: 0) == 0)
    waker.wake()
    #expect(epoll.wait(milliseconds: 1000) == 1)
  }

  final class Published: Sendable {
    let value = Atomic<Int>(0)
  }

  @Test func losesNoWakeUpBetweenThreads() throws {
    let waker = try Waker()
    let published = Published()
    let rounds = 20_000
    let epoll = try Epoll()
    try epoll.add(waker.descriptor, token: 0)
    let thread = try LoopThread(name: "publisher") {
      for _ in 0..<rounds {
        published.value.add(1, ordering: .sequentiallyConsistent)
        waker.wakeIfAsleep()
      }
    }
    var seen = 0
    while seen < rounds {
      waker.prepareToSleep()
      if published.value.load(ordering: .sequentiallyConsistent) == seen {
        try #require(epoll.wait(milliseconds: 5000) >= 1)
      }
      waker.didWake()
      seen = published.value.load(ordering: .sequentiallyConsistent)
    }
    thread.join()
    #expect(seen == rounds)
  }
}
