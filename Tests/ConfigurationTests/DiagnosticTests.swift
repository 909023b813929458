import Foundation
import Testing

@testable import Configuration

/// A sound configuration in parts, so that each test can break one line.
private let head = """
  realm = "api.example.com"
  [[listen]]
  address = "127.0.0.1:8402"
  [[currency]]
  code = "usdc"
  decimals = 6
  [[merchant]]
  id = "shop"
  [[upstream]]
  name = "api"
  url = "http://127.0.0.1:8081"

  """

/// The line on which the text after `head` begins.
private let first = 12

private func diagnostics(_ text: String, environment: [String: String] = [:]) -> [String] {
  Configuration.inspect(text: text, file: "/etc/proxy.conf", state: "/tmp/state", environment: environment)
    .diagnostics.map { $0.text(file: "proxy.conf") }
}

private func route(_ lines: String) -> String {
  head + "[[route]]\nid = \"quotes\"\n" + lines
}

private struct Case: CustomTestStringConvertible, Sendable {
  let text: String
  let expected: String
  var testDescription: String { expected.split(separator: "\n").first.map { String($0) } ?? "" }

  init(_ text: String, _ expected: String) {
    self.text = text
    self.expected = expected
  }
}

private let sound = "path = \"/q\"\nprice = \"1 USDC per request\"\n"

