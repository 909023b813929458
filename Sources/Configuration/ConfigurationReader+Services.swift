import HTTP

// HTTP services that the proxy calls for its own purposes. Of their URLs no diagnostic shows more than the host: paths and queries carry keys.
extension ConfigurationReader {
  private static let serviceTimes = Duration.milliseconds(100)...Duration.seconds(300)
  /// The longest path and query of a service, in octets.
  private static let targetLimit = 2048

  /// Reads a `[[facilitator]]`.
  mutating func readFacilitator(_ table: TableReader) {
    defer { table.finish() }
    let errors = log.errorCount
    if !table.has("name") { table.reportMissing("name", expected: "a name that chains refer to, such as name = \"cdp\"") }
    let name = table.string("name", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", where: Self.isName)
    if let name { table.place = "[[facilitator]] \"\(name)\"" }
    let expected = "the URL before /verify and /settle, such as \"https://facilitator.example.com/x402\""
    let allowsPlaintext = table.boolean("plaintext") ?? false
    let timeout = table.duration("timeout", in: Self.serviceTimes)
    let authorization = authorization(table, "authorization-file")
    if !table.has("url") { table.reportMissing("url", expected: expected) }
    var endpoint: Settings.Endpoint?
    if let text = table.string("url", isSecret: true, expected: expected) {
      endpoint = self.endpoint(table, "url", text, node: table.node("url"), expected: expected, allowsPlaintext: allowsPlaintext, hasQuery: false)
    }
    guard let name else { return }
    if settings.facilitators.contains(where: { $0.name == name }) { table.report(.duplicate, "name") }
    // One that could not be read stands for itself all the same, so that chains which name it are no errors too.
    var facilitator = Settings.Facilitator(
      name: name, endpoint: endpoint ?? Settings.Endpoint(authority: "localhost", target: SecretValue([]), isSecure: true))
    while facilitator.endpoint.target.bytes.last == UInt8(ascii: "/") {
      facilitator.endpoint.target = SecretValue(facilitator.endpoint.target.bytes.dropLast())
    }
    facilitator.endpoint.timeout = timeout ?? .seconds(30)
    facilitator.endpoint.authorization = authorization
    facilitator.address = address(table, "address")
    if settings.facilitators.count == Settings.Facilitator.limit {
      table.report(.outOfRange, "name", expected: "at most \(Settings.Facilitator.limit) facilitators")
    }
    settings.facilitators.append(facilitator)
    if log.errorCount > errors { unsound.insert("facilitator \(name)") }
  }

  /// Reads the URL of a service; nil where it cannot be, which is reported without it.
  func endpoint(
    _ table: TableReader, _ key: String, _ text: String, node: Document.Node?, expected: String, allowsPlaintext: Bool, hasQuery: Bool = true
  ) -> Settings.Endpoint? {
    guard let scheme = ["http://", "https://"].first(where: { text.hasPrefix($0) }) else {
      table.report(.invalidValue, key, node: node, expected: expected, isSecret: true)
      return nil
    }
    let rest = text.dropFirst(scheme.count)
    let end = rest.firstIndex { $0 == "/" || $0 == "?" } ?? rest.endIndex
    let authority = String(rest[..<end])
    let target = rest[end...].hasPrefix("/") ? String(rest[end...]) : "/" + rest[end...]
    let isTarget = target.utf8.count <= Self.targetLimit && target.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") }
    guard let (name, port) = Authority.split(authority), port != 0, isTarget, hasQuery || !target.contains("?") else {
      let advice = authority.contains("@") ? "a name and a password belong into an authorization file, as Basic and their base64" : nil
      table.report(.invalidValue, key, node: node, expected: expected, advice: advice, isSecret: true)
      return nil
    }
    let isSecure = scheme == "https://"
    if !isSecure, !allowsPlaintext, !Self.isLoopback(name) {
      table.report(
        .insecure, key, node: node, expected: "https://, since \(authority) is not this machine",
        advice: "who is on the way could say that money has come; where nobody can be, confirm that with plaintext = true", isSecret: true)
    }
    return Settings.Endpoint(authority: authority, target: SecretValue(Array(target.utf8)), isSecure: isSecure)
  }

  private static func isLoopback(_ name: String) -> Bool { name == "localhost" || name == "[::1]" || (name.hasPrefix("127.") && ClientAddress(name) != nil) }

  /// Reads the time that a call may take.
  static func serviceTimeout(_ table: TableReader, _ key: String) -> Duration? { table.duration(key, in: serviceTimes) }

  /// Reads a file whose one line is the content of an `Authorization` field; nothing of it appears in any diagnostic.
  func authorization(_ table: TableReader, _ key: String) -> SecretValue? {
    guard let written = table.string(key, expected: "the path of a file", where: { !$0.isEmpty && !$0.utf8.contains(0) }), readsSecrets else { return nil }
    let path = StateDirectory.absolute(written, from: folder)
    var octets: [UInt8]
    do {
      octets = try SmallFile.read(path, limit: Self.targetLimit * 4)
    } catch {
      table.report(.missingFile, key, expected: error.reason, advice: "relative paths count from the configuration's folder, \(folder)")
      return nil
    }
    if SmallFile.isReadableByOthers(path) { table.report(.exposed, key, severity: .warning, advice: "chmod o-r \(path)") }
    while let last = octets.last, last == 0x0A || last == 0x0D { octets.removeLast() }
    guard !octets.isEmpty, octets.allSatisfy({ (0x20...0x7E).contains($0) }) else {
      table.report(.invalidValue, key, expected: "a file with one line such as \"Bearer …\", the content of an Authorization field (it is not shown here)")
      return nil
    }
    return SecretValue(octets)
  }

  // MARK: Upstreams of their own

  /// Finds where every service is called, after the routes are read: they count upstreams too.
  mutating func placeServices() {
    for chain in settings.chains.indices {
      for node in settings.chains[chain].rpc.indices {
        settings.chains[chain].rpc[node].upstream = adopt(settings.chains[chain].rpc[node], kind: "rpc")
      }
      if case .remote(var endpoint, let address)? = settings.chains[chain].signer {
        endpoint.upstream = adopt(endpoint, kind: "signer")
        settings.chains[chain].signer = .remote(endpoint, address)
      }
    }
    for index in settings.facilitators.indices {
      settings.facilitators[index].endpoint.upstream = adopt(settings.facilitators[index].endpoint, kind: "facilitator")
    }
  }

  private mutating func adopt(_ endpoint: Settings.Endpoint, kind: String) -> Int {
    adopt(authority: endpoint.authority, isSecure: endpoint.isSecure, kind: kind) ?? endpoint.upstream
  }

  /// Finds an `[[upstream]]` with the same origin, whose terms of TLS then hold, or makes one; nil where the authority is none.
  mutating func adopt(authority: String, isSecure: Bool, kind: String) -> Int? {
    guard let (name, port) = Authority.split(authority) else { return nil }
    let host = name.hasPrefix("[") ? String(name.dropFirst().dropLast()) : name
    let endpoint = Settings.Upstream.Endpoint.host(host, port: port ?? (isSecure ? 443 : 80))
    func fits(_ upstream: Settings.Upstream) -> Bool {
      upstream.servers.count == 1 && upstream.servers[0].endpoint == endpoint && (upstream.tls != nil) == isSecure && upstream.proxyProtocol == nil
    }
    if let known = settings.upstreams.firstIndex(where: fits) { return known }
    var upstream = Settings.Upstream(name: "\(kind):\(authority)", endpoint: endpoint)
    upstream.tls = isSecure ? Settings.Upstream.TLS() : nil
    upstream.http2 = .never
    settings.upstreams.append(upstream)
    return settings.upstreams.count - 1
  }
}
