import Testing

@testable import Configuration

@Suite struct QuantityTests {
  @Test(arguments: [
    ("30s", Duration.seconds(30)), ("30 s", .seconds(30)), ("1.5 s", .milliseconds(1500)), ("250 ms", .milliseconds(250)),
    ("5 min", .seconds(300)), ("5m", .seconds(300)), ("2 h", .seconds(7200)), ("1 d", .seconds(86_400)), ("0 s", .zero),
  ])
  func readsTimes(_ words: String, _ duration: Duration) {
    #expect(Quantity.duration(words) == duration)
  }

  @Test(arguments: ["", "30", "s", "-1 s", "1 sec", "1..5 s", "1. s", ".5 s", "1.2345 s", "1 S", "9999999999 d", "١ s", "1 s s"])
  func refusesOtherTimes(_ words: String) {
    #expect(Quantity.duration(words) == nil)
  }

  @Test(arguments: [("64 KiB", 65_536), ("10 MB", 10_000_000), ("1.5 KiB", 1536), ("7 B", 7), ("0 B", 0), ("2GiB", 2 << 30)])
  func readsSizes(_ words: String, _ size: UInt64) {
    #expect(Quantity.size(words) == size)
  }

  @Test(arguments: ["64", "1 kb", "1 mb", "0.3 B", "-1 B", "99999999999999999999 B", "9999999999 TiB"])
  func refusesOtherSizes(_ words: String) {
    #expect(Quantity.size(words) == nil)
  }

  @Test func writesThemBack() {
    #expect(Quantity.words(.seconds(300)) == "5 min")
    #expect(Quantity.words(.milliseconds(1500)) == "1500 ms")
    #expect(Quantity.words(.seconds(90)) == "90 s")
    #expect(Quantity.words(65_536) == "64 KiB")
    #expect(Quantity.words(10_000_000) == "10 MB")
    #expect(Quantity.words(7) == "7 B")
  }

  @Test func nearestNameIsASlipAway() {
    #expect(Nearest.name(to: "prise", in: ["price", "path"]) == "price")
    #expect(Nearest.name(to: "pirce", in: ["price", "path"]) == "price")
    #expect(Nearest.name(to: "Price", in: ["price"]) == "price")
    #expect(Nearest.name(to: "colour", in: ["price", "path"]) == nil)
    #expect(Nearest.name(to: "id", in: ["x"]) == nil)
  }
}