private let routeCases = [
  Case(
    "path = \"/q\"\nprise = \"1 USDC per request\"\nfree = true",
    "proxy.conf:15:1: error: [[route]] \"quotes\": prise: unknown key\n  did you mean: price"),
  Case(
    "path = \"/q\"",
    "proxy.conf:12:1: error: [[route]] \"quotes\": price: missing key\n  expected: price = \"0.002 USDC per request\", or free = true"),
  Case(
    "path = \"/q\"\nfree = false",
    "proxy.conf:15:8: error: [[route]] \"quotes\": free = false: excludes another key\n  expected: a price, or free = true"),
  Case(
    sound + "free = true",
    "proxy.conf:16:8: error: [[route]] \"quotes\": free = true: excludes another key\n  expected: either a price or free = true"),
  Case(
    "path = \"/q\"\nprice = \"0.002 USD per request\"",
    "proxy.conf:15:16: error: [[route]] \"quotes\": price = \"0.002 USD per request\": invalid value\n  expected: one of USDC\n  did you mean: USDC"
  ),
  Case(
    "path = \"/q\"\nprice = \"0.002 USDC each request\"",
    "proxy.conf:15:21: error: [[route]] \"quotes\": price = \"0.002 USDC each request\": invalid value\n  expected: the word \"per\""),
  Case(
    "path = \"/q\"\nprice = 0.002",
    "proxy.conf:15:9: error: [[route]] \"quotes\": price = 0.002: wrong type\n  expected: a price such as \"0.002 USDC per request\", not a number with a point"
  ),
  Case(
    sound + "upstream = \"ap\"",
    "proxy.conf:16:12: error: [[route]] \"quotes\": upstream = \"ap\": nothing has this name\n  expected: one of api\n  did you mean: api"),
  Case(
    sound + "merchant = \"stranger\"",
    "proxy.conf:16:12: error: [[route]] \"quotes\": merchant = \"stranger\": nothing has this name\n  expected: one of shop"),
  Case(
    sound + "methods = [\"GET\", \"get\"]",
    "proxy.conf:16:19: error: [[route]] \"quotes\": methods = \"get\": invalid value\n  expected: one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY, TRACE\n  did you mean: GET"
  ),
  Case(
    sound + "idle-timeout = \"-5 s\"",
    "proxy.conf:16:16: error: [[route]] \"quotes\": idle-timeout = \"-5 s\": invalid value\n  expected: a time such as \"30 s\", \"5 min\" or \"1 h\""),
  Case(
    sound + "idle-timeout = \"90 d\"",
    "proxy.conf:16:16: error: [[route]] \"quotes\": idle-timeout = \"90 d\": out of range\n  expected: a time from 1 s to 30 d"),
  Case(
    sound + "idle-timeout = 30",
    "proxy.conf:16:16: error: [[route]] \"quotes\": idle-timeout = 30: wrong type\n  expected: a time such as \"30 s\", \"5 min\" or \"1 h\", not a whole number"
  ),
  Case(
    sound + "minimum-deposit = \"0.5 USDC\"",
    "proxy.conf:16:19: error: [[route]] \"quotes\": minimum-deposit = \"0.5 USDC\": out of range\n  expected: at least 1 USDC, what one request costs"),
  Case(
    sound + "suggested-deposit = \"0.5 USDC\"",
    "proxy.conf:16:21: error: [[route]] \"quotes\": suggested-deposit = \"0.5 USDC\": out of range\n  expected: at least the minimum deposit, 1 USDC"),
  Case(
    sound + "suggested-deposit = \"5 EUR\"",
    "proxy.conf:16:21: error: [[route]] \"quotes\": suggested-deposit = \"5 EUR\": invalid value\n  expected: an amount in the price's currency, such as \"0.5 USDC\""
  ),
  Case(
    sound + "sell = [\"charge\"]\nminimum-deposit = \"2 USDC\"",
    "proxy.conf:17:19: error: [[route]] \"quotes\": minimum-deposit = \"2 USDC\": excludes another key\n  expected: a route that sells sessions"),
  Case(
    "path = \"/q\"\nprice = \"1 USDC per MB\"\nsell = [\"charge\", \"session\"]",
    "proxy.conf:16:8: error: [[route]] \"quotes\": sell: excludes another key\n  expected: [\"session\"]: what is metered cannot be charged before it is known\n  advice: remove \"charge\", or use a price per request"
  ),
  Case(
    sound + "sell = [\"sesion\"]",
    "proxy.conf:16:9: error: [[route]] \"quotes\": sell = \"sesion\": invalid value\n  expected: \"charge\" or \"session\"\n  did you mean: session"),
  Case(
    sound + "charge-status = [\"2xx\", \"700\"]",
    "proxy.conf:16:25: error: [[route]] \"quotes\": charge-status = \"700\": invalid value\n  expected: status codes such as \"2xx\", \"404\" or \"200-299\""),
  Case(
    "path = \"/q/*\"\nfree = true",
    "proxy.conf:14:8: error: [[route]] \"quotes\": path = \"/q/*\": invalid value\n  expected: path = \"/v1/quotes/{symbol}\" for one path, or prefix = \"/files/\" for all below it\n  advice: write prefix = \"/q/\" instead"
  ),
  Case(
    "path = \"/a//b\"\nfree = true",
    "proxy.conf:14:8: error: [[route]] \"quotes\": path = \"/a//b\": invalid value\n  expected: a path in canonical form: from /, without //, . or .., a query, or needless escapes"
  ),
  Case(
    "path = \"/a/x{b}\"\nfree = true",
    "proxy.conf:14:8: error: [[route]] \"quotes\": path = \"/a/x{b}\": invalid value\n  expected: {names} in the place of whole segments, such as \"/v1/{id}/orders\""
  ),
  Case(
    "path = \"/q\"\nprefix = \"/q/\"\nfree = true",
    "proxy.conf:15:10: error: [[route]] \"quotes\": prefix = \"/q/\": excludes another key\n  expected: path = \"/v1/quotes/{symbol}\" for one path, or prefix = \"/files/\" for all below it"
  ),
  Case(
    sound + "host = \"API.example.com\"",
    "proxy.conf:16:8: error: [[route]] \"quotes\": host = \"API.example.com\": invalid value\n  expected: a lower-case host name such as \"api.example.com\", without port"
  ),
  Case(
    sound + "strip-prefix = \"/v1\"",
    "proxy.conf:16:16: error: [[route]] \"quotes\": strip-prefix = \"/v1\": excludes another key\n  expected: the beginning of the route's own path, by whole segments"),
  Case(
    "path = \"/q\"\nfree = true\nmerchant = \"shop\"",
    "proxy.conf:16:12: error: [[route]] \"quotes\": merchant = \"shop\": excludes another key\n  expected: a priced route: this one is free"),
  Case(
    sound + "inject = [{ name = \"X-Key\", environment = \"KEY\" }]",
    "proxy.conf:16:43: error: [[route]] \"quotes\" inject: environment = \"KEY\": environment variable is not set\n  advice: set it before the proxy starts, for example by EnvironmentFile= in the systemd unit"
  ),
  Case(
    sound + "inject = [{ name = \"X-Key\", file = \"absent.key\" }]",
    "proxy.conf:16:36: error: [[route]] \"quotes\" inject: file = \"absent.key\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, /etc"
  ),
  Case(
    sound + "inject = [{ name = \"Connection\", value = \"x\" }]",
    "proxy.conf:16:20: error: [[route]] \"quotes\" inject: name = \"Connection\": invalid value\n  expected: the name of a header field that the proxy does not write itself"
  ),
  Case(
    sound + "[[route]]\nid = \"quotes\"\npath = \"/r\"\nfree = true",
    "proxy.conf:17:6: error: [[route]] \"quotes\": id = \"quotes\": is there twice"),
  Case(
    sound + "[[route]]\nid = \"other\"\npath = \"/q\"\nmethods = [\"POST\"]\nfree = true",
    "proxy.conf:18:8: error: [[route]] \"other\": path = \"/q\": matches the same requests as another route\n  expected: another path, host or method than [[route]] \"quotes\" (line 12)"
  ),
]

