import Bytes
import Glibc
import Testing

@testable import HTTP

/// How long the fuzzing lasts: a count of rounds in the tests, seconds in `scripts/fuzz`.
enum Fuzzing {
  /// Runs rounds with a generator whose seed is the test's own, or FAREBOX_FUZZ_SEED.
  static func run(seed: UInt64, rounds: Int, _ round: (inout SeededGenerator) -> Void) {
    var generator = SeededGenerator(state: variable("FAREBOX_FUZZ_SEED") ?? seed)
    guard let seconds = variable("FAREBOX_FUZZ_SECONDS") else {
      for _ in 0..<rounds { round(&generator) }
      return
    }
    let end = ContinuousClock.now + .seconds(Int64(clamping: seconds))
    while ContinuousClock.now < end { for _ in 0..<1_000 { round(&generator) } }
  }

  private static func variable(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}

/// Changed and cut messages: nothing traps, and what arrives in pieces means what it means in one.
@Suite struct FuzzTests {
  static let valid = [
    RequestDecoderTests.full, request("GET http://example.com/a?b HTTP/1.1", "Accept: */*"),
    request("OPTIONS * HTTP/1.1", "Connection: close, x"), request("PUT /a HTTP/1.0", "Content-Length: 1", host: nil),
    request("POST /b HTTP/1.1", "Transfer-Encoding: chunked", "TE: trailers", host: "Host: [::1]:80"),
  ]
  static let broken = SmugglingTests.forms.map(\.octets) + [ChunkedDecoderTests.full]

  static let responses = [
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nX: y\r\n\r\nhello",
    "HTTP/1.0 404 \r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
  ].map { Array($0.utf8) }

  private static let inserted: [[UInt8]] = [
    "\r\n", "\r", "\n", " ", "\t", ":", "\u{0}", "Host: b\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
    "Connection: x\r\n", ",", ";", "\"", "HTTP/1.1", "0\r\n\r\n", "%2e", "/../", "_", "\u{e9}", "999999999999999999999", "-", "=",
  ].map { Array($0.utf8) }

  private static let end = Array("\r\n\r\n".utf8)

  /// Changes up to three places.
  private func changed(_ seed: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
    var octets = seed
    for _ in 0..<Int.random(in: 1...3, using: &generator) {
      let place = Int.random(in: 0...octets.count, using: &generator)
      switch Int.random(in: 0..<5, using: &generator) {
      case 0 where place < octets.count: octets[place] = .random(in: 0...255, using: &generator)
      case 1 where place < octets.count: octets.remove(at: place)
      case 2:
        let end = min(octets.count, place + Int.random(in: 0..<20, using: &generator))
        octets.insert(contentsOf: octets[place..<end], at: Int.random(in: 0...octets.count, using: &generator))
      case 3: octets.removeLast(min(octets.count, Int.random(in: 0..<30, using: &generator)))
      default: octets.insert(contentsOf: Self.inserted.randomElement(using: &generator) ?? [], at: place)
      }
    }
    return octets
  }

  private func cuts(_ count: Int, _ generator: inout SeededGenerator) -> [Int] {
    (0..<4).map { _ in Int.random(in: 0...count, using: &generator) }.sorted() + [count]
  }

  @Test func requestsMeanTheSameInPieces() {
    var accepted = 0
    let limits = HeadLimits(requestLine: 200, head: 600, fieldCount: 12)
    Fuzzing.run(seed: 0xF0_0D, rounds: 40_000) { generator in
      let octets = changed((Bool.random(using: &generator) ? Self.valid : Self.broken).randomElement(using: &generator) ?? [], &generator)
      let whole = decodeRequest(octets, limits: limits)
      let pieces = decodeRequest(octets, arrivingAt: cuts(octets.count, &generator), limits: limits)
      switch (whole, pieces) {
      case (.head(let one), .head(let other)):
        accepted += 1
        #expect(one.fields == other.fields && one.byteCount == other.byteCount && one.framing == other.framing)
        checkAccepted(octets, one)
      case (.refused(let one), .refused(let other)):
        #expect((0...octets.count).contains(one.position) && (0...octets.count).contains(other.position))
      case (.incomplete, .incomplete): break
      case (.refused, .incomplete):
        // In pieces a line is read when its end is there; then it is refused as well.
        let ended = octets + Self.end
        #expect(decodeRequest(ended, arrivingAt: [octets.count, ended.count], limits: limits).error != nil)
      case (.head, _), (.refused, _), (.incomplete, _):
        Issue.record("\(whole) in one piece, \(pieces) in several: \(String(decoding: octets, as: UTF8.self).debugDescription)")
      }
    }
    #expect(accepted > 2_000)
  }

