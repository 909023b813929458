import Bytes
import Encoding
import Ethereum
import HTTP
import Testing

@testable import Proxy

private let begin = Instant(nanoseconds: 1_000_000_000_000)
private let freshness = Duration.seconds(150)
private let limit = Duration.seconds(56)

@Suite struct UnreadChannelTests {
  @Test func whatWasNeverReadIsApartAtOnce() {
    #expect(UnreadChannel(since: begin, isUnseen: true).isApart(at: begin, freshness))
    #expect(!UnreadChannel(since: begin, isUnseen: false).isApart(at: begin, freshness))
  }

  @Test func answersThatSayNothingCountAndSilenceTakesTime() {
    var strange = UnreadChannel(since: begin, isUnseen: false)
    var silent = strange
    for number in 1...5 {
      let now = begin + .seconds(number)
      strange.fail(.init(), isAnswered: true, at: now, limit: limit)
      silent.fail(.init(), isAnswered: false, at: now, limit: limit)
      #expect(strange.isApart(at: now, freshness) == (number >= UnreadChannel.answerLimit))
      #expect(!silent.isApart(at: now, freshness))
    }
    #expect(!silent.isApart(at: begin + freshness - .seconds(1), freshness) && silent.isApart(at: begin + freshness, freshness))
  }

  @Test func itIsLookedAtEverMoreSeldomAndNeverLaterThanTheLimit() {
    var channel = UnreadChannel(since: begin, isUnseen: false)
    var pauses: [Duration] = []
    for _ in 0..<20 {
      channel.fail(.init(), isAnswered: true, at: begin, limit: limit)
      pauses.append(channel.until - begin)
    }
    #expect(pauses.prefix(5) == [.seconds(5), .seconds(10), .seconds(20), .seconds(40), limit] && pauses.dropFirst(4).allSatisfy { $0 == limit })
  }

  @Test func whatWasMissedIsNotForgotten() {
    var channel = UnreadChannel(since: begin, isUnseen: false)
    channel.fail(.init(isReorganised: false, mayHaveFallen: true), isAnswered: true, at: begin, limit: limit)
    channel.fail(.init(isReorganised: true, mayHaveFallen: false), isAnswered: true, at: begin, limit: limit)
    #expect(channel.miss == .init(isReorganised: true, mayHaveFallen: true))
  }
}

@Suite struct GasAllowancesTests {
  private let noon = Timestamp(seconds: 1_900_000_000)
  private let payer = Address(bytes: [UInt8](repeating: 1, count: 20)[...]) ?? .zero
  private let other = Address(bytes: [UInt8](repeating: 2, count: 20)[...]) ?? .zero

  @Test func someAreFreeAndWhoBuysHasMore() {
    let gas = GasAllowances()
    for _ in 0..<GasAllowances.free { #expect(gas.hasLeft(payer, at: noon) && gas.take(payer, at: noon)) }
    #expect(!gas.hasLeft(payer, at: noon) && !gas.take(payer, at: noon) && gas.take(other, at: noon))
    for _ in 1..<GasAllowances.requestsForOne { gas.charged(payer, at: noon) }
    #expect(!gas.take(payer, at: noon))
    gas.charged(payer, at: noon)
    #expect(gas.take(payer, at: noon) && !gas.take(payer, at: noon))
  }

  @Test func whoOnlyAsksTakesNoPlaceAndFullIsFull() {
    let gas = GasAllowances()
    func address(_ number: Int) -> Address { Address(bytes: (0..<20).map { UInt8(truncatingIfNeeded: $0 < 4 ? number >> ($0 * 8) : 9) }[...]) ?? .zero }
    for _ in 0..<GasAllowances.free { #expect(gas.take(payer, at: noon)) }
    for number in 0..<GasAllowances.payerLimit + 1 { #expect(gas.hasLeft(address(number), at: noon)) }
    #expect(!gas.take(payer, at: noon))
    // Who has only bought makes place; who has taken keeps his, and nothing of it is forgotten.
    for number in 0..<GasAllowances.payerLimit { gas.charged(address(number), at: noon) }
    #expect(gas.take(other, at: noon) && !gas.take(payer, at: noon))
    for number in 0..<GasAllowances.payerLimit - 2 { #expect(gas.take(address(number), at: noon)) }
    #expect(!gas.take(address(GasAllowances.payerLimit), at: noon) && !gas.take(payer, at: noon) && gas.take(other, at: noon))
    gas.giveBack(payer, at: noon)
    #expect(gas.take(payer, at: noon) && !gas.take(payer, at: noon))
  }

  @Test func anotherDayBeginsAnew() {
    let gas = GasAllowances()
    for _ in 0..<GasAllowances.free { #expect(gas.take(payer, at: noon)) }
    #expect(!gas.take(payer, at: noon) && gas.take(payer, at: noon + .seconds(86_400)))
  }
}

@Suite struct PayerPlacesTests {
  @Test func theLastPlaceCounts() {
    let (channel, places) = (Digest32(), PayerPlaces())
    let (here, there) = (ClientAddress(ipv4: 0x0A00_0001), ClientAddress(ipv4: 0x0A00_0002))
    #expect(!places.isLast(channel, here))
    places.note(channel, here)
    #expect(places.isLast(channel, here) && !places.isLast(channel, there))
    places.note(channel, there)
    #expect(!places.isLast(channel, here) && places.isLast(channel, there))
  }
}
