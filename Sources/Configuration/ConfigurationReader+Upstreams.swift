import HTTP

extension ConfigurationReader {
  /// Reads one `[[upstream]]`.
  mutating func readUpstream(_ table: TableReader) {
    defer { table.finish() }
    if !table.has("name") { table.reportMissing("name", expected: "a name that routes refer to, such as name = \"api\"") }
    let name = table.string("name", expected: "1 to 64 of the characters A-Z a-z 0-9 . _ -", where: Self.isName)
    if let name { table.place = "[[upstream]] \"\(name)\"" }
    let servers = Self.servers(table)
    let hostField = Self.hostField(table)
    let maxConnections = table.integer("max-connections", in: 1...65_536)
    let maxIdle = table.integer("max-idle", in: 0...65_536)
    // Servers that could not be read are stood for by one, so that routes which name the upstream are no errors too.
    var upstream = Settings.Upstream(name: name ?? "", servers: servers.isEmpty ? [.init(.host("localhost", port: 80))] : servers)
    upstream.tls = readTLS(table, isSpoken: Self.speaksTLS(table))
    switch table.string("http2", expected: "\"auto\", \"always\" or \"never\"", where: { ["auto", "always", "never"].contains($0) }) {
    case "always": upstream.http2 = .always
    case "never": upstream.http2 = .never
    default: break
    }
    upstream.hostField = hostField ?? upstream.hostField
    upstream.maxConnections = maxConnections ?? upstream.maxConnections
    upstream.maxIdle = maxIdle ?? min(upstream.maxIdle, upstream.maxConnections)
    Self.readBalancing(table, &upstream)
    guard let name else { return }
    if settings.upstreams.contains(where: { $0.name == name }) { table.report(.duplicate, "name") }
    settings.upstreams.append(upstream)
  }

  private static let urlForm = "a URL such as \"http://127.0.0.1:8081\" or \"https://api.internal\", or \"unix:/run/api.sock\""

  /// Reads `url`, or each of `servers`; empty where one cannot be read, which was reported.
  private static func servers(_ table: TableReader) -> [Settings.Upstream.Server] {
    guard table.has("servers") else {
      guard table.has("url") else {
        table.reportMissing("url", expected: urlForm)
        _ = table.node("servers")
        return []
      }
      _ = table.node("servers")
      return endpoint(table).map { [.init($0)] } ?? []
    }
    if table.has("url") { table.report(.conflict, "url", expected: "either one url, or servers = [{ url = \"http://127.0.0.1:8081\" }]") }
    _ = table.node("url")
    let tables = table.tables("servers")
    var servers: [Settings.Upstream.Server] = []
    for (number, server) in tables.enumerated() {
      defer { server.finish() }
      server.place = "\(table.place) server \(number + 1)"
      let weight = server.integer("weight", in: Settings.Upstream.Server.weights) ?? 1
      guard server.has("url") else {
        server.reportMissing("url", expected: urlForm)
        continue
      }
      guard let endpoint = endpoint(server) else { continue }
      if servers.contains(where: { $0.endpoint == endpoint }) { server.report(.duplicate, "url", advice: "give the server a higher weight instead") }
      servers.append(.init(endpoint, weight: weight))
    }
    if tables.isEmpty || tables.count > Settings.Upstream.Server.limit {
      table.report(.outOfRange, "servers", expected: "1 to \(Settings.Upstream.Server.limit) servers: [{ url = \"http://127.0.0.1:8081\" }]")
      return []
    }
    if servers.count == tables.count, servers.allSatisfy({ $0.weight == 0 }) {
      table.report(.conflict, "servers", expected: "at least one server whose weight is not 0")
    }
    return servers.count == tables.count ? servers : []
  }

  private static func endpoint(_ table: TableReader) -> Settings.Upstream.Endpoint? {
    guard let text = table.string("url", expected: urlForm) else { return nil }
    if text.hasPrefix("unix:") {
      let path = String(text.dropFirst(5))
      guard isSocketPath(path) else {
        table.report(.invalidValue, "url", expected: "unix: and an absolute path of at most \(socketPathLimit) octets")
        return nil
      }
      return .unix(path: path)
    }
    guard let scheme = ["http://", "https://"].first(where: { text.hasPrefix($0) }) else {
      table.report(.invalidValue, "url", expected: urlForm)
      return nil
    }
    var authority = text.dropFirst(scheme.count)
    if authority.hasSuffix("/") { authority = authority.dropLast() }
    guard let (host, port) = Authority.split(String(authority)), port != 0 else {
      let advice = authority.contains("/") ? "a path belongs into the route: rewrite-prefix" : nil
      table.report(.invalidValue, "url", expected: urlForm, advice: advice)
      return nil
    }
    return .host(host.hasPrefix("[") ? String(host.dropFirst().dropLast()) : host, port: port ?? (scheme == "https://" ? 443 : 80))
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