private let wholeCases = [
  Case(
    "realm = ",
    "proxy.conf:1:9: error: is not valid TOML\n  expected: a key-value pair\n  advice: encountered end-of-file"),
  Case("[[route]\nid = 1", "proxy.conf:1:9: error: is not valid TOML\n  expected: ']', saw '\\n' in a table header"),
  Case(
    head.replacing("api.example.com", with: "api|example") + "[[route]]\nid = \"r\"\npath = \"/\"\nfree = true",
    "proxy.conf:1:9: error: realm = \"api|example\": invalid value\n  expected: the host name that clients call, such as \"api.example.com\", without port"
  ),
  Case(
    "origin = \"https://other.example\"\n" + head + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"",
    "proxy.conf:1:10: error: origin = \"https://other.example\": excludes another key\n  expected: a host that the realm \"api.example.com\" covers: itself or a name below it"
  ),
  Case(
    head.replacing("127.0.0.1:8402", with: "0.0.0.0:8402") + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"",
    "proxy.conf:3:11: error: [[listen]] number 1: address = \"0.0.0.0:8402\": payments would pass in plain text\n  expected: a loopback address such as 127.0.0.1, since routes are sold\n  advice: give this [[listen]] tls, or put TLS in front and say so with plaintext = true"
  ),
  Case(
    head.replacing("127.0.0.1:8402", with: "localhost:8402") + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"",
    "proxy.conf:3:11: error: [[listen]] number 1: address = \"localhost:8402\": invalid value\n  expected: an address and a port such as \"127.0.0.1:8402\", \"[::]:8402\", or \"unix:/run/farebox/http.sock\"\n  advice: write 127.0.0.1 instead of localhost"
  ),
  Case(
    head.replacing("http://127.0.0.1:8081", with: "https://a.example/v2")
      + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"",
    "proxy.conf:11:7: error: [[upstream]] \"api\": url = \"https://a.example/v2\": invalid value\n  expected: a URL such as \"http://127.0.0.1:8081\" or \"https://api.internal\", or \"unix:/run/api.sock\"\n  advice: a path belongs into the route: rewrite-prefix"
  ),
  Case(
    head.replacing("decimals = 6", with: "decimals = 31") + "[[route]]\nid = \"r\"\npath = \"/\"\nfree = true",
    "proxy.conf:6:12: error: [[currency]] number 1: decimals = 31: out of range\n  expected: a whole number from 0 to 30"),
  Case(
    "trusted-proxies = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\n" + head + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"",
    "proxy.conf:1:34: error: trusted-proxies = \"10.0.0.1/8\": invalid value\n  expected: an address or block such as \"10.0.0.0/8\" or \"::1\""),
  Case(
    head + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"\n[limit]\nhead = 1",
    "proxy.conf:16:1: error: limit: unknown key\n  did you mean: limits"),
  Case(
    head + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"\n[timeouts]\nidle = \"0 s\"",
    "proxy.conf:17:8: error: [timeouts]: idle = \"0 s\": out of range\n  expected: a time from 1 ms to 1 d"),
  Case(
    head + "[[route]]\nid = \"r\"\npath = \"/\"\nprice = \"1 USDC per request\"\n[limits]\nhead = \"2 KB\"",
    "proxy.conf:17:8: error: [limits]: head = \"2 KB\": excludes another key\n  expected: a request line no longer than the head"),
  Case(
    head + "[[upstream]]\nname = \"spare\"\nurl = \"http://127.0.0.1:1\"\n[[route]]\nid = \"r\"\npath = \"/\"\nupstream = \"api\"\nprice = \"1 USDC per request\"",
    "proxy.conf:13:8: warning: [[upstream]] \"spare\": name = \"spare\": is never used\n  advice: remove it, or name it in a [[route]]"),
]

