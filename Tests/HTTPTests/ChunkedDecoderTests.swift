import Bytes
import Testing

@testable import HTTP

@Suite struct ChunkedDecoderTests {
  struct Result: Equatable {
    var content: [UInt8] = []
    var trailers: [UInt8] = []
    var rest = 0
    var isComplete = false
    var error: HTTPError?
  }

  /// Decodes octets that arrive in pieces, the consumed part of each taken away as a connection does.
  private func decode(_ octets: [UInt8], cutAt cuts: [Int] = []) -> Result {
    var decoder = ChunkedDecoder()
    var result = Result()
    var start = 0
    for end in cuts + [octets.count] where !result.isComplete {
      let piece = Array(octets[start..<end])
      var consumed = 0
      do {
        reading: while true {
          switch try piece.withUnsafeBytes({ try decoder.decode($0, consumed: &consumed) }) {
          case .needMore:
            #expect(consumed == piece.count)
            break reading
          case .data(let range):
            #expect(!range.isEmpty && range.upperBound == consumed)
            result.content += piece[range]
          case .end:
            result.isComplete = true
            break reading
          }
        }
      } catch let error as HTTPError {
        result.error = error
        return result
      } catch {
        Issue.record("another module's error")
      }
      start += consumed
    }
    result.rest = octets.count - start
    result.trailers = decoder.trailers
    #expect(decoder.isComplete == result.isComplete)
    return result
  }

  static let full = Array(
    "5\r\nhello\r\n001\r\n,\r\n6;a;b=c;d=\"e\\\"; f\"\r\n world\r\nA;x\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nY: \t2 \r\n\r\nGET".utf8)

