import Bytes
import Foundation
import Proxy
import TLS

/// What a test's clients speak below HTTP. Tests speak HTTP/1.1; a bridge translates.
enum Carrier: String, CaseIterable, Sendable {
  case plain, tls, h2c, h2

  /// What clients of the test that runs speak.
  @TaskLocal static var current = Carrier.plain

  var isSecure: Bool { self == .tls || self == .h2 }
  var isHTTP2: Bool { self == .h2c || self == .h2 }

  /// Connects a client: an HTTP/1.1 wire, whatever is between it and the proxy.
  func connect(_ port: UInt16) throws -> Wire {
    self == .plain ? try Wire(port: port) : try CarrierBridge.connect(port, self)
  }

  /// What the listener of a proxy under test has of TLS.
  func context() throws -> TLSServerContext? {
    guard isSecure else { return nil }
    return try TLSServerContext(identities: [TestIdentity.shared.identity()], ticketKeys: TLSTicketKeys())
  }
}

/// A certificate for localhost that issued itself, made by the openssl command for this run.
struct TestIdentity {
  static let shared = TestIdentity()

  let chain: [UInt8]
  let key: [UInt8]

  private init() {
    let folder = NSTemporaryDirectory() + "farebox-identity-\(getpid())"
    try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = [
      "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "\(folder)/key.pem",
      "-out", "\(folder)/chain.pem", "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
    ]
    process.standardError = FileHandle.nullDevice
    try? process.run()
    process.waitUntilExit()
    chain = [UInt8](FileManager.default.contents(atPath: "\(folder)/chain.pem") ?? Data())
    key = [UInt8](FileManager.default.contents(atPath: "\(folder)/key.pem") ?? Data())
  }

  func identity() throws -> TLSIdentity { try TLSIdentity(chain: chain, key: SecretBytes(key), now: .now()) }
}
