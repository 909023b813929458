import Encoding
import HTTP
import TLS

// TLS of listeners and upstreams. Files are read here only to find out whether they can be used; the proxy reads them itself.
extension ConfigurationReader {
  /// Reads how a listener speaks TLS, or sends clients to one that does.
  func readTLS(_ table: TableReader, _ listener: inout Settings.Listener) {
    listener.redirects = table.boolean("redirect") ?? false
    if let tls = table.table("tls") {
      tls.place = "\(table.place) tls"
      listener.tls = listenerTLS(tls)
      tls.finish()
    }
    // What could not be read stands for something, so that nobody is told besides that the listener is without TLS.
    if table.has("tls"), listener.tls == nil { listener.tls = Settings.Listener.TLS(certificates: []) }
    if table.has("tls"), listener.redirects {
      table.report(.conflict, "redirect", expected: "a listener without tls, whose clients are sent to one that has it")
    }
    if table.has("tls"), listener.plaintext { table.report(.conflict, "plaintext", expected: "either tls or plaintext = true") }
    if listener.redirects, !settings.origin.hasPrefix("https://") {
      table.report(
        .conflict, "redirect", expected: "an origin to send clients to, such as origin = \"https://api.example.com\" at the top level")
    }
  }

  private static let certificatesForm = "certificates = [{ chain = \"fullchain.pem\", key = \"privkey.pem\" }]"

  private func listenerTLS(_ table: TableReader) -> Settings.Listener.TLS? {
    let clients = readClients(table)
    let minimum = version(table)
    guard table.has("certificates") else {
      table.reportMissing("certificates", expected: Self.certificatesForm)
      return nil
    }
    let tables = table.tables("certificates")
    guard (1...Settings.Listener.TLS.certificateLimit).contains(tables.count) else {
      table.report(.outOfRange, "certificates", expected: "1 to \(Settings.Listener.TLS.certificateLimit) certificates: \(Self.certificatesForm)")
      return nil
    }
    var tls = Settings.Listener.TLS(certificates: [])
    tls.minimum = minimum ?? tls.minimum
    tls.clients = clients
    for (number, entry) in tables.enumerated() {
      entry.place = "\(table.place) certificate \(number + 1)"
      if let certificate = certificate(entry, chain: "chain") {
        tls.certificates.append(certificate)
        checkIdentity(entry, chain: "chain", certificate, isFirst: number == 0)
      }
      entry.finish()
    }
    return tls.certificates.isEmpty ? nil : tls
  }

  private func readClients(_ table: TableReader) -> Settings.Listener.TLS.Clients? {
    let kind = table.string("client-certificates", expected: "\"required\" or \"optional\"") { ["required", "optional"].contains($0) }
    let fieldForm = "the name of a header field that the proxy does not write itself, such as \"X-Client-Subject\""
    let field = table.string("client-subject-field", expected: fieldForm, where: Self.isInjectable)
    guard let path = path(table, "client-ca") else {
      for key in ["client-certificates", "client-subject-field"] where table.has(key) && !table.has("client-ca") {
        table.report(.conflict, key, expected: "the authorities that vouch for clients: client-ca = \"clients.pem\"")
      }
      return nil
    }
    var clients = Settings.Listener.TLS.Clients(authorities: path)
    clients.isRequired = kind != "optional"
    clients.subjectField = field ?? clients.subjectField
    checkAuthorities(table, "client-ca", path)
    return clients
  }

  /// Reads the TLS of an upstream, whose servers' URLs say whether it has any.
  func readTLS(_ table: TableReader, isSpoken: Bool) -> Settings.Upstream.TLS? {
    var tls = Settings.Upstream.TLS()
    let keys = ["ca", "certificate", "key", "server-name", "verify"]
    tls.authorities = path(table, "ca")
    tls.certificate = certificate(table, chain: "certificate", isOptional: true)
    let nameForm = "a host name or an address without port, such as \"api.internal\""
    tls.serverName = table.string("server-name", expected: nameForm) { text in
      guard let (name, port) = Authority.split(text) else { return Self.isAddress(text) }
      return port == nil && name == text
    }
    let verify = table.string("verify", expected: "\"insecure\" to take whoever answers for the upstream; without this key it is verified") { $0 == "insecure" }
    tls.isInsecure = verify != nil
    guard isSpoken else {
      for key in keys where table.has(key) {
        table.report(.conflict, key, expected: "an upstream whose url begins with https://")
      }
      return nil
    }
    if tls.isInsecure {
      if table.has("ca") { table.report(.conflict, "ca", expected: "either authorities or verify = \"insecure\"") }
      table.report(
        .unverified, "verify", severity: .warning, advice: "name the authority that issued its certificate instead: ca = \"ca.pem\"")
    } else if let path = tls.authorities {
      checkAuthorities(table, "ca", path)
    } else if readsSecrets, !table.has("ca") {
      do throws(CertificateFileError) { _ = try CertificateFiles.systemAuthorities() } catch {
        table.report(.certificate, "url", expected: error.expected, advice: error.advice)
      }
    }
    if let certificate = tls.certificate { checkIdentity(table, chain: "certificate", certificate, isFirst: true) }
    return tls
  }