  @Test func readsTheSameAtEveryPairOfSplits() {
    let expected = Result(
      content: Array("hello, world0123456789".utf8), trailers: Array("X-Sum: 1\r\nY: \t2 \r\n".utf8), rest: 3,
      isComplete: true)
    #expect(decode(Self.full) == expected)
    let end = Self.full.count - 3
    for first in 0..<end {
      for second in first..<end { #expect(decode(Self.full, cutAt: [first, second]) == expected) }
    }
    #expect(decode(Self.full, cutAt: Array(0..<end)) == expected)
  }

  @Test func waitsUntilTheLastOctet() {
    for count in 0..<Self.full.count - 3 { #expect(!decode(Array(Self.full[..<count])).isComplete) }
  }

  @Test(arguments: [
    ("\r\n", "chunkSizeInvalid"), (";x\r\n", "chunkSizeInvalid"), (" 5\r\n", "chunkSizeInvalid"),
    ("5 \r\n", "chunkSizeInvalid"), ("5\t;x\r\n", "chunkSizeInvalid"), ("+5\r\n", "chunkSizeInvalid"),
    ("-5\r\n", "chunkSizeInvalid"), ("0x5\r\n", "chunkSizeInvalid"), ("5_0\r\n", "chunkSizeInvalid"),
    ("g\r\n", "chunkSizeInvalid"), ("\u{0}5\r\n", "chunkSizeInvalid"), ("5\n", "bareLineFeed"),
    ("5\rhello", "bareCarriageReturn"), ("5;x\n", "bareLineFeed"), ("5;x\rhello", "bareCarriageReturn"),
    ("5;\r\n", "chunkExtensionInvalid"), ("5;;x\r\n", "chunkExtensionInvalid"), ("5;x=\r\n", "chunkExtensionInvalid"),
    ("5; x\r\n", "chunkExtensionInvalid"), ("5;x =y\r\n", "chunkExtensionInvalid"),
    ("5;x=\"y\r\n", "chunkExtensionInvalid"), ("5;x=\"y\"z\r\n", "chunkExtensionInvalid"),
    ("5;x=\"\u{0}\"\r\n", "chunkExtensionInvalid"), ("5;x=\"\n\"\r\n", "bareLineFeed"),
    ("10000000000000000\r\n", "chunkSizeTooLarge"), ("00000000000000005\r\n", "chunkSizeTooLarge"),
    ("8000000000000000\r\n", "chunkSizeTooLarge"), ("FFFFFFFFFFFFFFFF\r\n", "chunkSizeTooLarge"),
    ("5\r\nhelloX", "chunkNotTerminated"), ("5\r\nhello\n", "chunkNotTerminated"),
    ("5\r\nhello\rX", "chunkNotTerminated"), ("5\r\nhello0\r\n\r\n", "chunkNotTerminated"),
    ("0\r\nX: y\n\r\n", "bareLineFeed"), ("0\r\nX: y\r\n\n", "bareLineFeed"),
    ("0\r\nX : y\r\n\r\n", "spaceBeforeColon"), ("0\r\nX\r\n\r\n", "fieldNameInvalid"),
    ("0\r\nX: y\r\n z\r\n\r\n", "lineFolded"), ("0\r\nX: a\rb\r\n\r\n", "bareCarriageReturn"),
    ("0\r\nContent-Length: 5\r\n\r\n", "trailerForbidden"), ("0\r\ntransfer-encoding: chunked\r\n\r\n", "trailerForbidden"),
    ("0\r\nHost: b\r\n\r\n", "trailerForbidden"), ("0\r\nAuthorization: Payment x\r\n\r\n", "trailerForbidden"),
    ("0\r\nPrepaid-Session: x\r\n\r\n", "trailerForbidden"), ("0\r\nX-Forwarded-For: ::1\r\n\r\n", "trailerForbidden"),
    ("0\r\nContent_Length: 5\r\n\r\n", "trailerForbidden"),
  ])
  func refusesAtEverySplit(text: String, rule: String) {
    let octets = Array(text.utf8)
    for split in 0..<octets.count {
      let error = decode(octets, cutAt: [split]).error
      #expect(error.map { String("\($0)".prefix { $0 != "(" }) } == rule, "split at \(split)")
    }
  }

  @Test func takesTheLargestSize() {
    let result = decode(Array("7fffffffffffffff\r\nx".utf8))
    #expect(result.error == nil && result.content == [0x78] && !result.isComplete)
  }

  @Test func boundsExtensions() {
    let most = "5;" + String(repeating: "x", count: 1022) + "\r\nhello\r\n0\r\n\r\n"
    #expect(decode(Array(most.utf8)).isComplete)
    let more = "5;" + String(repeating: "x", count: 1024) + "\r\nhello\r\n0\r\n\r\n"
    #expect(decode(Array(more.utf8)).error == .chunkExtensionTooLong(at: 1026))
    let chunk = "1;" + String(repeating: "x", count: 999) + "\r\nx\r\n"
    let many = String(repeating: chunk, count: 17) + "0\r\n\r\n"
    if case .chunkExtensionTooLong = decode(Array(many.utf8)).error {} else { Issue.record("the sum is not bounded") }
  }

  @Test func boundsTrailers() {
    let line = "X: " + String(repeating: "y", count: 1000) + "\r\n"
    #expect(decode(Array(("0\r\n" + String(repeating: line, count: 8) + "\r\n").utf8)).isComplete)
    #expect(decode(Array(("0\r\n" + String(repeating: line, count: 9) + "\r\n").utf8)).error?.status == 431)
    let short = String(repeating: "X: y\r\n", count: 33)
    #expect(decode(Array(("0\r\n" + short + "\r\n").utf8)).error?.status == 431)
  }

  @Test func startsOver() throws {
    var decoder = ChunkedDecoder()
    for _ in 0..<2 {
      var consumed = 0
      let octets = Array("1\r\nx\r\n0\r\nX: y\r\n\r\n".utf8)
      var events: [ChunkEvent] = []
      for _ in 0..<3 { events.append(try octets.withUnsafeBytes { try decoder.decode($0, consumed: &consumed) }) }
      #expect(events == [.data(3..<4), .end, .end])
      #expect(decoder.trailers == Array("X: y\r\n".utf8) && decoder.trailerSection.fields.count == 1)
      decoder.reset()
    }
  }

  @Test func dropsPaymentFieldsFromTrailers() throws {
    var decoder = ChunkedDecoder()
    var consumed = 0
    let octets = Array("0\r\nA: 1\r\nPayment-Receipt: forged\r\nB: 2\r\nC: 3\r\n\r\n".utf8)
    let event = try octets.withUnsafeBytes { try decoder.decode($0, consumed: &consumed) }
    #expect(event == .end)
    var output = ByteBuffer()
    ResponseRewriter.appendTrailers(decoder, to: &output)
    #expect(output.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } == "A: 1\r\nB: 2\r\nC: 3\r\n")
  }
}
