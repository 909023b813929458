import Encoding
import HTTP
import Payments

/// Turns a document into settings, section by section, reporting every error on the way.
struct ConfigurationReader {
  let log = DiagnosticLog()
  let environment: [String: String]
  let folder: String
  /// Whether injected fields are read.
  let readsSecrets: Bool
  /// The instant at which certificates must be valid.
  let now = Timestamp.now()
  private let stateOption: String?
  private let workingDirectory: String
  private let root: TableReader
  var settings = Settings()
  /// Chains, facilitators and merchants that were reported, as kind and name: what follows from them is not reported as well.
  var unsound: Set<String> = []

  init(
    _ document: Document, environment: [String: String], stateOption: String?, workingDirectory: String, folder: String,
    readsSecrets: Bool
  ) {
    self.environment = environment
    self.stateOption = stateOption
    self.workingDirectory = workingDirectory
    self.folder = folder
    self.readsSecrets = readsSecrets
    root = TableReader(document.root, place: "", at: Position(line: 1, column: 1), log: log)
  }

  /// Reads everything; what it returns is only of use where the log has no errors.
  mutating func read(source: String) -> Settings {
    settings.source = source
    readTop()
    readListeners(root.tables("listen"))
    readLimits(root.table("limits"))
    readTimeouts(root.table("timeouts"))
    readRates(root.table("rate-limits"))
    readStores()
    readNames()
    readRoutes(root.tables("route"))
    readPages()
    root.finish()
    checkWhole(root)
    return settings
  }

  private mutating func readTop() {
    if let realm = root.string("realm", expected: "the host name that clients call, such as \"api.example.com\", without port", where: Self.isRealm) {
      settings.realm = realm
      settings.origin = "https://\(realm)"
      settings.ledger.name = realm
    } else if !root.has("realm") {
      root.reportMissing("realm", expected: "the host name that clients call, such as realm = \"api.example.com\"")
    }
    let form = "a scheme and a host, such as \"https://api.example.com\", without a path"
    if let origin = root.string("origin", expected: form, where: Self.isOrigin) { settings.origin = origin }
    settings.workers = root.integer("workers", in: 0...1024) ?? settings.workers
    settings.registration = root.boolean("registration") ?? settings.registration
    settings.expires = root.duration("challenge-expires", in: .seconds(10)...(.seconds(86_400))) ?? settings.expires
    for (text, node) in root.strings("trusted-proxies", expected: "an address or block such as \"10.0.0.0/8\"") ?? [] {
      if let block = CIDR(text) {
        settings.trustedProxies.append(block)
      } else {
        root.report(.invalidValue, "trusted-proxies", node: node, expected: "an address or block such as \"10.0.0.0/8\" or \"::1\"")
      }
    }
  }

  /// A realm is a host name or address. A `|` would make the challenge id's input ambiguous, a quote would end the parameter.
  static func isRealm(_ text: String) -> Bool {
    guard let (name, port) = Authority.split(text) else { return false }
    return port == nil && name == text && text == text.lowercased()
  }

  static func isOrigin(_ text: String) -> Bool {
    for scheme in ["https://", "http://"] where text.hasPrefix(scheme) {
      return Authority.split(String(text.dropFirst(scheme.count))) != nil
    }
    return false
  }

  // MARK: Listeners

  private mutating func readListeners(_ tables: [TableReader]) {
    for table in tables {
      let acceptsProxyProtocol = table.boolean("proxy-protocol") ?? false
      let http2 = table.boolean("http2") ?? true
      if var listener = Self.listener(table) {
        listener.http2 = http2
        listener.acceptsProxyProtocol = acceptsProxyProtocol
        readTLS(table, &listener)
        if acceptsProxyProtocol { checkProxyProtocol(table, listener) }
        if settings.listeners.contains(where: { $0.endpoint == listener.endpoint }) {
          table.report(.duplicate, "address", advice: "remove one of the two listeners")
        }
        settings.listeners.append(listener)
      }
      table.finish()
    }
  }