@Suite struct DiagnosticTests {
  @Test(arguments: routeCases)
  private func routeErrorNamesPlaceAndRemedy(_ example: Case) {
    #expect(diagnostics(route(example.text)) == [example.expected])
  }

  @Test(arguments: wholeCases)
  private func errorNamesPlaceAndRemedy(_ example: Case) {
    #expect(diagnostics(example.text) == [example.expected])
  }

  @Test func headIsSound() {
    #expect(diagnostics(route(sound)) == [])
    #expect(head.split(separator: "\n", omittingEmptySubsequences: false).count == first)
  }

  /// A realm that is missing is one mistake: the origin is not held against it as well.
  @Test func everyErrorIsReportedAtOnceInTheFilesOrder() {
    let text = """
      relm = "api.example.com"
      origin = "https://api.example.com"
      workers = -1
      [[listen]]
      adress = "127.0.0.1:1"
      [[route]]
      path = "q"
      """
    let heads = diagnostics(text).map { $0.split(separator: "\n")[0] }
    #expect(
      heads == [
        "proxy.conf:1:1: error: realm: missing key",
        "proxy.conf:1:1: error: relm: unknown key",
        "proxy.conf:3:11: error: workers = -1: out of range",
        "proxy.conf:4:1: error: [[listen]] number 1: address: missing key",
        "proxy.conf:5:1: error: [[listen]] number 1: adress: unknown key",
        "proxy.conf:6:1: error: [[route]] number 1: id: missing key",
        "proxy.conf:6:1: error: [[route]] number 1: upstream: missing key",
        "proxy.conf:6:1: error: [[route]] number 1: price: missing key",
        "proxy.conf:7:8: error: [[route]] number 1: path = \"q\": invalid value",
      ])
  }

  @Test func emptyFileSaysWhatIsMissing() {
    let heads = diagnostics("").map { $0.split(separator: "\n")[0] }
    #expect(
      heads == [
        "proxy.conf:1:1: error: realm: missing key", "proxy.conf:1:1: error: listen: missing key",
        "proxy.conf:1:1: error: route: missing key",
      ])
  }

  @Test func secretsAreNeverRepeated() {
    let secret = "s3cr3t-value"
    let texts = [
      "inject = [{ name = \"X\", value = \"\(secret)\", file = \"x\" }]", "inject = [{ nam = \"X\", value = \"\(secret)\" }]",
      "inject = [{ name = \"X\", value = \"\(secret)\\u0007\" }]", "inject = \"\(secret)\"", "inject = [\"\(secret)\"]",
      "inject = [{ name = \"X\", environment = \"KEY\", prefix = \"\(secret)\\n\" }]",
    ]
    for text in texts {
      let outcome = Configuration.inspect(
        text: route(sound + text), file: "/etc/proxy.conf", state: "/tmp/s", environment: ["KEY": "\(secret)"])
      #expect(outcome.settings == nil)
      #expect(!Explanation(outcome).text.contains(secret), "\(text)")
      #expect(!String(describing: outcome).contains(secret), "\(text)")
    }
    let outcome = Configuration.inspect(
      text: route(sound + "inject = [{ name = \"X\", environment = \"KEY\", prefix = \"Bearer \" }]"), file: "/etc/proxy.conf",
      state: "/tmp/s", environment: ["KEY": secret])
    let field = outcome.settings?.routes.first?.injectedFields.first
    #expect(field?.value.bytes == Array("Bearer \(secret)".utf8))
    var dumped = ""
    dump(outcome, to: &dumped)
    #expect(!dumped.contains(secret))
    #expect(!Explanation(outcome).text.contains(secret))
  }

  @Test func commandsNeedNoSecrets() {
    let text = route(sound + "inject = [{ name = \"X\", environment = \"KEY\" }, { name = \"Y\", file = \"absent\" }]")
    let outcome = Configuration.inspect(text: text, file: "/etc/proxy.conf", state: "/tmp/s", environment: [:], readsSecrets: false)
    #expect(outcome.diagnostics == [])
  }

  @Test func missingFileIsADiagnostic() {
    let outcome = Configuration.inspect("/nonexistent/proxy.conf")
    #expect(
      outcome.diagnostics.map { $0.text(file: "proxy.conf") } == [
        "proxy.conf: error: cannot be read\n  expected: a file that exists\n  advice: copy proxy.conf.example to this path, or name another file"
      ])
    #expect(throws: ConfigurationError.self) { try Configuration.load("/nonexistent/proxy.conf") }
  }
}
