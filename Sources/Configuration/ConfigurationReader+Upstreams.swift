import HTTP

extension ConfigurationReader {
  /// Reads one `[[upstream]]`.
  mutating func readUpstream(_ table: TableReader) {
    defer { table.finish() }
    if !table.has("name") { table.reportMissing("name", expected: "a name that routes refer to, such as name = \"api\"") }
    let name = table.string("name", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", where: Self.isName)
    if let name { table.place = "[[upstream]] \"\(name)\"" }
    let endpoint = Self.endpoint(table)
    let hostField = Self.hostField(table)
    let maxConnections = table.integer("max-connections", in: 1...65_536)
    let maxIdle = table.integer("max-idle", in: 0...65_536)
    guard let name else { return }
    if settings.upstreams.contains(where: { $0.name == name }) { table.report(.duplicate, "name") }
    // An endpoint that could not be read stands for itself, so that routes which name the upstream are no errors too.
    var upstream = Settings.Upstream(name: name, endpoint: endpoint ?? .host("localhost", port: 80))
    upstream.hostField = hostField ?? upstream.hostField
    upstream.maxConnections = maxConnections ?? upstream.maxConnections
    upstream.maxIdle = maxIdle ?? min(upstream.maxIdle, upstream.maxConnections)
    settings.upstreams.append(upstream)
  }

  private static func endpoint(_ table: TableReader) -> Settings.Upstream.Endpoint? {
    let expected = "a URL such as \"http://127.0.0.1:8081\", or \"unix:/run/api.sock\""
    guard table.has("url") else {
      table.reportMissing("url", expected: expected)
      return nil
    }
    guard let text = table.string("url", expected: expected) else { return nil }
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard isSocketPath(path) else {
        table.report(.invalidValue, "url", expected: "unix: and an absolute path of at most \(socketPathLimit) octets")
        return nil
      }
      return .unix(path: path)
    }
    guard text.hasPrefix("http://") else {
      let advice = text.hasPrefix("https://") ? "this version speaks plain HTTP to upstreams: put a TLS client such as stunnel between" : nil
      table.report(.invalidValue, "url", expected: expected, advice: advice)
      return nil
    }
    var authority = text.dropFirst("http://".count)
    if authority.hasSuffix("/") { authority = authority.dropLast() }
    guard let (host, port) = Authority.split(String(authority)), port != 0 else {
      let advice = authority.contains("/") ? "a path belongs into the route: rewrite-prefix" : nil
      table.report(.invalidValue, "url", expected: expected, advice: advice)
      return nil
    }
    return .host(host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host, port: port ?? 80)
  }

  private static func hostField(_ table: TableReader) -> Settings.Upstream.HostField? {
    let expected = "\"upstream\", \"client\" or a host name"
    guard let text = table.string("host", expected: expected) else { return nil }
    switch text {
    case "upstream": return .upstream
    case "client": return .client
    default:
      guard Authority.split(text) != nil else {
        table.report(.invalidValue, "host", expected: expected)
        return nil
      }
      return .fixed(text)
    }
  }
}