  /// Holds an accepted head against the grammar, told without the decoder's means.
  private func checkAccepted(_ octets: [UInt8], _ head: RequestHead) {
    var lines = octets[..<head.byteCount].split(separator: 0x0A, omittingEmptySubsequences: false)
    #expect(lines.popLast()?.isEmpty == true)
    #expect(lines.allSatisfy { $0.last == 0x0D && !$0.dropLast().contains(0x0D) })
    let fields = lines.drop { $0 == [0x0D] }.dropFirst().dropLast()
    #expect(fields.count == head.fields.count)
    #expect(lines.last == [0x0D] && fields.allSatisfy { $0.count > 1 && $0.first != 0x20 && $0.first != 0x09 })
    let names = fields.map { String(decoding: $0.prefix { $0 != 0x3A }, as: UTF8.self).lowercased() }
    #expect(head.minorVersion == 0 || names.filter { $0 == "host" }.count == 1)
    let lengths = names.filter { $0 == "content-length" }.count
    let codings = names.filter { $0 == "transfer-encoding" }.count
    switch head.framing {
    case .none: #expect(lengths == 0 && codings == 0)
    case .length: #expect(lengths == 1 && codings == 0)
    case .chunked: #expect(lengths == 0 && codings == 1 && head.minorVersion == 1)
    case .untilClose: Issue.record("a request does not end with the connection")
    }
  }

  @Test func responsesMeanTheSameInPieces() {
    var accepted = 0
    let limits = HeadLimits(requestLine: 100, head: 300, fieldCount: 6)
    Fuzzing.run(seed: 0xBEEF, rounds: 20_000) { generator in
      let octets = changed(Self.responses.randomElement(using: &generator) ?? [], &generator)
      let method: HTTP.Method = Bool.random(using: &generator) ? .get : .head
      let whole = decodeResponse(octets, method: method, limits: limits)
      let pieces = decodeResponse(octets, arrivingAt: cuts(octets.count, &generator), method: method, limits: limits)
      switch (whole, pieces) {
      case (.head(let one), .head(let other)):
        accepted += 1
        #expect(one.fields == other.fields && one.status == other.status && one.framing == other.framing)
      case (.refused, .refused), (.incomplete, .incomplete): break
      case (.refused, .incomplete):
        let ended = octets + Self.end
        let outcome = decodeResponse(ended, arrivingAt: [octets.count, ended.count], method: method, limits: limits)
        #expect(outcome.error != nil)
      case (.head, _), (.refused, _), (.incomplete, _):
        Issue.record("\(whole) in one piece, \(pieces) in several: \(String(decoding: octets, as: UTF8.self).debugDescription)")
      }
    }
    #expect(accepted > 2_000)
  }

  @Test func chunksMeanTheSameInPieces() {
    var completed = 0
    Fuzzing.run(seed: 0xC4A7, rounds: 30_000) { generator in
      let octets = changed(ChunkedDecoderTests.full, &generator)
      let whole = contents(octets, [octets.count])
      let pieces = contents(octets, cuts(octets.count, &generator))
      #expect(whole == pieces, "\(String(decoding: octets, as: UTF8.self).debugDescription)")
      if whole.end != nil { completed += 1 }
    }
    #expect(completed > 2_000)
  }

  private struct Contents: Equatable {
    var content: [UInt8] = []
    var trailers: [UInt8] = []
    var end: Int?
    var isRefused = false
  }

  private func contents(_ octets: [UInt8], _ cuts: [Int]) -> Contents {
    var decoder = ChunkedDecoder()
    var contents = Contents()
    var consumed = 0
    for cut in cuts {
      let piece = Array(octets[..<cut])
      do {
        reading: while true {
          switch try piece.withUnsafeBytes({ try decoder.decode($0, consumed: &consumed) }) {
          case .needMore: break reading
          case .data(let range): contents.content += piece[range]
          case .end:
            contents.end = consumed
            contents.trailers = decoder.trailers
            return contents
          }
        }
      } catch {
        contents.isRefused = true
        return contents
      }
    }
    return contents
  }
}
