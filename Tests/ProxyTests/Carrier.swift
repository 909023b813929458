import Bytes
import Configuration
import Foundation
import TLS

@testable import Proxy

/// What a test's clients speak below HTTP. Tests speak HTTP/1.1; a bridge translates.
enum Carrier: String, CaseIterable, Sendable {
  case plain, tls, h2c, h2

  /// What clients of the test that runs speak.
  @TaskLocal static var current = Carrier.plain
  /// What a proxy under test speaks to its upstream.
  @TaskLocal static var upstream = Carrier.plain

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

/// A server that speaks something else before a scripted upstream, which speaks HTTP/1.1: another proxy.
struct Translator {
  let port: UInt16
  private let relay: RelayFixture?

  init(to upstreamPort: UInt16) throws {
    guard Carrier.upstream != .plain else {
      (port, relay) = (upstreamPort, nil)
      return
    }
    let relay = try Carrier.$current.withValue(Carrier.upstream) {
      try Carrier.$upstream.withValue(.plain) {
        try RelayFixture(upstreamPort: upstreamPort) { settings in
          settings.limits.bodyBytes = 0
          settings.upstreams[0].hostField = .client
        }
      }
    }
    (port, self.relay) = (relay.port, relay)
  }

  /// Makes a proxy's plan say what is spoken to its upstream.
  static func configure(_ plan: inout RelayPlan) throws {
    let carrier = Carrier.upstream
    guard carrier != .plain else { return }
    plan.upstreams[0].http2 = carrier.isHTTP2 ? .always : .never
    plan.servers[0].mayMultiplex = carrier.isHTTP2
    guard carrier.isSecure else { return }
    let trust = TLSServerTrust.authorities(try TLSAuthorities(pem: TestIdentity.shared.chain))
    plan.upstreams[0].tls = Renewable(try TLSClientContext(trust: trust, protocols: carrier.isHTTP2 ? [.http2] : [.http1]))
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
