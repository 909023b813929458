import Bytes
import Encoding
import Foundation

@testable import TLS

/// Certificates made by the openssl command for this run of the tests, in a folder of their own.
final class Certificates: Sendable {
  static let shared = Certificates()

  let folder: String

  private init() {
    folder = NSTemporaryDirectory() + "farebox-tls-\(getpid())"
    try? FileManager.default.removeItem(atPath: folder)
    try? FileManager.default.createDirectory(atPath: folder + "/issued", withIntermediateDirectories: true)
    _ = FileManager.default.createFile(atPath: folder + "/index", contents: nil)
    write(
      "ca.conf",
      """
      [ca]
      default_ca = here
      [here]
      database = \(folder)/index
      rand_serial = yes
      new_certs_dir = \(folder)/issued
      unique_subject = no
      default_md = sha256
      policy = any
      [any]
      commonName = supplied
      organizationName = optional
      """)
    for (authority, subject) in [("ca", "/CN=Test Root"), ("other", "/CN=Other Root")] {
      key(authority, "EC")
      openssl("req", "-x509", "-new", "-key", "\(authority).key", "-subj", subject, "-days", "3650", "-out", "\(authority).pem")
    }
    issue("middle", "/CN=Test Middle", extensions: "basicConstraints=critical,CA:true\nkeyUsage=keyCertSign")
    issue("first", "/O=Test/CN=First", names: "DNS:first.test,DNS:Second.Test")
    issue("firstrsa", "/O=Test/CN=First", names: "DNS:first.test,DNS:second.test", key: "RSA")
    issue("wild", "/CN=Wild", names: "DNS:*.wild.test")
    issue("address", "/CN=Address", names: "IP:127.0.0.1,IP:::1")
    issue("below", "/CN=Below", names: "DNS:below.test", authority: "middle")
    issue("foreign", "/CN=Foreign", names: "DNS:first.test", authority: "other")
    issue("expired", "/CN=Expired", names: "DNS:first.test", from: "20200101000000Z", to: "20210101000000Z")
    issue("future", "/CN=Future", names: "DNS:first.test", from: "20450101000000Z", to: "20460101000000Z")
    issue("client", "/O=Test \\, Inc/CN=Agent \u{E9}", extensions: "extendedKeyUsage=clientAuth")
    issue("strange", "/CN=Stranger", authority: "other", extensions: "extendedKeyUsage=clientAuth")
    issue("old", "/CN=Old Agent", from: "20200101000000Z", to: "20210101000000Z", extensions: "extendedKeyUsage=clientAuth")
    issue("nameless", "/CN=Nameless")
    openssl("pkcs8", "-topk8", "-in", "first.key", "-out", "first.encrypted.key", "-v2", "aes256", "-passout", "pass:secret")
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "short.key", "-out", "short.pem", "-subj", "/CN=Short", "-addext", "subjectAltName=DNS:short.test")
  }

  private func key(_ name: String, _ kind: String) {
    let options = kind == "EC" ? ["-pkeyopt", "ec_paramgen_curve:P-256"] : ["-pkeyopt", "rsa_keygen_bits:2048"]
    openssl(["genpkey", "-algorithm", kind] + options + ["-out", "\(name).key"])
  }

  private func issue(
    _ name: String, _ subject: String, names: String? = nil, key kind: String = "EC", authority: String = "ca",
    from: String = "20250101000000Z", to: String = "20400101000000Z", extensions: String = ""
  ) {
    key(name, kind)
    write("\(name).ext", extensions + (names.map { "\nsubjectAltName=" + $0 } ?? "") + "\n")
    openssl("req", "-new", "-utf8", "-key", "\(name).key", "-subj", subject, "-out", "\(name).csr")
    openssl(
      "ca", "-batch", "-notext", "-preserveDN", "-config", "ca.conf", "-cert", "\(authority).pem", "-keyfile", "\(authority).key", "-in",
      "\(name).csr", "-out", "\(name).pem", "-extfile", "\(name).ext", "-startdate", from, "-enddate", to)
  }

  private func write(_ name: String, _ text: String) {
    _ = FileManager.default.createFile(atPath: "\(folder)/\(name)", contents: Data(text.utf8))
  }

  private func openssl(_ arguments: String...) { openssl(arguments) }

  private func openssl(_ arguments: [String]) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(filePath: folder)
    let pipe = Pipe()
    process.standardError = pipe
    process.standardOutput = pipe
    do { try process.run() } catch { fatalError("openssl cannot be run: \(error)") }
    let said = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { fatalError("openssl \(arguments): \(String(decoding: said, as: UTF8.self))") }
  }

  func octets(_ name: String) -> [UInt8] {
    FileManager.default.contents(atPath: "\(folder)/\(name)").map { [UInt8]($0) } ?? []
  }

  func secret(_ name: String) -> SecretBytes { SecretBytes(octets(name)) }

  func identity(_ name: String, chain: [String] = []) throws -> TLSIdentity {
    try TLSIdentity(chain: ([name] + chain).flatMap { octets("\($0).pem") }, key: secret("\(name).key"), now: Timestamp.now())
  }

  /// An identity at an instant at which it was valid.
  func identity(_ name: String, in year: Int64) throws -> TLSIdentity {
    let now = Timestamp(seconds: (year - 1970) * 31_556_952 + 15_000_000)
    return try TLSIdentity(chain: octets("\(name).pem"), key: secret("\(name).key"), now: now)
  }

  func authorities(_ name: String = "ca") throws -> TLSAuthorities { try TLSAuthorities(pem: octets("\(name).pem")) }
}
