import Bytes
import Encoding
import HTTP
import Synchronization
import Testing

@testable import Gateway

@Suite struct AdmissionTests {
  static let limits = AdmissionLimits(
    challenges: RateLimit(perSecond: 10, burst: 5),
    failures: RateLimit(perSecond: 1, burst: 2))

  private func address(_ number: Int) -> ClientAddress { ClientAddress(ipv4: UInt32(number)) }
  private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test func countsAnIPv6CustomerAsOne() throws {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 12, seed: 1))
    for last in 1...5 { #expect(admission.challenge(try #require(ClientAddress("2001:db8::\(last)")), at: at(0)) == .admitted) }
    #expect(admission.challenge(try #require(ClientAddress("2001:db8::ffff:9")), at: at(0)) != .admitted)
    #expect(admission.challenge(try #require(ClientAddress("2001:db8:0:1::9")), at: at(0)) == .admitted)
  }

  @Test func aBatchCountsAsWhatItHolds() {
    var limits = Self.limits
    limits.requests = RateLimit(perSecond: 10, burst: 8)
    let admission = Admission(limits: limits, table: RateTable(places: 12, seed: 1))
    #expect(admission.request(address(1), count: 5, at: at(0)) == .admitted)
    // All or none: what is refused uses up nothing.
    #expect(admission.request(address(1), count: 4, at: at(0)) == .refused(retryAfter: 1))
    #expect(admission.request(address(1), count: 3, at: at(0)) == .admitted)
    #expect(admission.request(address(1), at: at(99)) == .refused(retryAfter: 1))
    #expect(admission.request(address(1), count: 2, at: at(200)) == .admitted)
    #expect(admission.request(address(2), count: 9, at: at(0)) != .admitted)
    #expect(admission.request(address(2), count: .max, at: at(0)) != .admitted)
    #expect(admission.request(address(2), count: 8, at: at(0)) == .admitted)
    let route = (key: Digest32(), limit: RateLimit(perSecond: 1, burst: 2))
    #expect(admission.service(wallet: nil, session: nil, route: route, count: 3, at: at(0)) != .admitted)
    #expect(admission.service(wallet: nil, session: nil, route: route, count: 2, at: at(0)) == .admitted)
    #expect(admission.service(wallet: nil, session: nil, route: route, at: at(0)) != .admitted)
  }

  @Test func letsABurstThroughThenTheRate() {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 12, seed: 2))
    for _ in 0..<5 { #expect(admission.challenge(address(1), at: at(1000)) == .admitted) }
    #expect(admission.challenge(address(1), at: at(1000)) == .refused(retryAfter: 1))
    #expect(admission.challenge(address(2), at: at(1000)) == .admitted)
    #expect(admission.challenge(address(1), at: at(1099)) == .refused(retryAfter: 1))
    #expect(admission.challenge(address(1), at: at(1100)) == .admitted)
    #expect(admission.challenge(address(1), at: at(1100)) == .refused(retryAfter: 1))
    var admitted = 0
    for millisecond in 1101...11100 where admission.challenge(address(1), at: at(Int64(millisecond))) == .admitted { admitted += 1 }
    #expect(admitted == 100)
    for _ in 0..<5 { #expect(admission.challenge(address(1), at: at(20_000)) == .admitted) }
    #expect(admission.challenge(address(1), at: at(20_000)) != .admitted)
  }

  @Test func aClockThatStandsOrStepsBackOpensNothing() {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 12, seed: 2))
    for _ in 0..<5 { _ = admission.challenge(address(1), at: at(1000)) }
    #expect(admission.challenge(address(1), at: at(0)) == .refused(retryAfter: 2))
  }

  @Test func registrationsCountByClientAndTogether() {
    var limits = Self.limits
    limits.registrations = RateLimit(perSecond: 1, burst: 7)
    let admission = Admission(limits: limits, table: RateTable(places: 12, seed: 3))
    for _ in 0..<5 { #expect(admission.registration(address(1), at: at(0)) == .admitted) }
    // The client's own rate is that of its challenges.
    #expect(admission.registration(address(1), at: at(0)) == .refused(retryAfter: 1))
    #expect(admission.challenge(address(1), at: at(0)) == .refused(retryAfter: 1))
    // From any number of addresses no more come than all may make together.
    for client in 2...3 { #expect(admission.registration(address(client), at: at(0)) == .admitted) }
    #expect(admission.registration(address(4), at: at(0)) == .refused(retryAfter: 1))
    #expect(admission.registration(address(5), at: at(1000)) == .admitted)
  }

  @Test func onlyFailuresCostCredentials() {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 12, seed: 3))
    for _ in 0..<100 { #expect(admission.credential(address(1), at: at(0)) == .admitted) }
    admission.failed(address(1), at: at(0))
    #expect(admission.credential(address(1), at: at(0)) == .admitted)
    admission.failed(address(1), at: at(0))
    #expect(admission.credential(address(1), at: at(0)) == .refused(retryAfter: 1))
    #expect(admission.credential(address(1), at: at(1000)) == .admitted)
    #expect(admission.challenge(address(1), at: at(0)) == .admitted)
  }

  @Test func aLimitOfZeroRefusesAll() {
    var limits = Self.limits
    limits.challenges = RateLimit(perSecond: 0, burst: 5)
    limits.failures = RateLimit(perSecond: 5, burst: 0)
    let admission = Admission(limits: limits, table: RateTable(places: 12, seed: 3))
    #expect(admission.challenge(address(1), at: at(0)) == .refused(retryAfter: 60))
    #expect(admission.credential(address(1), at: at(0)) == .refused(retryAfter: 60))
  }

  @Test func aFloodOfAddressesSharesOneRate() {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 12, seed: 4))
    var admitted = 0
    for client in 0..<100_000 where admission.challenge(address(client), at: at(0)) == .admitted { admitted += 1 }
    // 1,024 clients have a place of their own, all others share five.
    #expect(admitted <= 1024 + 5 && admitted > 900)
    #expect(admission.challenge(address(200_000), at: at(0)) != .admitted || admitted < 1024 + 5)
    // Once the first have fallen behind the clock, others take their places.
    #expect(admission.challenge(address(300_000), at: at(60_000)) == .admitted)
  }

  @Test(arguments: [
    ("100/s burst 200", 10_000_000, 200), ("60/min", 1_000_000_000, 60), ("1000/h burst 1", 3_600_000_000, 1), ("1/d", 86_400_000_000_000, 1),
  ] as [(String, Int64, UInt32)])
  func readsARate(text: String, interval: Int64, burst: UInt32) throws {
    let limit = try #require(RateLimit(text))
    #expect(limit.interval == interval && limit.burst == burst)
  }

  @Test(arguments: ["", "100", "100/", "/s", "0/s", "1/s burst 0", "1/s burst", "1/s  burst 2", "1/week", "+1/s", "1/s burst 2 3", "2000000000/s"])
  func refusesWhatIsNoRate(text: String) { #expect(RateLimit(text) == nil) }

  @Test func serviceIsRefusedByTheNarrowestLimitFirst() {
    var limits = Self.limits
    limits.session = RateLimit(perSecond: 1, burst: 1)
    limits.wallet = RateLimit(perSecond: 1, burst: 2)
    let admission = Admission(limits: limits, table: RateTable(places: 12, seed: 5))
    func digest(_ number: UInt8) -> Digest32 { Digest32(bytes: Array(repeating: number, count: 32)) ?? Digest32() }
    let route = (key: digest(9), limit: RateLimit(perSecond: 1, burst: 3))
    func ask(_ session: UInt8, _ wallet: UInt8) -> Bool {
      admission.service(wallet: digest(wallet), session: digest(session), route: route, at: at(0)) == .admitted
    }
    #expect(ask(1, 1) && !ask(1, 1) && !ask(1, 1))
    // What was refused has used up nothing of the wallet's and route's rates.
    #expect(ask(2, 1) && !ask(3, 1))
    #expect(ask(4, 2) && !ask(5, 3))
    #expect(admission.service(wallet: nil, session: nil, route: nil, at: at(0)) == .admitted)
  }

  /// Several threads share one rate: together they get what it allows, and not more.
  @Test func threadsShareOneRate() async {
    let admission = Admission(limits: Self.limits, table: RateTable(places: 100_000, seed: 6))
    let client = address(1)
    let now = at(0)
    let admitted = await withTaskGroup(of: Int.self) { group in
      for _ in 0..<4 { group.addTask { (0..<1000).count { _ in admission.challenge(client, at: now) == .admitted } } }
      return await group.reduce(0, +)
    }
    #expect(admitted == 5)
  }
}
