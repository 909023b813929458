import Encoding
import Gateway
import Testing

private let second: Int64 = 1_000_000_000
private func at(_ seconds: Int64) -> Instant { Instant(nanoseconds: (1000 + seconds) * second) }
private let rules = Ejection.Rules(failures: 3, time: 10 * second, longest: 40 * second, share: 50)
private let both = ServerSet(first: 2)

/// Fails a server until it is ejected; how many failures that took, and for how many seconds it is out.
private func failUntilEjected(_ ejection: inout Ejection, _ server: Int, _ usable: ServerSet, at now: Instant) -> (Int, Int64)? {
  for count in 1...10 {
    if let time = ejection.failed(server, usable: usable, at: now) { return (count, time / second) }
  }
  return nil
}

@Suite struct EjectionTests {
  @Test func consecutiveFailuresEject() {
    var ejection = Ejection(rules, serverCount: 2)
    #expect(ejection.failed(0, usable: both, at: at(0)) == nil)
    #expect(ejection.failed(0, usable: both, at: at(0)) == nil)
    #expect(ejection.suspected.has(0))
    ejection.succeeded(0)
    #expect(!ejection.suspected.has(0))
    for _ in 0..<2 { #expect(ejection.failed(0, usable: both, at: at(1)) == nil) }
    #expect(ejection.failed(0, usable: both, at: at(1)) == 10 * second)
    #expect(ejection.ejected == ServerSet(server: 0) && ejection.nextReturn == at(11))
    // What still comes in from before changes nothing.
    #expect(ejection.failed(0, usable: both, at: at(2)) == nil)
    ejection.succeeded(0)
    #expect(ejection.returned(at: at(10)).isEmpty && ejection.ejected.has(0))
    #expect(ejection.returned(at: at(11)) == ServerSet(server: 0) && ejection.ejected.isEmpty && ejection.nextReturn == nil)
  }

  @Test func probationAndLongerTimes() throws {
    var ejection = Ejection(rules, serverCount: 2)
    var now: Int64 = 0
    for (failures, seconds) in [(3, 10), (1, 20), (1, 40), (1, 40)] as [(Int, Int64)] {
      let found = try #require(failUntilEjected(&ejection, 1, both, at: at(now)))
      #expect(found == (failures, seconds))
      now += seconds
      #expect(ejection.returned(at: at(now)).has(1))
    }
    // A success ends the probation; peace makes the time short again.
    ejection.succeeded(1)
    #expect(try #require(failUntilEjected(&ejection, 1, both, at: at(now))) == (3, 40))
    now += 40
    _ = ejection.returned(at: at(now))
    ejection.succeeded(1)
    now += 1000
    #expect(try #require(failUntilEjected(&ejection, 1, both, at: at(now))) == (3, 10))
  }

  @Test(arguments: [
    // servers, share in percent, how many can be out
    (1, 100, 0), (2, 50, 1), (2, 49, 0), (3, 50, 1), (4, 50, 2), (4, 100, 3), (10, 20, 2), (64, 100, 63), (5, 0, 0),
  ])
  func neverMoreThanTheShareAndNeverTheLast(servers: Int, share: Int, most: Int) {
    var ejection = Ejection(.init(failures: 1, time: second, longest: second, share: share), serverCount: servers)
    for server in 0..<servers { _ = ejection.failed(server, usable: ServerSet(first: servers), at: at(0)) }
    #expect(ejection.ejected.count == most)
    #expect(ejection.returned(at: at(1)).count == most)
  }

  @Test func whatCannotBeUsedAnywayDoesNotCountAsLeft() {
    var ejection = Ejection(.init(failures: 1, time: second, longest: second, share: 100), serverCount: 3)
    // The health checks have only server 1 up: it stays.
    #expect(ejection.failed(1, usable: ServerSet(server: 1), at: at(0)) == nil)
    #expect(ejection.failed(1, usable: ServerSet(first: 2), at: at(0)) == second)
    #expect(ejection.failed(0, usable: ServerSet(first: 2), at: at(0)) == nil)
  }

  @Test func zeroFailuresSwitchesItOff() {
    var ejection = Ejection(.init(failures: 0, time: second, longest: second, share: 100), serverCount: 2)
    #expect(failUntilEjected(&ejection, 0, both, at: at(0)) == nil)
    #expect(ejection.failed(7, usable: both, at: at(0)) == nil)
  }
}
