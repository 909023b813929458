import Foundation
import TLS
import Testing

@testable import Configuration

/// Certificates of this run: sound, about to end, ended, and another one's key.
private struct Files: Sendable {
  static let shared = Files()
  let folder = FileManager.default.temporaryDirectory.appending(path: "farebox-certificates-\(getpid())").path

  private init() {
    try? FileManager.default.removeItem(atPath: folder)
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    for (name, days, extra) in [("good", "60", ["-addext", "subjectAltName=DNS:api.example.com"]), ("soon", "3", []), ("bare", "60", [])] {
      run(
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "\(name).key", "-out", "\(name).pem",
          "-subj", "/CN=\(name)", "-days", days] + extra)
    }
    run(["req", "-new", "-key", "good.key", "-subj", "/CN=ended", "-out", "ended.csr"])
    run(["x509", "-req", "-in", "ended.csr", "-signkey", "good.key", "-days", "-1", "-out", "ended.pem"])
    write("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
  }

  func write(_ name: String, _ text: String) {
    _ = FileManager.default.createFile(atPath: "\(folder)/\(name)", contents: Data(text.utf8))
  }

  private func run(_ arguments: [String]) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(filePath: folder)
    process.standardError = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    try? process.run()
    process.waitUntilExit()
    precondition(process.terminationStatus == 0, "openssl \(arguments)")
  }
}

private let files = Files.shared

private func configuration(listen: String = "address = \"0.0.0.0:443\"", upstream: String = "url = \"http://127.0.0.1:8081\"", top: String = "") -> String {
  """
  realm = "api.example.com"
  \(top)
  [[route]]
  id = "quotes"
  path = "/q"
  price = "1 USDC per request"
  [[currency]]
  code = "usdc"
  decimals = 6
  [[merchant]]
  id = "shop"
  [[upstream]]
  name = "api"
  \(upstream)
  [[listen]]
  \(listen)

  """
}

private func inspect(_ text: String, readsSecrets: Bool = true) -> Configuration.Outcome {
  Configuration.inspect(text: text, file: "\(files.folder)/proxy.conf", state: "/tmp/s", environment: [:], readsSecrets: readsSecrets)
}

/// The diagnostics without the places of files, which differ from run to run.
private func said(_ text: String) -> [String] {
  inspect(text).diagnostics.map { $0.text(file: "proxy.conf").replacing(files.folder, with: "FOLDER") }
}

private let secure = "address = \"0.0.0.0:443\"\ntls = { certificates = [{ chain = \"good.pem\", key = \"good.key\" }] }"

private func pair(_ chain: String, _ key: String = "good.key") -> String {
  "address = \"0.0.0.0:443\"\ntls = { certificates = [{ chain = \"\(chain)\", key = \"\(key)\" }] }"
}

private let place = "[[listen]] number 1 tls certificate 1"

@Suite struct TLSTests {
  @Test func listenersWithTLSMaySell() throws {
    let outcome = inspect(configuration(listen: secure))
    #expect(outcome.diagnostics == [])
    let listener = try #require(outcome.settings?.listeners.first)
    #expect(listener.tls?.certificates == [Settings.Certificate(chain: "\(files.folder)/good.pem", key: "\(files.folder)/good.key")])
    #expect(listener.tls?.minimum == .tls12 && listener.tls?.clients == nil && !listener.redirects)
    #expect(Explanation(outcome).text.contains("listen     0.0.0.0:443  TLS 1.2 and 1.3, 1 certificate\n"))
  }

  @Test func everyKeyOfAListenerIsRead() throws {
    let text = """
      address = "[::]:8443"
      [listen.tls]
      minimum = "1.3"
      client-ca = "good.pem"
      client-certificates = "optional"
      client-subject-field = "X-Who"
      [[listen.tls.certificates]]
      chain = "good.pem"
      key = "good.key"
      [[listen]]
      address = "0.0.0.0:80"
      redirect = true
      """
    let outcome = inspect(configuration(listen: text))
    #expect(outcome.diagnostics == [])
    let listeners = try #require(outcome.settings?.listeners)
    #expect(listeners.map(\.redirects) == [false, true])
    #expect(listeners[0].tls?.minimum == .tls13)
    #expect(listeners[0].tls?.clients?.isRequired == false && listeners[0].tls?.clients?.subjectField == "X-Who")
    #expect(listeners[0].tls?.clients?.authorities == "\(files.folder)/good.pem")
    #expect(listeners[0].tls?.files.count == 3)
  }

