import Bytes
import Configuration
import Encoding
import Foundation
import Synchronization
import TLS
import Testing

@testable import Proxy

/// A folder of certificates that a test changes as it goes.
private final class Folder: Sendable {
  let path: String

  init() {
    path = FileManager.default.temporaryDirectory.appending(path: "farebox-contexts-\(UUID().uuidString)").path
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func issue(_ name: String, days: Int = 60) {
    openssl(
      "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "\(name).key", "-out", "\(name).pem",
      "-subj", "/CN=\(name)", "-addext", "subjectAltName=DNS:api.test", "-days", "\(days)")
  }

  /// Lets a certificate be expired that has the key of another.
  func issueExpired(_ name: String, key: String) {
    openssl("req", "-new", "-key", "\(key).key", "-subj", "/CN=\(name)", "-out", "\(name).csr")
    openssl("x509", "-req", "-in", "\(name).csr", "-signkey", "\(key).key", "-days", "-1", "-out", "\(name).pem")
  }

  /// Puts a file in the place of another, as tools that renew do.
  func replace(_ name: String, with other: String) {
    try? FileManager.default.removeItem(atPath: "\(path)/next")
    try? FileManager.default.copyItem(atPath: "\(path)/\(other)", toPath: "\(path)/next")
    rename("\(path)/next", "\(path)/\(name)")
  }

  private func openssl(_ arguments: String...) {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    process.currentDirectoryURL = URL(filePath: path)
    process.standardError = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    try? process.run()
    process.waitUntilExit()
    precondition(process.terminationStatus == 0, "openssl \(arguments)")
  }

  var settings: Settings {
    var settings = Settings()
    var listener = Settings.Listener(.address("127.0.0.1", port: 443))
    listener.tls = Settings.Listener.TLS(certificates: [Settings.Certificate(chain: "\(path)/used.pem", key: "\(path)/used.key")])
    settings.listeners = [Settings.Listener(.address("127.0.0.1", port: 80)), listener]
    var upstream = Settings.Upstream(name: "api", endpoint: .host("127.0.0.1", port: 1))
    upstream.tls = Settings.Upstream.TLS()
    upstream.tls?.authorities = "\(path)/ca.pem"
    settings.upstreams = [upstream]
    return settings
  }
}

private final class Notices: Sendable {
  private let list = Mutex<[ServerNotice]>([])
  func add(_ notice: ServerNotice) { list.withLock { $0.append(notice) } }
  func take() -> [ServerNotice] {
    list.withLock { list in
      defer { list = [] }
      return list
    }
  }
}

private let place = "listener 127.0.0.1:443"

/// What a client finds out about a context by connecting.
private func meet(_ context: TLSServerContext, _ client: TLSClientContext) throws -> (subject: String?, isResumed: Bool) {
  var server = try TLSEngine(server: context)
  var client = try TLSEngine(client: client, serverName: "api.test")
  var up = ByteBuffer()
  var down = ByteBuffer()
  var room = [UInt8](repeating: 0, count: 65_536)
  try client.start(output: &up)
  for _ in 0..<3 {
    _ = try up.withUnsafeBytes { octets in try room.withUnsafeMutableBytes { try server.receive(octets, into: $0, output: &down) } }
    up.removeAll()
    _ = try down.withUnsafeBytes { octets in try room.withUnsafeMutableBytes { try client.receive(octets, into: $0, output: &up) } }
    down.removeAll()
  }
  return (client.peerCertificate?.subject, client.isResumed)
}

private func shown(_ context: TLSServerContext) throws -> String? {
  try meet(context, try TLSClientContext(trust: .insecure)).subject
}

@Suite struct TLSContextsTests {
  private let folder = Folder()
  private let notices = Notices()

  private func prepare() throws -> (TLSContexts, TLSPlan) {
    folder.issue("one")
    folder.issue("two")
    for suffix in ["pem", "key"] { folder.replace("used.\(suffix)", with: "one.\(suffix)") }
    folder.replace("ca.pem", with: "one.pem")
    let contexts = TLSContexts { [notices] in notices.add($0) }
    let prepared = try contexts.prepare(folder.settings, at: .now())
    contexts.adopt(prepared)
    return (contexts, prepared.plan)
  }

  private func look(_ contexts: TLSContexts, times: Int = 2) {
    for _ in 0..<times { contexts.look(at: .now(), .now()) }
  }

  @Test func renewedFilesAreUsedOnceTheyRest() throws {
    let (contexts, plan) = try prepare()
    #expect(plan.listeners.count == 2 && plan.listeners[0] == nil && plan.upstreams.count == 1)
    let holder = try #require(plan.listeners[1])
    #expect(try shown(holder.current) == "CN=one")
    look(contexts)
    #expect(notices.take() == [])
    let former = holder.current
    for suffix in ["pem", "key"] { folder.replace("used.\(suffix)", with: "two.\(suffix)") }
    look(contexts, times: 1)
    #expect(notices.take() == [] && holder.current === former)
    look(contexts, times: 1)
    #expect(notices.take() == [.certificatesRead(of: place)])
    #expect(try shown(holder.current) == "CN=two")
    #expect(try shown(former) == "CN=one", "connections that run keep theirs")
    look(contexts)
    #expect(notices.take() == [])
  }

