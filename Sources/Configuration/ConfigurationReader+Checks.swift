import Foundation
import HTTP

extension ConfigurationReader {
  /// Checks what concerns more than one table.
  mutating func checkWhole(_ root: TableReader) {
    if settings.listeners.isEmpty, !root.has("listen") {
      root.reportMissing("listen", expected: "[[listen]] with address = \"127.0.0.1:8402\"")
    }
    if settings.routes.isEmpty, !root.has("route") {
      root.reportMissing("route", expected: "[[route]] with id, path, upstream, and price or free = true")
    }
    let isSelling = settings.routes.contains(where: \.isPriced)
    if isSelling { checkTransport(root) }
    checkOrigin(root)
    warnAboutUnused(root)
  }

  /// The Payment scheme demands TLS: without it, whoever listens on the way spends the session.
  private func checkTransport(_ root: TableReader) {
    for table in root.tables("listen") {
      guard case .string(let text)? = table.node("address")?.value else { continue }
      guard settings.listeners.contains(where: { !$0.isLoopback && !$0.plaintext && $0.tls == nil && !$0.redirects && Self.matches($0, text) }) else { continue }
      table.report(
        .insecure, "address", expected: "a loopback address such as 127.0.0.1, since routes are sold",
        advice: "give this [[listen]] tls, or put TLS in front and say so with plaintext = true")
    }
    if settings.origin.hasPrefix("http://"), root.has("origin"), !Self.isLoopbackOrigin(settings.origin) {
      root.report(.insecure, "origin", severity: .warning, expected: "https://, which clients demand outside of one machine")
    }
  }

  private static func matches(_ listener: Settings.Listener, _ text: String) -> Bool {
    guard case .address(let address, let port) = listener.endpoint, let (name, written) = Authority.split(text) else { return false }
    return written == port && (name == address || name == "[\(address)]")
  }

  private static func isLoopbackOrigin(_ origin: String) -> Bool {
    guard let (name, _) = Authority.split(String(origin.dropFirst("http://".count))) else { return false }
    return name == "localhost" || name.hasPrefix("127.") || name == "[::1]"
  }

  /// Clients refuse to pay where the realm does not cover the host that they called.
  private func checkOrigin(_ root: TableReader) {
    guard root.has("origin"), root.has("realm"), let separator = settings.origin.range(of: "://"),
      let (host, _) = Authority.split(String(settings.origin[separator.upperBound...]))
    else { return }
    if host != settings.realm, !host.hasSuffix("." + settings.realm) {
      root.report(.conflict, "origin", expected: "a host that the realm \"\(settings.realm)\" covers: itself or a name below it")
    }
  }

  private func warnAboutUnused(_ root: TableReader) {
    let places = settings.routes.flatMap { [$0.upstream] + ($0.pricer.map { [$0.upstream] } ?? []) } + settings.services.map(\.upstream)
    let upstreams = Set(places.map { settings.upstreams.indices.contains($0) ? settings.upstreams[$0].name : "" })
    let merchants = Set(settings.routes.map(\.merchant))
    let currencies = Set(settings.routes.flatMap { $0.prices.map(\.currency.code) })
    let chains = Set(settings.routes.flatMap { $0.rails.compactMap(\.chain) }.map { settings.chains[$0].name })
    let facilitators = Set(settings.chains.compactMap(\.facilitator).map { settings.facilitators[$0].name })
    let kinds = [
      ("upstream", "name", upstreams), ("merchant", "id", merchants), ("currency", "code", currencies), ("facilitator", "name", facilitators),
      ("chain", "name", chains),
    ]
    for (kind, field, used) in kinds {
      for table in root.tables(kind) {
        guard case .string(let name)? = table.node(field)?.value, !used.contains(name), !log.hasErrors else { continue }
        table.place = "[[\(kind)]] \"\(name)\""
        let advice = kind == "chain" ? "remove it, or name it in the rails of a [[route]]" : "remove it, or name it in a [[\(kind == "facilitator" ? "chain" : "route")]]"
        table.report(.unused, field, severity: .warning, advice: advice)
      }
    }
  }
}
