import Bytes
import Configuration
import Crypto
import Encoding
import HTTP
import Metering
import Payments

private let prices = [
  "0.001 USDC per request + 0.15 USDC per M input tokens + 0.60 USDC per M output tokens, at least 0.0005 USDC, at most 0.05 USDC",
  "0.01 USDC per MB", "1 USDC per KiB of request + 2 EUR per minute", "0.001 USDC per message of both", "340282366920938463463374607431768211455 USDC per 1000 events",
  "0.05 USDC per M cached input tokens + 3 USDC per hour", "0.0001 USDC per 100 units + 0.002 USDC per call",
]
private let times = ["2026-01-02T03:04:05Z", "2000-02-29T23:59:60.123456789+01:30", "9999-12-31T23:59:59.999999-00:00"]
private let addresses = ["127.0.0.1", "2001:db8::1", "::ffff:1.2.3.4", "fe80::", "10.0.0.0/8", "[::1]:80", "a.example:443"]
private let notes = [
  "farebox.example\n17\nX48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=\n\n\u{2014} farebox.example X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=\n",
]
private let configurations = [
  """
  [server]
  listen = "127.0.0.1:8402"

  [currencies]
  usdc = { decimals = 6 }

  [upstreams.api]
  url = "http://127.0.0.1:9000"

  [[routes]]
  path = "/v1/*"
  upstream = "api"
  price = "0.001 USDC per request"
  """,
]

extension Property {
  /// What people write: prices, times, addresses, the configuration.
  static let words: [Property] = [
    Property("prices", prices) { octets in
      let currencies = [Currency(code: "usdc", decimals: 6), Currency(code: "eur", decimals: 2)].compactMap { $0 }
      let text = String(decoding: octets, as: UTF8.self)
      _ = try? Amount.parse(text, currencies: currencies)
      for currency in currencies { octets.withUnsafeBytes { _ = SettlementOverride($0, currency: currency) } }
      guard let price = try? Price(parsing: text, currencies: currencies) else { return }
      try require((try? Price(parsing: price.words, currencies: currencies)) == price, "written as \(price.words)")
      // No quantities whatever make it trap.
      _ = price.cost(of: Quantities(requestOctets: .max, responseOctets: .max, events: .max, seconds: .max, inputTokens: .max, outputTokens: .max, units: .max))
    },
    Property("times", times) { octets in
      guard let time = Timestamp(rfc3339: octets) else { return }
      // Fractions of a second are not written here.
      try require(Timestamp(rfc3339: time.rfc3339)?.rfc3339 == time.rfc3339, "written as \(time.rfc3339)")
    },
    Property("addresses", addresses) { octets in
      let text = String(decoding: octets, as: UTF8.self)
      if let address = octets.withUnsafeBytes({ ClientAddress(text: $0) }) {
        var written = ByteBuffer()
        address.append(to: &written)
        try require(written.withUnsafeBytes { ClientAddress(text: $0) } == address, "written as \(written.string())")
        try require(address.octets.withUnsafeBytes { ClientAddress(octets: $0) } == address, "its octets are \(address.octets)")
      }
      if let block = CIDR(text), let address = ClientAddress(text) { _ = block.contains(address) }
      if octets.withUnsafeBytes({ Authority.isValid($0) }) { _ = Authority.split(text) }
    },
    Property("notes", notes) { octets in
      let text = String(decoding: octets, as: UTF8.self)
      _ = SignedNote(parsing: text)
      if let checkpoint = Checkpoint(text: text) { try require(Checkpoint(text: checkpoint.text) == checkpoint, "written as \(checkpoint.text)") }
      _ = DIDKey.decode(text)
      if let value = try? JSON.parse(octets) { _ = JWK.parse(value) }
    },
    Property("configuration", configurations) { octets in
      guard let text = String(validating: octets, as: UTF8.self) else { return }
      let outcome = Configuration.inspect(text: text, file: "/nowhere/proxy.conf", environment: [:], readsSecrets: false)
      try require((outcome.settings == nil) == outcome.diagnostics.contains { $0.severity == .error }, "settings beside errors, or neither")
      let lines = octets.count { $0 == 0x0A } + 1
      for diagnostic in outcome.diagnostics {
        if let position = diagnostic.position { try require((1...lines).contains(position.line), "\(diagnostic) is at no line") }
      }
    },
  ]
}