  /// Whether an upstream's URLs say https; all of them, or none.
  static func speaksTLS(_ table: TableReader) -> Bool {
    guard table.has("servers") else { return isSecure(table.node("url")) }
    guard case .array(let entries)? = table.node("servers")?.value else { return false }
    let secure = entries.count { entry in
      guard case .table(let members) = entry.value else { return false }
      return isSecure(members["url"])
    }
    if secure > 0, secure < entries.count {
      table.report(.conflict, "servers", expected: "servers whose URLs all begin with https://, or none of them")
    }
    return secure > 0
  }

  private static func isSecure(_ node: Document.Node?) -> Bool {
    guard case .string(let text)? = node?.value else { return false }
    return text.hasPrefix("https://")
  }

  // MARK: Values

  private func version(_ table: TableReader) -> TLSVersion? {
    let expected = "\"1.2\" or \"1.3\""
    guard let text = table.string("minimum", expected: expected) else { return nil }
    switch text {
    case "1.2": return .tls12
    case "1.3": return .tls13
    default:
      let advice = text == "1.0" || text == "1.1" ? "it was given up by RFC 8996" : nil
      table.report(.invalidValue, "minimum", expected: expected, advice: advice)
      return nil
    }
  }

  /// Reads a file's path, which counts from the configuration's folder.
  private func path(_ table: TableReader, _ key: String) -> String? {
    table.string(key, expected: "a file") { !$0.isEmpty && !$0.utf8.contains(0) }.map { StateDirectory.absolute($0, from: folder) }
  }

  /// Reads the two paths of an identity; where one is written, so must be the other.
  private func certificate(_ table: TableReader, chain key: String, isOptional: Bool = false) -> Settings.Certificate? {
    let (chain, secret) = (path(table, key), path(table, "key"))
    if !isOptional || table.has(key) || table.has("key") {
      if !table.has(key) { table.reportMissing(key, expected: "the file of a certificate and those above it, such as \(key) = \"fullchain.pem\"") }
      if !table.has("key") { table.reportMissing("key", expected: "the file of its private key, such as key = \"privkey.pem\"") }
    }
    guard let chain, let secret else { return nil }
    return Settings.Certificate(chain: chain, key: secret)
  }

  private static func isAddress(_ text: String) -> Bool { ClientAddress(text) != nil }

  // MARK: Files

  private func checkIdentity(_ table: TableReader, chain key: String, _ certificate: Settings.Certificate, isFirst: Bool) {
    guard readsSecrets else { return }
    do throws(CertificateFileError) {
      let identity = try CertificateFiles.identity(certificate, now: now)
      guard isFirst || !identity.names.isEmpty else { throw .refused(path: certificate.chain, .nameMissing(identity: 2)) }
      if now + Self.renewalTime > identity.expires {
        table.report(.expiresSoon, key, severity: .warning, expected: "a certificate that is valid for longer; it ends at \(identity.expires)", advice: "renew it")
      }
    } catch {
      switch error {
      case .file(let path, _): report(error, table, path == certificate.chain ? key : "key")
      case .refused(_, let cause): report(error, table, cause.isAboutKey ? "key" : key)
      }
    }
  }

  /// A certificate that ends so soon is worth a warning.
  private static let renewalTime = Duration.seconds(7 * 86_400)

  private func checkAuthorities(_ table: TableReader, _ key: String, _ path: String) {
    guard readsSecrets else { return }
    do throws(CertificateFileError) { _ = try CertificateFiles.authorities(path) } catch { report(error, table, key) }
  }

  private func report(_ error: CertificateFileError, _ table: TableReader, _ key: String) {
    switch error {
    case .file(_, .notFound):
      table.report(.missingFile, key, expected: error.expected, advice: "relative paths count from the configuration's folder, \(folder)")
    case .file: table.report(.missingFile, key, expected: error.expected, advice: error.advice)
    case .refused: table.report(.certificate, key, expected: error.expected, advice: error.advice)
    }
  }
}