  private static func listener(_ table: TableReader) -> Settings.Listener? {
    let expected = "an address and a port such as \"127.0.0.1:8402\", \"[::]:8402\", or \"unix:/run/farebox/http.sock\""
    let plaintext = table.boolean("plaintext") ?? false
    let mode = fileMode(table)
    guard table.has("address") else {
      table.reportMissing("address", expected: expected)
      return nil
    }
    guard let text = table.string("address", expected: expected) else { return nil }
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard isSocketPath(path) else {
        table.report(.invalidValue, "address", expected: "unix: and an absolute path of at most \(socketPathLimit) octets")
        return nil
      }
      var listener = Settings.Listener(.unix(path: path), plaintext: plaintext)
      listener.mode = mode ?? listener.mode
      return listener
    }
    guard let (host, port) = Authority.split(text), let port else {
      table.report(.invalidValue, "address", expected: expected)
      return nil
    }
    let address = host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host
    guard ClientAddress(address) != nil else {
      let advice = host == "localhost" ? "write 127.0.0.1 instead of localhost" : nil
      table.report(.invalidValue, "address", expected: expected, advice: advice)
      return nil
    }
    return Settings.Listener(.address(address, port: port), plaintext: plaintext)
  }

  /// The longest path of a Unix socket in octets: `sun_path` without its NUL.
  static let socketPathLimit = 107

  static func isSocketPath(_ path: String) -> Bool {
    path.hasPrefix("/") && path.utf8.count <= socketPathLimit
  }

  // MARK: Limits and times

  private mutating func readLimits(_ table: TableReader?) {
    guard let table else { return }
    var limits = settings.limits
    limits.requestLine = table.size("request-line", in: 256...65_536).map { Int($0) } ?? limits.requestLine
    limits.headBytes = table.size("head", in: 1024...1_048_576).map { Int($0) } ?? limits.headBytes
    limits.headerCount = table.integer("header-count", in: 1...10_000) ?? limits.headerCount
    limits.bodyBytes = table.size("body", in: 0...(1 << 50)) ?? limits.bodyBytes
    limits.connections = table.integer("connections", in: 1...1_000_000) ?? limits.connections
    limits.connectionsPerClient = table.integer("connections-per-client", in: 1...1_000_000) ?? limits.connectionsPerClient
    limits.requestsPerConnection =
      table.integer("requests-per-connection", in: 0...1_000_000_000).map { UInt64($0) } ?? limits.requestsPerConnection
    limits.streamsPerConnection = table.integer("streams-per-connection", in: 1...1000) ?? limits.streamsPerConnection
    limits.collectedPerClient = table.size("collected-per-client", in: 0...(64 << 20)).map { Int($0) } ?? limits.collectedPerClient
    limits.outcomeBytes = table.size("outcome", in: 0...(16 << 20)).map { Int($0) } ?? limits.outcomeBytes
    if limits.requestLine > limits.headBytes {
      table.report(.conflict, table.has("request-line") ? "request-line" : "head", expected: "a request line no longer than the head")
    }
    settings.limits = limits
    table.finish()
  }

  private mutating func readTimeouts(_ table: TableReader?) {
    guard let table else { return }
    var times = settings.timeouts
    let range = Duration.milliseconds(1)...Duration.seconds(86_400)
    times.headerRead = table.duration("header-read", in: range) ?? times.headerRead
    times.bodyIdle = table.duration("body-idle", in: range) ?? times.bodyIdle
    times.bodyMinimumRate = table.size("body-minimum-rate", in: 0...(1 << 30)).map { Int($0) } ?? times.bodyMinimumRate
    times.bodyMinimumRateAfter = table.duration("body-minimum-rate-after", in: range) ?? times.bodyMinimumRateAfter
    times.idle = table.duration("idle", in: range) ?? times.idle
    times.connect = table.duration("connect", in: range) ?? times.connect
    times.firstOctet = table.duration("first-octet", in: range) ?? times.firstOctet
    times.upstreamIdle = table.duration("upstream-idle", in: range) ?? times.upstreamIdle
    times.writeStall = table.duration("write-stall", in: range) ?? times.writeStall
    times.drain = table.duration("drain", in: range) ?? times.drain
    times.abandon = table.duration("abandon", in: range) ?? times.abandon
    times.upstreamKeepAlive = table.duration("upstream-keep-alive", in: range) ?? times.upstreamKeepAlive
    settings.timeouts = times
    table.finish()
  }

  private mutating func readRates(_ table: TableReader?) {
    guard let table else { return }
    var rates = settings.rates
    rates.challengesPerSecond = table.integer("challenges-per-second", in: 0...1_000_000) ?? rates.challengesPerSecond
    rates.challengeBurst = table.integer("challenge-burst", in: 1...1_000_000) ?? rates.challengeBurst
    rates.failuresPerSecond = table.integer("failures-per-second", in: 0...1_000_000) ?? rates.failuresPerSecond
    rates.failureBurst = table.integer("failure-burst", in: 1...1_000_000) ?? rates.failureBurst
    rates.address = Self.rate(table, "address")
    rates.wallet = Self.rate(table, "wallet")
    rates.session = Self.rate(table, "session")
    settings.rates = rates
    table.finish()
  }

  // MARK: Files

  private mutating func readStores() {
    let configured = root.string("state", expected: "a folder") { !$0.isEmpty }
    let state = StateDirectory(
      option: stateOption, configured: configured, environment: environment, workingDirectory: workingDirectory,
      configurationDirectory: folder)
    readProcess(root, state)
    settings.ledger.directory = state.resolve("ledger")
    settings.audit.path = state.resolve("audit.jsonl")
    settings.keys.directory = state.resolve("keys")
    settings.admin.socketPath = state.resolve("farebox.sock")
    readLedger(root.table("ledger"), state)
    readAudit(root.table("audit"), state)
    readAccessLog(root.table("access-log"), state)
    if let table = root.table("keys") {
      if let path = table.string("directory", expected: "a folder", where: { !$0.isEmpty }) { settings.keys.directory = state.resolve(path) }
      table.finish()
    }
    let admin = root.table("admin")
    if let path = admin?.string("socket", expected: "the path of a Unix socket", where: { !$0.isEmpty }) {
      settings.admin.socketPath = state.resolve(path)
    }
    admin?.finish()
    if !Self.isSocketPath(settings.admin.socketPath) {
      log.add(
        Diagnostic(
          .outOfRange, at: admin?.position, place: "[admin]", key: "socket", value: "\"\(settings.admin.socketPath)\"",
          expected: "a path of at most \(Self.socketPathLimit) octets", advice: "choose a shorter path, such as socket = \"/run/farebox.sock\""))
    }
  }

  private mutating func readLedger(_ table: TableReader?, _ state: StateDirectory) {
    guard let table else { return }
    if let path = table.string("directory", expected: "a folder", where: { !$0.isEmpty }) { settings.ledger.directory = state.resolve(path) }
    if let name = table.string("name", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", where: Self.isName) { settings.ledger.name = name }
    settings.ledger.reserveBytes = table.size("reserve", in: 0...(1 << 40)) ?? settings.ledger.reserveBytes
    settings.ledger.chargeRetention = table.duration("retain-charges", in: Self.retentions)
    settings.ledger.commitDelay = table.duration("commit-delay", in: .zero...(.milliseconds(100))) ?? settings.ledger.commitDelay
    table.finish()
  }

  private mutating func readAudit(_ table: TableReader?, _ state: StateDirectory) {
    guard let table else { return }
    if let path = table.string("file", expected: "a file", where: { !$0.isEmpty }) { settings.audit.path = state.resolve(path) }
    settings.audit.rotateBytes = table.size("rotate", in: 0...(1 << 50)) ?? settings.audit.rotateBytes
    settings.audit.retention = table.duration("retain", in: Self.retentions)
    if settings.audit.retention != nil, settings.audit.rotateBytes == 0 {
      table.report(.conflict, "retain", expected: "rotate above 0: only files that were rotated are removed")
    }
    settings.audit.checkpointEvery = table.integer("checkpoint-every", in: 1...1_000_000) ?? settings.audit.checkpointEvery
    settings.audit.checkpointInterval =
      table.duration("checkpoint-interval", in: .milliseconds(10)...(.seconds(3600))) ?? settings.audit.checkpointInterval
    settings.audit.shipsCheckpoints = table.boolean("ship-checkpoints") ?? settings.audit.shipsCheckpoints
    table.finish()
  }

  /// How long what happened may be kept: no shorter than what is still paid, answered again or refunded.
  private static let retentions: ClosedRange<Duration> = .seconds(2 * 86_400)...(.seconds(36_500 * 86_400))

  /// Names of routes, merchants, upstreams and ledgers.
  static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count)
      && text.utf8.allSatisfy { octet in
        switch octet {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }

  // MARK: Currencies, merchants, upstreams

  private mutating func readNames() {
    for table in root.tables("currency") { readCurrency(table) }
    for table in root.tables("facilitator") { readFacilitator(table) }
    for table in root.tables("chain") { readChain(table) }
    for table in root.tables("merchant") { readMerchant(table) }
    for table in root.tables("upstream") { readUpstream(table) }
  }

  private mutating func readCurrency(_ table: TableReader) {
    defer { table.finish() }
    let expected = "1 to 15 lower-case letters and digits, such as \"usdc\""
    if !table.has("code") { table.reportMissing("code", expected: expected) }
    if !table.has("decimals") { table.reportMissing("decimals", expected: "how many decimals one whole unit has, such as 6") }
    let code = table.string("code", expected: expected, where: Currency.isCode)
    let decimals = table.integer("decimals", in: 0...Int(Currency.decimalsLimit))
    guard let code, let decimals, let currency = Currency(code: code, decimals: UInt8(decimals)) else { return }
    if settings.currencies.contains(where: { $0.code == code }) { table.report(.duplicate, "code") }
    settings.currencies.append(currency)
  }

  private mutating func readMerchant(_ table: TableReader) {
    defer { table.finish() }
    let expected = "1 to 64 of the characters A-Z a-z 0-9 . _ -"
    if !table.has("id") { table.reportMissing("id", expected: expected) }
    let name = table.string("name", expected: "a name for people") { !$0.isEmpty && $0.utf8.count <= 256 }
    guard let id = table.string("id", expected: expected, where: Self.isName) else { return }
    if settings.merchants.contains(where: { $0.id == id }) { table.report(.duplicate, "id") }
    var merchant = Settings.Merchant(id: id, displayName: name)
    readAddresses(table, &merchant)
    settings.merchants.append(merchant)
  }

  private mutating func readPages() {
    readSharing(root.table("cors"))
    readX402(root.table("x402"))
    if let table = root.table("info") {
      settings.info.title = table.string("title") ?? settings.info.title
      settings.info.version = table.string("version") ?? settings.info.version
      settings.info.description = table.string("description") ?? settings.info.description
      table.finish()
    }
  }
}