  @Test func everyKeyOfAnUpstreamIsRead() throws {
    let text = """
      servers = [{ url = "https://one.internal" }, { url = "https://[::1]:8443/" }]
      ca = "good.pem"
      certificate = "good.pem"
      key = "good.key"
      server-name = "api.internal"
      """
    let outcome = inspect(configuration(listen: secure, upstream: text))
    #expect(outcome.diagnostics == [])
    let upstream = try #require(outcome.settings?.upstreams.first)
    #expect(upstream.servers.map(\.endpoint) == [.host("one.internal", port: 443), .host("::1", port: 8443)])
    #expect(upstream.authority == "one.internal")
    #expect(upstream.tls?.serverName == "api.internal" && upstream.tls?.authorities == "\(files.folder)/good.pem" && upstream.tls?.isInsecure == false)
    #expect(upstream.tls?.certificate == Settings.Certificate(chain: "\(files.folder)/good.pem", key: "\(files.folder)/good.key"))
    #expect(Explanation(outcome).text.contains("upstream   api: https://one.internal:443 weight 1, https://[::1]:8443 weight 1"))
  }

  @Test func insecurityIsSaidAloud() throws {
    let text = configuration(listen: secure, upstream: "url = \"https://127.0.0.1\"\nverify = \"insecure\"")
    #expect(
      said(text) == [
        "proxy.conf:15:10: warning: [[upstream]] \"api\": verify = \"insecure\": whoever answers is taken for the upstream\n  advice: name the authority that issued its certificate instead: ca = \"ca.pem\""
      ])
    let outcome = inspect(text)
    #expect(outcome.settings?.upstreams.first?.tls?.isInsecure == true)
    #expect(Explanation(outcome).text.contains("TLS, NOT verified"))
  }

  @Test func certificatesThatEndSoonAreWarnedOf() {
    let lines = said(configuration(listen: pair("soon.pem", "soon.key")))
    #expect(lines.count == 1)
    #expect(lines[0].hasPrefix("proxy.conf:17:35: warning: \(place): chain = \"soon.pem\": the certificate ends soon\n"))
  }

  @Test func commandsNeedNoKeys() {
    let text = configuration(listen: pair("absent.pem", "absent.key"), upstream: "url = \"https://a.internal\"\nca = \"absent.pem\"")
    #expect(inspect(text, readsSecrets: false).diagnostics == [])
    #expect(inspect(text).settings == nil)
  }

  @Test(arguments: [
    ("absent.pem", "good.key", "17:35: error: \(place): chain = \"absent.pem\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
    ("good.pem", "absent.key", "17:53: error: \(place): key = \"absent.key\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
    ("torn.pem", "good.key", "17:35: error: \(place): chain = \"torn.pem\": certificate or key cannot be used\n  expected: certificates in PEM; number 1 cannot be read"),
    ("good.key", "good.key", "17:35: error: \(place): chain = \"good.key\": certificate or key cannot be used\n  expected: one or more certificates in PEM (-----BEGIN CERTIFICATE-----)"),
    ("good.pem", "good.pem", "17:53: error: \(place): key = \"good.pem\": certificate or key cannot be used\n  expected: a private key in PEM (-----BEGIN PRIVATE KEY-----)"),
    ("good.pem", "soon.key", "17:53: error: \(place): key = \"soon.key\": certificate or key cannot be used\n  expected: the private key of the chain's first certificate; this is another one's\n  advice: name the key that the certificate was requested with"),
  ])
  func brokenFilesAreExplained(_ chain: String, _ key: String, _ expected: String) {
    let lines = said(configuration(listen: pair(chain, key)))
    let places = [("17:35", "17:35"), ("17:53", "17:\(35 + chain.utf8.count + 10)")]
    let wanted = places.reduce(expected) { $0.replacing($1.0, with: $1.1) }
    #expect(lines == ["proxy.conf:" + wanted])
  }

  @Test func endedCertificatesAreRefused() {
    let lines = said(configuration(listen: pair("ended.pem")))
    #expect(lines.count == 1)
    #expect(lines.first?.hasPrefix("proxy.conf:17:35: error: \(place): chain = \"ended.pem\": certificate or key cannot be used\n  expected: certificates that are valid; this one expired at ") == true)
    #expect(lines.first?.hasSuffix("\n  advice: renew it") == true)
  }

  @Test(arguments: [
    (secure + "\nplaintext = true", "18:13: error: [[listen]] number 1: plaintext = true: excludes another key\n  expected: either tls or plaintext = true"),
    (secure + "\nredirect = true", "18:12: error: [[listen]] number 1: redirect = true: excludes another key\n  expected: a listener without tls, whose clients are sent to one that has it"),
    ("address = \"0.0.0.0:443\"\ntls = {}", "17:7: error: [[listen]] number 1 tls: certificates: missing key\n  expected: certificates = [{ chain = \"fullchain.pem\", key = \"privkey.pem\" }]"),
    ("address = \"0.0.0.0:443\"\ntls = { certificates = [] }", "17:24: error: [[listen]] number 1 tls: certificates: out of range\n  expected: 1 to 256 certificates: certificates = [{ chain = \"fullchain.pem\", key = \"privkey.pem\" }]"),
    (secure.replacing("tls = {", with: "tls = { minimum = \"1.1\","), "17:19: error: [[listen]] number 1 tls: minimum = \"1.1\": invalid value\n  expected: \"1.2\" or \"1.3\"\n  advice: it was given up by RFC 8996"),
    (secure.replacing("tls = {", with: "tls = { client-certificates = \"optional\","), "17:31: error: [[listen]] number 1 tls: client-certificates = \"optional\": excludes another key\n  expected: the authorities that vouch for clients: client-ca = \"clients.pem\""),
    (secure.replacing("tls = {", with: "tls = { client-ca = \"good.key\","), "17:21: error: [[listen]] number 1 tls: client-ca = \"good.key\": certificate or key cannot be used\n  expected: one or more certificates of authorities in PEM (-----BEGIN CERTIFICATE-----)"),
    (secure.replacing("tls = {", with: "tls = { client-ca = \"good.pem\", client-subject-field = \"Host\","), "17:56: error: [[listen]] number 1 tls: client-subject-field = \"Host\": invalid value\n  expected: the name of a header field that the proxy does not write itself, such as \"X-Client-Subject\""),
    (secure.replacing("chain", with: "chian"), "17:25: error: \(place): chain: missing key\n  expected: the file of a certificate and those above it, such as chain = \"fullchain.pem\""),
    (secure.replacing("tls = {", with: "tls = { minimun = \"1.3\","), "17:9: error: [[listen]] number 1 tls: minimun: unknown key\n  did you mean: minimum"),
    ("address = \"0.0.0.0:80\"\ntls = true", "17:7: error: [[listen]] number 1: tls = true: wrong type\n  expected: a table: [tls], not a boolean"),
  ])
  func listenerErrorNamesPlaceAndRemedy(_ text: String, _ expected: String) {
    #expect(said(configuration(listen: text)).contains("proxy.conf:" + expected), "\(said(configuration(listen: text)))")
  }

  @Test func redirectsNeedSomewhereToGo() {
    let text = configuration(listen: "address = \"0.0.0.0:80\"\nredirect = true", top: "origin = \"http://api.example.com\"")
    #expect(
      said(text).contains(
        "proxy.conf:17:12: error: [[listen]] number 1: redirect = true: excludes another key\n  expected: an origin to send clients to, such as origin = \"https://api.example.com\" at the top level"
      ))
  }

  @Test(arguments: [
    ("url = \"http://127.0.0.1:1\"\nca = \"good.pem\"", "15:6: error: [[upstream]] \"api\": ca = \"good.pem\": excludes another key\n  expected: an upstream whose url begins with https://"),
    ("url = \"http://127.0.0.1:1\"\nverify = \"insecure\"", "15:10: error: [[upstream]] \"api\": verify = \"insecure\": excludes another key\n  expected: an upstream whose url begins with https://"),
    ("url = \"https://127.0.0.1\"\nverify = false", "15:10: error: [[upstream]] \"api\": verify = false: wrong type\n  expected: \"insecure\" to take whoever answers for the upstream; without this key it is verified, not a boolean"),
    ("url = \"https://127.0.0.1\"\nverify = \"insecure\"\nca = \"good.pem\"", "16:6: error: [[upstream]] \"api\": ca = \"good.pem\": excludes another key\n  expected: either authorities or verify = \"insecure\""),
    ("url = \"https://127.0.0.1\"\nca = \"absent.pem\"", "15:6: error: [[upstream]] \"api\": ca = \"absent.pem\": file cannot be read\n  expected: a file that exists\n  advice: relative paths count from the configuration's folder, FOLDER"),
    ("url = \"https://127.0.0.1\"\ncertificate = \"good.pem\"", "12:1: error: [[upstream]] \"api\": key: missing key\n  expected: the file of its private key, such as key = \"privkey.pem\""),
    ("url = \"https://127.0.0.1\"\ncertificate = \"bare.pem\"\nkey = \"good.key\"", "16:7: error: [[upstream]] \"api\": key = \"good.key\": certificate or key cannot be used\n  expected: the private key of the chain's first certificate; this is another one's\n  advice: name the key that the certificate was requested with"),
    ("url = \"https://127.0.0.1\"\nserver-name = \"a:1\"", "15:15: error: [[upstream]] \"api\": server-name = \"a:1\": invalid value\n  expected: a host name or an address without port, such as \"api.internal\""),
    ("servers = [{ url = \"https://127.0.0.1\" }, { url = \"http://127.0.0.2\" }]", "14:11: error: [[upstream]] \"api\": servers: excludes another key\n  expected: servers whose URLs all begin with https://, or none of them"),
  ])
  func upstreamErrorNamesPlaceAndRemedy(_ text: String, _ expected: String) {
    let lines = said(configuration(listen: secure, upstream: text))
    #expect(lines.contains("proxy.conf:" + expected), "\(lines)")
  }
}
