import Bytes
import Configuration
import Encoding
import Glibc
import HTTP
import IO
import Ledger
import Synchronization
import Testing

@testable import Proxy

/// A real upstream whose behaviour a test scripts: each connection runs the script on a thread of its own.
final class ScriptedUpstream: Sendable {
  let port: UInt16
  private let listener: Int32
  private let accepted = Atomic<Int>(0)

  /// How many connections have come.
  var connectionCount: Int { accepted.load(ordering: .sequentiallyConsistent) }

  /// Listens on 127.0.0.1 and a port that the kernel chooses, unless told otherwise.
  init(address: UInt32 = 0x7f00_0001, port wanted: UInt16 = 0, _ script: @escaping @Sendable (_ wire: Wire, _ number: Int) -> Void) throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let numeric = address
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = numeric.bigEndian
    address.sin_port = wanted.bigEndian
    var count = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, count) }
    }
    try #require(bound == 0 && listen(descriptor, 128) == 0)
    _ = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &count) }
    }
    port = UInt16(bigEndian: address.sin_port)
    listener = descriptor
    _ = try LoopThread(name: "upstream") { [self] in
      while true {
        let connection = accept(descriptor, nil, nil)
        guard connection >= 0 else {
          // Closed here alone: elsewhere, this thread might go on to accept from whoever got the descriptor's number next.
          Glibc.close(descriptor)
          return
        }
        let number = accepted.add(1, ordering: .sequentiallyConsistent).newValue
        let wire = Wire(descriptor: connection)
        _ = try? LoopThread(name: "upstream-\(number)") { script(wire, number) }
      }
    }
  }

  /// Stops accepting; connections go on.
  func close() {
    shutdown(listener, Int32(SHUT_RDWR))
  }

  /// Answers every request alike, for as long as the connection lasts; the script gets each head.
  static func answering(_ answer: @escaping @Sendable (_ head: String) -> String) throws -> ScriptedUpstream {
    try ScriptedUpstream { wire, _ in
      while let head = try? wire.read(through: "\r\n\r\n") { wire.send(answer(head)) }
    }
  }
}

/// A proxy before an upstream, with one free route for everything.
final class RelayFixture: @unchecked Sendable {
  // Safe because: everything in it is immutable or safe to share.
  let server: Server
  let port: UInt16
  private let carrier = Carrier.current
  private let translator: Translator
  private let folder: String

  init(
    upstreamPort: UInt16, _ configure: (inout Settings) -> Void = { _ in },
    notify: (@Sendable (ServerNotice) -> Void)? = nil, resolve: UpstreamResolver.Resolve? = nil
  ) throws {
    let translator = try Translator(to: upstreamPort)
    self.translator = translator
    folder = "/tmp/farebox-relay-\(getpid())-\(UInt64.random(in: 0...UInt64.max))"
    var settings = Settings()
    settings.listeners = [.init(.address("127.0.0.1", port: 0))]
    settings.workers = 1
    settings.upstreams = [Settings.Upstream(name: "upstream", endpoint: .host("127.0.0.1", port: translator.port))]
    settings.routes = [Settings.Route(id: "all", path: .prefix("/"))]
    configure(&settings)
    let keys = try KeyRing.open(folder, at: .now())
    var plan = try RelayPlan(settings)
    try Translator.configure(&plan)
    plan.listeners[0].tls = try carrier.context().map(Renewable.init)
    server = Server(
      settings: settings, plan: plan, ledger: nil, keys: keys, notify: notify ?? { _ in },
      resolve: resolve ?? UpstreamResolver.bySystem)
    try server.start()
    port = try #require(server.ports.first)
  }

  deinit {
    server.stop()
    server.join()
    for name in ["challenge.secret", "receipt.key", "checkpoint.key"] { unlink(folder + "/" + name) }
    rmdir(folder)
  }

  func connect() throws -> Wire { try carrier.connect(port) }

  /// One request on a connection of its own.
  func get(_ target: String = "/x", fields: String = "") throws -> Wire.Response {
    try connect().request("GET \(target) HTTP/1.1\r\nHost: api.test\r\n\(fields)\r\n")
  }

  /// The number that a metrics line has.
  func metric(_ name: String) -> UInt64? {
    var text = Bytes.ByteBuffer()
    server.appendMetrics(to: &text)
    for line in text.string().split(separator: "\n") where line.hasPrefix("farebox_\(name) ") {
      return UInt64(line.split(separator: " ")[1])
    }
    return nil
  }
}
