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

  private static func batch(_ target: String, count: Int = 1) -> ByteBuffer {
    var batch = ByteBuffer()
    for _ in 0..<count {
      var record = AccessRecord()
      record.add(.target, Array(target.utf8))
      record.append(to: &batch)
    }
    return batch
  }

  /// What a full disk leaves of a line must not swallow the next one. In a process of its own, since the limit that stands for the full
  /// disk is a process's.
  @Test func aLineThatWasCutOffEndsBeforeTheNext() async {
    await #expect(processExitsWith: .success) {
      signal(SIGXFSZ, SIG_IGN)
      func limitFiles(to octets: String) throws {
        let child = try ProcessControl.spawn(
          "/usr/bin/prlimit", arguments: ["prlimit", "--pid", "\(getpid())", "--fsize=\(octets):unlimited"], variables: [], descriptors: [])
        for _ in 0..<500 {
          if let status = ProcessControl.exitStatus(of: child) { return precondition(status == 0) }
          Pause.milliseconds(10)
        }
        preconditionFailure("prlimit does not end")
      }
      let path = AccessLogTests.path()
      let log = AccessLog { _ in }
      try log.adopt(try AccessLog.open(AccessLogTests.settings(path)))
      try limitFiles(to: "700")
      log.take(AccessLogTests.batch("/before", count: 20), count: 20)
      for _ in 0..<500 where log.droppedCount == 0 { Pause.milliseconds(10) }
      let whole = log.writtenCount
      try limitFiles(to: "unlimited")
      log.take(AccessLogTests.batch("/after", count: 3), count: 3)
      log.end()
      let lines = AccessLogTests.lines(path)
      unlink(path)
      let isWhole = lines.map { (try? JSON.parse(Array($0.utf8))) != nil }
      precondition(whole > 0 && whole < 20 && log.droppedCount == 20 - whole && log.writtenCount == whole + 3)
      precondition(isWhole.count { !$0 } == 1 && isWhole.suffix(3).allSatisfy { $0 }, "\(lines)")
      precondition(lines.suffix(3).allSatisfy { $0.contains("/after") })
    }
  }

  /// A pipe that nobody reads keeps neither the end nor another log waiting.
  @Test(.timeLimit(.minutes(5))) func aReaderThatIsStuckIsNotWaitedFor() throws {
    var pipes: [Int32] = [-1, -1]
    try #require(pipe(&pipes) == 0)
    defer { for descriptor in pipes { close(descriptor) } }
    let other = Self.path()
    defer { unlink(other) }
    let long = Self.batch(String(repeating: "x", count: 1000), count: 200)
    let log = AccessLog { _ in }
    try log.adopt(AccessLog.Opened(settings: Self.settings("/dev/stdout"), descriptor: dup(pipes[1])))
    log.take(long, count: 200)
    Pause.milliseconds(300)
    try log.adopt(try AccessLog.open(Self.settings(other)))
    log.take(Self.batch("/other"), count: 1)
    for _ in 0..<500 where Self.lines(other).isEmpty { Pause.milliseconds(10) }
    #expect(Self.lines(other).count == 1, "another log is used at once")
    #expect(log.droppedCount > 0 && log.droppedCount + log.writtenCount == 201)

    try log.adopt(AccessLog.Opened(settings: Self.settings("/dev/stdout"), descriptor: dup(pipes[1])))
    log.take(long, count: 200)
    log.end()
    #expect(log.droppedCount + log.writtenCount == 401)
    // What has got through stands there in whole lines, although the pipe took only pieces.
    var octets = [UInt8](repeating: 0, count: 1 << 20)
    let count = read(pipes[0], &octets, octets.count)
    #expect(count > 0 && octets[count - 1] == UInt8(ascii: "\n"))
    #expect(octets[..<count].split(separator: UInt8(ascii: "\n")).allSatisfy { (try? JSON.parse(Array($0))) != nil })
  }

  @Test(.timeLimit(.minutes(5))) func aFIFOWithoutAReaderIsRefusedAndNotWaitedFor() throws {
    let path = Self.path()
    try #require(mkfifo(path, 0o600) == 0)
    defer { unlink(path) }
    #expect(throws: IOError.cannotOpen(code: ENXIO)) { _ = try AccessLog.open(Self.settings(path)) }
  }

  @Test func aFileThatCannotBeOpenedAnewIsToldAndTheFormerOneStays() throws {
    let (path, moved) = (Self.path(), Self.path())
    defer {
      rmdir(path)
      unlink(moved)
    }
    let notices = NoticeList()
    let log = AccessLog { notice in notices.list.withLock { $0.append(notice) } }
    try log.adopt(try AccessLog.open(Self.settings(path)))
    #expect(rename(path, moved) == 0 && mkdir(path, 0o700) == 0)
    log.reopen()
    for _ in 0..<500 where notices.list.withLock({ $0.isEmpty }) { Pause.milliseconds(10) }
    log.take(Self.batch("/x"), count: 1)
    log.end()
    #expect(notices.list.withLock { $0 } == [.accessLogStays(code: EISDIR)])
    #expect(log.droppedCount == 0 && Self.lines(moved).count == 1)
  }
}
