import Bytes
import Encoding
import Testing

@Suite struct TimestampTests {
  @Test(arguments: [
    ("1970-01-01T00:00:00Z", 0), ("1985-04-12T23:20:50.52Z", 482_196_050_520_000), ("1996-12-19T16:39:57-08:00", 851_042_397_000_000),
    ("1937-01-01T12:00:27.87+00:20", nil), ("1969-12-31T23:59:59Z", nil), ("1969-12-31T23:00:00-01:00", 0),
    ("1970-01-01T00:59:59+01:00", nil), ("2000-02-29T00:00:00Z", 951_782_400_000_000), ("2024-02-29t12:00:00z", 1_709_208_000_000_000),
    ("2026-11-21T10:15:00.123456789Z", 1_795_256_100_123_456), ("2026-11-21T10:15:00-00:00", 1_795_256_100_000_000),
    ("9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999), ("9999-12-31T23:59:59-00:01", nil),
  ] as [(String, Int64?)])
  func readsAnyOffset(_ text: String, _ microseconds: Int64?) {
    #expect(Timestamp(rfc3339: text)?.microseconds == microseconds)
    #expect(Timestamp(rfc3339: [UInt8](text.utf8))?.microseconds == microseconds)
  }

  @Test(arguments: [
    "", "2026-11-21", "2026-11-21T10:15:00", "2026-11-21 10:15:00Z", "2026-11-21T10:15Z", "2026-11-21T10:15:60Z", "2026-11-21T24:00:00Z",
    "2026-11-21T10:60:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z",
    "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z", "2026-11-21T10:15:00.Z", "2026-11-21T10:15:00.1234567890Z", "2026-11-21T10:15:00,5Z",
    "2026-11-21T10:15:00+0100", "2026-11-21T10:15:00+01", "2026-11-21T10:15:00+24:00", "2026-11-21T10:15:00+01:60", "2026-11-21T10:15:00ZZ",
    "2026-11-21T10:15:00Z ", " 2026-11-21T10:15:00Z", "+2026-11-21T10:15:00Z", "2026-1-21T10:15:00.00Z", "2026-11-21T10:15:00.5",
    "20261121T101500Z00000",
    "2026-11-2１T10:15:00Z", "2026/11/21T10:15:00Z", "2026-11-21T10-15-00Z",
  ])
  func refusesEverythingElse(_ text: String) {
    #expect(Timestamp(rfc3339: text) == nil)
  }

  @Test func everyCutAndEveryChangedOctetIsHarmless() {
    let text = [UInt8]("2026-11-21T10:15:00.5+01:30".utf8)
    for end in text.indices { #expect(Timestamp(rfc3339: [UInt8](text[..<end])) == nil) }
    for index in text.indices {
      for octet in [UInt8(0), 0x20, 0x2F, 0x3A, 0x41, 0x80, 0xFF] where octet != text[index] {
        var changed = text
        changed[index] = octet
        #expect(Timestamp(rfc3339: changed) == nil)
      }
    }
  }

  @Test func writesWhatItReads() throws {
    let time = try #require(Timestamp(rfc3339: "2026-11-21T10:15:07.089Z"))
    #expect(time.rfc3339 == "2026-11-21T10:15:07Z")
    #expect(time.rfc3339Milliseconds == "2026-11-21T10:15:07.089Z")
    #expect(time.imfFixdate == "Sat, 21 Nov 2026 10:15:07 GMT")
    #expect("\(time)" == "2026-11-21T10:15:07.089Z")
    // RFC 9110, section 5.6.7.
    #expect(Timestamp(rfc3339: "1994-11-06T08:49:37Z")?.imfFixdate == "Sun, 06 Nov 1994 08:49:37 GMT")
    #expect(Timestamp.latest.rfc3339 == "9999-12-31T23:59:59Z")
    #expect(Timestamp.earliest.imfFixdate == "Thu, 01 Jan 1970 00:00:00 GMT")
    var buffer = ByteBuffer()
    time.append(rfc3339: &buffer)
    #expect(buffer.string() == time.rfc3339)
  }

  /// Walks through every day up to 2400, counting the calendar by itself.
  @Test func everyDayHasItsDate() {
    var (year, month, day) = (1970, 1, 1)
    func padded(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }
    for index in 0..<157_054 {
      let time = Timestamp(seconds: Int64(index) * 86_400 + 86_399)
      let text = "\(year)-\(padded(month))-\(padded(day))T23:59:59Z"
      guard time.rfc3339 == text, Timestamp(rfc3339: text) == time, time.day == Int32(index) else {
        Issue.record("day \(index) is \(text), not \(time)")
        return
      }
      let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
      let length = month == 2 ? (isLeap ? 29 : 28) : [4, 6, 9, 11].contains(month) ? 30 : 31
      day += 1
      if day > length { (month, day) = (month + 1, 1) }
      if month > 12 { (year, month) = (year + 1, 1) }
    }
    #expect(year == 2400)
  }

  @Test func arithmeticStaysInsideTheRange() throws {
    let time = try #require(Timestamp(rfc3339: "2026-11-21T10:15:00Z"))
    #expect((time + .seconds(60)).rfc3339 == "2026-11-21T10:16:00Z")
    #expect(time - .milliseconds(1) < time)
    #expect((time + .seconds(60)) - time == .seconds(60))
    #expect(time - (time + .seconds(60)) == .seconds(-60))
    for far in [Duration.seconds(Int64.max), .seconds(Int64.max / 1_000_000), .seconds(400_000_000_000)] {
      #expect(time + far == .latest)
      #expect(time - far == .earliest)
    }
    #expect(time + .seconds(Int64.min) == .earliest)
    #expect(time - .seconds(Int64.min) == .latest)
    #expect(Timestamp(seconds: .max) == .latest)
    #expect(Timestamp(seconds: .min) == .earliest)
    #expect(Timestamp(microseconds: -1) == .earliest)
    #expect(Timestamp.now() > time - .seconds(86_400 * 3650))
  }
}

@Suite struct InstantTests {
  @Test func arithmeticStopsAtTheEnds() {
    let instant = Instant(nanoseconds: 5_000)
    #expect((instant + .microseconds(3)).nanoseconds == 8_000)
    #expect((instant - .microseconds(3)).nanoseconds == 2_000)
    #expect(instant.advanced(milliseconds: 2).nanoseconds == 2_005_000)
    let last = Instant(nanoseconds: .max)
    #expect(instant + .seconds(Int64.max) == last)
    #expect(last.advanced(milliseconds: 1) == last)
    #expect(last.nanoseconds(since: Instant(nanoseconds: -1)) == .max)
    #expect((instant - .seconds(Int64.max)).nanoseconds < 0)
    #expect(instant.advanced(milliseconds: .min).nanoseconds < 0)
    #expect(instant.advanced(milliseconds: 1) - instant == .milliseconds(1))
    #expect(instant < instant.advanced(nanoseconds: 1))
    let first = Instant.now()
    #expect(Instant.now() >= first)
  }
}
