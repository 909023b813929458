import Bytes
import Configuration
import Crypto
import Encoding
import Glibc
import HTTP
import IO
import Synchronization
import Testing

@testable import Proxy

private final class NoticeList: Sendable {
  let list = Mutex<[ServerNotice]>([])
}

@Suite struct AccessLogTests {
  private static func path() -> String { "/tmp/farebox-access-\(getpid())-\(UInt64.random(in: 0...UInt64.max)).log" }

  private static func lines(_ path: String) -> [String] {
    guard let file = fopen(path, "r") else { return [] }
    defer { fclose(file) }
    var octets: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65_536)
    while case let count = fread(&part, 1, part.count, file), count > 0 { octets += part[..<count] }
    return String(decoding: octets, as: UTF8.self).split(separator: "\n").map(String.init)
  }

  private static func settings(_ path: String, _ format: AccessLineFormat = .json, query: Bool = false) -> Settings.AccessLog {
    var log = Settings.AccessLog()
    log.target = .file(path: path)
    log.format = format
    log.keepsQuery = query
    return log
  }

  /// What a record says is what its line says, and what a client put into it cannot break the line.
  @Test func aRecordIsSpelledInBothFormats() throws {
    var record = AccessRecord()
    record.entry.time = Timestamp(seconds: 1_760_104_536).microseconds
    (record.entry.began, record.entry.asked, record.entry.answered, record.entry.ended) = (1_000, 2_000_000, 5_000_000, 1_002_501_000)
    (record.entry.status, record.entry.upstreamStatus) = (200, 203)
    (record.entry.received, record.entry.sent) = (7, 9)
    record.entry.clientHigh = ClientAddress(ipv4: 0x7F00_0001).high
    record.entry.clientLow = ClientAddress(ipv4: 0x7F00_0001).low
    record.entry.amountLow = 2000
    record.entry.reference = 6
    let wallet = Ed25519.SigningKey.generate().publicKey
    record.add(.method, Array("GET".utf8))
    record.add(.target, Array("/a\"b".utf8))
    record.add(.agent, Array("x\\y\u{1B}[0m\r\n\u{80}".utf8))
    record.add(.route, Array("quotes".utf8))
    wallet.octets.withUnsafeBytes { record.add(.wallet, $0) }
    record.add(.currency, Array("usdc".utf8))
    record.add(.protocol, Array("h1".utf8))
    var batch = ByteBuffer()
    record.append(to: &batch)
    record.append(to: &batch)
    for format in AccessLineFormat.allCases {
      var lines = ByteBuffer()
      var reader = AccessLineReader(format)
      #expect(batch.withUnsafeBytes { reader.spell($0, into: &lines) } == 2)
      let texts = lines.string().split(separator: "\n")
      #expect(texts.count == 2 && texts[0] == texts[1])
      #expect(lines.string().utf8.allSatisfy { $0 == 0x0A || (0x20..<0x7F).contains($0) })
      switch format {
      case .json:
        let object = try #require(try JSON.parse(Array(texts[0].utf8)).objectValue)
        #expect(object["path"] == "/a\"b" && object["client"] == "127.0.0.1" && object["route"] == "quotes")
        #expect(object["charged"] == "2000" && object["reference"] == "6" && object["currency"] == "usdc")
        #expect(object["wallet"]?.stringValue == DIDKey.encode(wallet))
        #expect(texts[0].contains("\"duration\":1.002500") && texts[0].contains("\"upstreamTime\":0.003000"))
        #expect(object["host"] == nil && object["session"] == nil)
      case .combined:
        let did = DIDKey.encode(wallet)
        #expect(texts[0].hasPrefix("127.0.0.1 - \(did) [10/Oct/2025:13:55:36 +0000] \"GET /a\\u0022b HTTP/1.1\" 200 9 \"-\" \"x\\u005cy"))
      }
    }
  }

  @Test func requestsAreWrittenWithoutTheirSecrets() throws {
    let path = Self.path()
    defer { unlink(path) }
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 201 Made\r\nContent-Length: 5\r\n\r\nhello" }
    let relay = try PaidRelay(upstreamPort: upstream.port) { $0.accessLog = Self.settings(path) }
    let fields = try relay.chargeFields("/weather/a?token=secret1")
    #expect(try relay.send("/weather/a?token=secret1", fields + [("User-Agent", "agent/1"), ("Cookie", "secret2")]).status == 201)
    _ = try relay.connect().request("BROKEN\r\n\r\n")
    relay.server.drain()
    relay.server.join()
    let lines = Self.lines(path)
    let objects = try lines.map { try #require(try JSON.parse(Array($0.utf8)).objectValue) }
    #expect(objects.contains { $0["status"] == .integer(402) && $0["route"] == "weather" })
    let paid = try #require(objects.first { $0["status"] == .integer(201) && $0["charged"] != nil })
    #expect(paid["path"] == "/weather/a" && paid["charged"] == "2000" && paid["sent"] == .integer(5) && paid["agent"] == "agent/1")
    #expect(paid["upstreamStatus"] == .integer(201) && paid["upstream"] == "up" && paid["wallet"] != nil)
    #expect(objects.contains { $0["status"] == .integer(400) && $0["method"] == nil })
    let text = lines.joined()
    for hidden in ["secret1", "secret2", fields[0].1] { #expect(!text.contains(hidden)) }
  }

  @Test func theFileIsOpenedAnewAndLogsAreChanged() throws {
    let (path, moved, other) = (Self.path(), Self.path(), Self.path())
    defer { for path in [path, moved, other] { unlink(path) } }
    let upstream = try ScriptedUpstream.answering { _ in "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" }
    let relay = try RelayFixture(upstreamPort: upstream.port) { $0.accessLog = Self.settings(path) }
    func count(_ path: String, is count: Int) -> Bool {
      for _ in 0..<200 {
        if Self.lines(path).count == count { return true }
        Pause.milliseconds(20)
      }
      return false
    }
    #expect(try relay.get("/one").status == 200)
    #expect(count(path, is: 1))
    #expect(rename(path, moved) == 0)
    relay.server.reopenLogs()
    var status = stat()
    for _ in 0..<200 where stat(path, &status) != 0 { Pause.milliseconds(10) }
    #expect(try relay.get("/two").status == 200)
    #expect(count(path, is: 1) && count(moved, is: 1))
    var settings = relay.server.settings
    settings.accessLog = Self.settings(other, .combined, query: true)
    try relay.server.reload(settings, at: .now())
    #expect(try relay.get("/three?q=1").status == 200)
    #expect(count(other, is: 1))
    #expect(Self.lines(other)[0].contains("\"GET /three?q=1 HTTP/1.1\" 200 0"))
    settings.accessLog = Self.settings("/nonexistent/folder/log")
    #expect(throws: ReloadError.server(.accessLog(.cannotOpen(code: ENOENT)))) { try relay.server.reload(settings, at: .now()) }
    settings.accessLog = Settings.AccessLog()
    try relay.server.reload(settings, at: .now())
    #expect(try relay.get("/four").status == 200)
    #expect(relay.metric("access_log_dropped_total") == 0)
  }

  /// A log that nobody writes down is bounded, and says what it lost.
  @Test func whatDoesNotFitIsDroppedAndTold() throws {
    let notices = NoticeList()
    let log = AccessLog { notice in notices.list.withLock { $0.append(notice) } }
    try log.adopt(AccessLog.Opened(settings: Self.settings("/dev/full"), descriptor: open("/dev/full", O_WRONLY)))
    var batch = ByteBuffer()
    AccessRecord().append(to: &batch)
    for _ in 0..<3 { log.take(batch, count: 1) }
    log.end()
    #expect(log.droppedCount == 3 && log.writtenCount == 0)
    #expect(notices.list.withLock { $0 } == [.accessLogDrops])
    log.take(batch, count: 5)
    #expect(log.droppedCount == 8)
  }
}
