import Encoding
import HTTP
import Testing

@testable import Gateway

@Suite struct AdmissionTests {
  static let limits = AdmissionLimits(
    connections: 6, challenges: RateLimit(perSecond: 10, burst: 5),
    failures: RateLimit(perSecond: 1, burst: 2))

  private func address(_ number: Int) -> ClientAddress { ClientAddress(ipv4: UInt32(number)) }
  private func at(_ milliseconds: Int64) -> Instant { Instant(nanoseconds: milliseconds * 1_000_000) }

  @Test func countsAnIPv6CustomerAsOne() throws {
    var admission = Admission(limits: Self.limits, seed: 1)
    for last in 1...5 { #expect(admission.challenge(try #require(ClientAddress("2001:db8::\(last)")), at: at(0)) == .admitted) }
    #expect(admission.challenge(try #require(ClientAddress("2001:db8::ffff:9")), at: at(0)) != .admitted)
    #expect(admission.challenge(try #require(ClientAddress("2001:db8:0:1::9")), at: at(0)) == .admitted)
  }

  @Test func letsABurstThroughThenTheRate() {
    var admission = Admission(limits: Self.limits, seed: 2)
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
    var admission = Admission(limits: Self.limits, seed: 2)
    for _ in 0..<5 { _ = admission.challenge(address(1), at: at(1000)) }
    #expect(admission.challenge(address(1), at: at(0)) == .refused(retryAfter: 2))
  }

  @Test func registrationsCountByClientAndTogether() {
    var limits = Self.limits
    limits.registrations = RateLimit(perSecond: 1, burst: 7)
    var admission = Admission(limits: limits, seed: 3)
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
    var admission = Admission(limits: Self.limits, seed: 3)
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
    var admission = Admission(limits: limits, seed: 3)
    #expect(admission.challenge(address(1), at: at(0)) == .refused(retryAfter: 60))
    #expect(admission.credential(address(1), at: at(0)) == .refused(retryAfter: 60))
  }

  @Test func aFloodOfAddressesSharesOneRate() {
    var admission = Admission(limits: Self.limits, seed: 4)
    var admitted = 0
    for client in 0..<100_000 where admission.challenge(address(client), at: at(0)) == .admitted { admitted += 1 }
    // 1,024 clients have a place of their own, all others share five.
    #expect(admitted <= 1024 + 5 && admitted > 900)
    #expect(admission.challenge(address(200_000), at: at(0)) != .admitted || admitted < 1024 + 5)
    // Once the first have fallen behind the clock, others take their places.
    #expect(admission.challenge(address(300_000), at: at(60_000)) == .admitted)
  }
}
