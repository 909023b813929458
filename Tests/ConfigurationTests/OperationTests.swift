import Gateway
import Testing

@testable import Configuration

/// The settings of running a proxy: access log, rates, fields that come and go.
@Suite struct OperationTests {
  private static let head = """
    realm = "api.example.com"
    [[upstream]]
    name = "api"
    url = "http://127.0.0.1:8081"
    [[route]]
    id = "all"
    prefix = "/"
    free = true

    """
  private static let listener = "[[listen]]\naddress = \"127.0.0.1:8402\"\n"

  private static func inspect(_ text: String, environment: [String: String] = [:]) -> Configuration.Outcome {
    Configuration.inspect(text: text, file: "/etc/proxy.conf", state: "/tmp/state", environment: environment)
  }

  @Test func whatHappenedIsKeptAsLongAsIsSaid() throws {
    let kept = try #require(Self.inspect(Self.head + Self.listener + "[ledger]\nretain-charges = \"30 d\"\n[audit]\nretain = \"400 d\"\n").settings)
    #expect(kept.ledger.chargeRetention == .seconds(30 * 86_400) && kept.audit.retention == .seconds(400 * 86_400))
    for text in ["[ledger]\nretain-charges = \"1 d\"\n", "[audit]\nretain = \"5 min\"\n", "[audit]\nretain = \"400 d\"\nrotate = 0\n", "[audit]\nretain = 400\n"] {
      #expect(Self.inspect(Self.head + Self.listener + text).settings == nil, "\(text)")
    }
  }

  @Test func everythingIsRead() throws {
    let text = Self.head + """
      rate = "10/min burst 3"
      body-limit = "1 MiB"
      add-request-headers = ["X-Env:  a: b "]
      remove-request-headers = ["X-Debug"]
      add-response-headers = "X-Served-By: farebox"
      remove-response-headers = ["Server", "X-Powered-By"]
      [access-log]
      file = "access.log"
      format = "combined"
      query = true
      [rate-limits]
      address = "100/s burst 200"
      wallet = "5/s"
      session = "1/d burst 7"
      [cors]
      origins = ["https://app.example"]
      expose = ["X-Total-Count", "ETag"]
      [[listen]]
      address = "unix:/run/x.sock"
      mode = "0600"
      """
    let outcome = Self.inspect(text)
    #expect(outcome.diagnostics.map { $0.text(file: "f") } == [])
    let settings = try #require(outcome.settings)
    #expect(settings.accessLog.target == .file(path: "/tmp/state/access.log"))
    #expect(settings.accessLog.format == .combined && settings.accessLog.keepsQuery)
    #expect(settings.rates.address == RateLimit(perSecond: 100, burst: 200))
    #expect(settings.rates.wallet == RateLimit(perSecond: 5, burst: 5))
    #expect(settings.rates.session == RateLimit(count: 1, seconds: 86_400, burst: 7))
    let route = settings.routes[0]
    #expect(route.rate == RateLimit(count: 10, seconds: 60, burst: 3) && route.bodyLimit == 1 << 20)
    #expect(route.addedRequestFields == [Settings.AddedField(name: "X-Env", value: "a: b")])
    #expect(route.addedResponseFields == [Settings.AddedField(name: "X-Served-By", value: "farebox")])
    #expect(route.removedRequestFields == ["X-Debug"] && route.removedResponseFields == ["Server", "X-Powered-By"])
    #expect(settings.listeners[0].mode == 0o600)
    #expect(settings.cors.origins == ["https://app.example"] && settings.cors.exposedFields == ["X-Total-Count", "ETag"])
    let words = Explanation(outcome).text
    #expect(words.contains("\naccess log /tmp/state/access.log, combined, with queries\n"))
    #expect(words.contains("\nrates      100/s burst 200 per address, 5/s burst 5 per wallet, 1/d burst 7 per session\n"))
    #expect(words.contains("\npages      of https://app.example may pay, and read X-Total-Count, ETag\n"))
  }

  @Test func whoIsNotKnownHereIsWarnedOf() throws {
    let named = "user = \"root\"\ngroup = \"nobody-has-this-name\"\npid-file = \"/run/f.pid\"\n"
    let outcome = Self.inspect(named + Self.head + Self.listener)
    #expect(outcome.diagnostics.map(\.severity) == [.warning] && outcome.diagnostics.map(\.key) == ["group"])
    #expect(outcome.diagnostics.map(\.rule) == [.unknownName] && outcome.settings != nil)
    #expect(Explanation(outcome).text.contains("\nuser       root, group nobody-has-this-name\npid file   /run/f.pid\n"))
  }

  @Test(arguments: [
    ("rate = \"ten\"", "rate"), ("rate = 10", "rate"), ("rate = \"0/s\"", "rate"), ("body-limit = \"lots\"", "body-limit"),
    ("add-request-headers = [\"Payment-Receipt: x\"]", "add-request-headers"),
    ("add-request-headers = [\"Prepaid-Session: x\"]", "add-request-headers"),
    ("add-request-headers = [\"X-PAYMENT: x\"]", "add-request-headers"),
    ("add-request-headers = [\"Payment_Authorization: x\"]", "add-request-headers"),
    ("add-request-headers = [\"Content-Length: 5\"]", "add-request-headers"),
    ("add-request-headers = [\"X-A\"]", "add-request-headers"),
    ("add-response-headers = [\"Payment-Receipt: x\"]", "add-response-headers"),
    ("add-response-headers = [\"Payment-Invoice-Two: x\"]", "add-response-headers"),
    ("add-response-headers = [\"WWW-Authenticate: Payment x\"]", "add-response-headers"),
    ("add-response-headers = [\"X-A: b\\r\\nPayment-Receipt: x\"]", "add-response-headers"),
    ("remove-response-headers = [\"Content-Length\"]", "remove-response-headers"),
    ("remove-request-headers = [\"Host\"]", "remove-request-headers"),
    ("inject = [{ name = \"X-A\", value = \"1\" }]\nadd-request-headers = [\"x-a: 2\"]", "add-request-headers"),
    ("[access-log]\nfile = \"a\"\nformat = \"combine\"", "did you mean: combined"), ("[access-log]\nformat = \"json\"", "file: missing key"),
    ("[access-log]\nfile = \"a\"\nquerry = true", "did you mean: query"), ("[rate-limits]\naddres = \"1/s\"", "did you mean: address"),
    ("[cors]\nexpose = [\"a b\"]", "expose"), ("[cors]\norigin = [\"*\"]", "did you mean: origins"),
    ("[rate-limits]\nwallet = 5", "wallet"), ("[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"0999\"", "mode"),
    ("[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"0060\"", "mode"),
  ])
  func whatIsWrongIsNamed(lines: String, name: String) {
    let texts = Self.inspect(Self.head + lines + "\n" + Self.listener).diagnostics.map { $0.text(file: "f") }
    #expect(texts.count == 1 && texts[0].contains(name), "\(texts)")
  }
}
