import TLS

extension Settings.Listener {
  /// What is spoken on the listener, for a person; empty where that is plain HTTP alone.
  var terms: String {
    if redirects { return "sends clients to the origin" }
    guard let tls else { return "" }
    var words = "TLS \(tls.minimum.words)"
    words += ", \(tls.certificates.count) certificate\(tls.certificates.count == 1 ? "" : "s")"
    if let clients = tls.clients { words += ", clients' certificates \(clients.isRequired ? "required" : "optional") (\(clients.subjectField))" }
    return words
  }
}

extension Settings.Upstream.TLS {
  /// How the upstream is verified, for a person.
  var terms: String {
    var words = isInsecure ? "TLS, NOT verified" : "TLS, verified by \(authorities ?? "the system's authorities")"
    if let serverName { words += " as \(serverName)" }
    if let certificate { words += ", shows \(certificate.chain)" }
    return words
  }
}

extension TLSVersion {
  fileprivate var words: String {
    switch self {
    case .tls12: "1.2 and 1.3"
    case .tls13: "1.3"
    }
  }
}
