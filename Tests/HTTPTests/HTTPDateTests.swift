import Bytes
import Encoding
import Testing

@testable import HTTP

@Suite struct HTTPDateTests {
  @Test func datesChangeWithTheSecond() {
    var date = HTTPDate()
    date.update(Timestamp(seconds: 784_111_777))
    let first = date.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    #expect(first == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
    date.update(Timestamp(seconds: 784_111_778))
    #expect(date.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
  }
}
