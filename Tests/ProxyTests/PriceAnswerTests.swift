import Bytes
import Crypto
import Payments
import Testing

@testable import Proxy

private let currencies = [cashierCurrency, Currency(code: "eurc", decimals: 2)!]

private func quoted(_ text: String) -> QuotedPrice? { Array(text.utf8).withUnsafeBytes { QuotedPrice($0, currencies: currencies) } }

@Suite struct QuotedPriceTests {
  @Test func readsWhatPricersSay() {
    #expect(quoted(#"{"price":"0.002 USDC per request"}"#) == QuotedPrice(amount: 2000, currency: "usdc"))
    #expect(quoted(#"{"price":"0.5 EURC per 1000 requests","description":"a"}"#) == QuotedPrice(amount: 50, unitSize: 1000, currency: "eurc", description: "a"))
    #expect(quoted(#" {"currency":"usdc", "amount":"0"} "#)?.isFree == true)
    #expect(quoted(#"{"amount":"79228162514264337593543950336","currency":"usdc"}"#)?.amount == 1 << 96)
  }

  @Test(arguments: [
    "", "{}", "[]", "null", #"{"price":null}"#, #"{"price":"free"}"#, #"{"price":"0 USDC per request"}"#, #"{"price":"1 GBP per request"}"#,
    #"{"price":"1 USDC per MB"}"#, #"{"price":"1 USDC per request + 1 USDC per MB"}"#, #"{"price":"1 USDC per request","amount":"1"}"#,
    #"{"price":"1 USDC per request","currency":"usdc"}"#, #"{"amount":"1"}"#, #"{"amount":"01","currency":"usdc"}"#, #"{"amount":"1.5","currency":"usdc"}"#,
    #"{"amount":"+1","currency":"usdc"}"#, #"{"amount":1,"currency":"usdc"}"#, #"{"amount":"1","currency":"USDC"}"#, #"{"amount":"1","currency":"usdc","x":1}"#,
    #"{"amount":"79228162514264337593543950337","currency":"usdc"}"#, #"{"amount":"1","amount":"2","currency":"usdc"}"#,
    #"{"amount":"1","currency":"usdc","description":""}"#, #"{"amount":"1","currency":"usdc","description":"\""}"#, #"{"amount":"1","currency":"usdc"} x"#,
  ])
  func refusesTheRest(_ text: String) { #expect(quoted(text) == nil) }

  @Test func marksNameOnePriceEach() {
    for price in [
      QuotedPrice(amount: 1, currency: "usdc"), QuotedPrice(amount: 50, unitSize: 1000, currency: "eurc"), QuotedPrice(amount: 1 << 96, currency: "usdc"),
    ] {
      #expect(QuotedPrice(mark: price.mark[...]) == price)
      #expect(price.price(currencies)?.parts.first?.amount == price.amount)
    }
    for mark in ["", ".", "1", "1.", "0.usdc", "01.usdc", "1-.usdc", "1-0.usdc", "1-1.usdc", "1-2-3.usdc", "-1.usdc", "1-01.usdc", "79228162514264337593543950337.usdc"] {
      #expect(QuotedPrice(mark: mark[...]).flatMap { $0.price(currencies) } == nil, "\(mark)")
    }
    #expect(QuotedPrice(amount: 1, currency: "gbp").price(currencies) == nil)
  }
}

@Suite struct PriceCacheTests {
  private func key(_ number: Int) -> Digest32 { SHA256.hash("\(number)") }

  @Test func forgetsWhatHasEnded() {
    var cache = PriceCache()
    cache.insert(.failed, for: key(1), until: 100)
    #expect(cache.find(key(1), at: 99) == .failed)
    #expect(cache.find(key(1), at: 100) == nil)
    #expect(cache.find(key(2), at: 0) == nil)
    cache.insert(.quoted(QuotedPrice(amount: 1, currency: "usdc")), for: key(1), until: 200)
    #expect(cache.find(key(1), at: 150) == .quoted(QuotedPrice(amount: 1, currency: "usdc")))
  }

  @Test func isBoundedAndKeepsWhatIsAskedFor() {
    var cache = PriceCache()
    cache.insert(.failed, for: key(-1), until: .max)
    for number in 0..<PriceCache.halfLimit * 5 {
      cache.insert(.failed, for: key(number), until: .max)
      #expect(cache.find(key(-1), at: 0) == .failed)
      if cache.count > 2 * PriceCache.halfLimit { Issue.record("\(cache.count) answers are kept") }
    }
    #expect(cache.find(key(0), at: 0) == nil)
    #expect(cache.find(key(PriceCache.halfLimit * 5 - 1), at: 0) == .failed)
  }
}

@Suite struct CacheLifetimeTests {
  @Test(arguments: [
    ("", nil), ("public", nil), ("no-store", 0), ("No-Cache, max-age=60", 0), ("max-age=60", 60), ("private , MAX-AGE = 7", 7), ("max-age=\"5\"", 5),
    ("max-age", 0), ("max-age=", 0), ("max-age=-1", 0), ("max-age=99999999999", 0), ("max-age=9, max-age=3", 3), ("s-maxage=9", nil),
  ] as [(String, Int64?)])
  func readsCacheControl(_ value: String, _ seconds: Int64?) {
    #expect(Array(value.utf8).withUnsafeBytes { CacheLifetime.seconds($0) } == seconds)
  }
}
