import Bytes
import Testing

@testable import HTTP

@Suite struct StatusTests {
  @Test func everyStatusOfAnErrorHasAReason() {
    for form in SmugglingTests.forms { #expect(Status.reason(form.status).utf8CodeUnitCount > 0) }
    var output = ByteBuffer()
    Status.appendLine(599, to: &output)
    #expect(output.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } == "HTTP/1.1 599 \r\n")
  }
}