  @Test func filesThatCannotBeUsedAreReportedOnceAndTheFormerStay() throws {
    let (contexts, plan) = try prepare()
    let holder = try #require(plan.listeners[1])
    folder.replace("used.pem", with: "two.pem")
    look(contexts, times: 4)
    #expect(notices.take() == [.certificatesRefused(of: place, .refused(path: "\(folder.path)/used.key", .keyMismatch))])
    #expect(try shown(holder.current) == "CN=one")
    folder.replace("used.key", with: "two.key")
    look(contexts)
    #expect(notices.take() == [.certificatesRead(of: place)])
    #expect(try shown(holder.current) == "CN=two")

    folder.issueExpired("ended", key: "two")
    folder.replace("used.pem", with: "ended.pem")
    look(contexts)
    guard case .certificatesRefused(of: place, .refused(_, .certificateExpired(position: 1, at: _)))? = notices.take().first else {
      Issue.record("an expired certificate was not refused")
      return
    }
    try FileManager.default.removeItem(atPath: "\(folder.path)/used.pem")
    look(contexts)
    #expect(notices.take() == [.certificatesRefused(of: place, .file(path: "\(folder.path)/used.pem", .notFound))])
    #expect(try shown(holder.current) == "CN=two")
  }

  @Test func configurationsAreGoneOverToWholeOrNotAtAll() throws {
    let (contexts, plan) = try prepare()
    let server = try #require(plan.listeners[1])
    let client = try #require(plan.upstreams[0]).current
    // Nothing has changed: contexts and the sessions in them stay.
    let same = try contexts.prepare(folder.settings, at: .now())
    contexts.adopt(same)
    #expect(same.plan.listeners[1] === server && same.plan.upstreams[0]?.current === client)
    // Changed files count at once, and only once adopted.
    for suffix in ["pem", "key"] { folder.replace("used.\(suffix)", with: "two.\(suffix)") }
    let renewed = try contexts.prepare(folder.settings, at: .now())
    #expect(try shown(server.current) == "CN=one")
    contexts.adopt(renewed)
    #expect(renewed.plan.listeners[1] === server)
    #expect(try shown(server.current) == "CN=two")
    // What cannot be used changes nothing.
    folder.replace("used.key", with: "one.key")
    #expect(throws: CertificateFileError.self) { _ = try contexts.prepare(folder.settings, at: .now()) }
    #expect(try shown(server.current) == "CN=two")
    // Other settings get contexts of their own.
    for suffix in ["pem", "key"] { folder.replace("used.\(suffix)", with: "one.\(suffix)") }
    var settings = folder.settings
    settings.listeners[1].tls?.minimum = .tls13
    let other = try contexts.prepare(settings, at: .now())
    #expect(other.plan.listeners[1] !== server)
    contexts.adopt(other)
    folder.replace("ca.pem", with: "two.pem")
    look(contexts)
    #expect(notices.take() == [.certificatesRead(of: "upstream api")])
    #expect(other.plan.upstreams[0]?.current !== client)
  }

  @Test func certificatesThatEndSoonAreReportedOnceADay() throws {
    let (contexts, _) = try prepare()
    let now = Timestamp.now() + .seconds(55 * 86_400)
    for hours in [0, 1, 23, 24, 25] as [Int64] { contexts.look(at: now + .seconds(hours * 3600), .now()) }
    let reported = notices.take()
    #expect(reported.count == 2)
    for notice in reported {
      guard case .certificateEnds(of: place, at: _) = notice else {
        Issue.record("\(notice)")
        continue
      }
    }
  }

  @Test func ticketKeysRotateByTheClock() throws {
    let (contexts, plan) = try prepare()
    let holder = try #require(plan.listeners[1])
    let client = try TLSClientContext(trust: .insecure)
    #expect(try meet(holder.current, client).isResumed == false)
    #expect(try meet(holder.current, client).isResumed == true)
    var instant = Instant.now()
    for _ in 0..<(TLSTicketKeys.keptCount - 1) {
      instant = instant + TLSTicketKeys.ticketLifetime / 2
      contexts.look(at: .now(), instant)
    }
    #expect(try meet(holder.current, client).isResumed == true)
    for _ in 0..<TLSTicketKeys.keptCount {
      instant = instant + TLSTicketKeys.ticketLifetime / 2
      contexts.look(at: .now(), instant)
    }
    #expect(try meet(holder.current, client).isResumed == false)
  }
}
