import Bytes
import Encoding
import Testing

@testable import HTTP

@Suite struct ProblemTests {
  @Test func writesADocument() throws {
    let problem = Problem(
      type: "https://paymentauth.org/problems/payment-required", title: "Payment \"Required\"", status: 402, detail: "a\nb",
      members: [("challengeId", "x"), ("offers", ["a", "b"])])
    #expect(
      String(decoding: problem.body, as: UTF8.self)
        == #"{"type":"https://paymentauth.org/problems/payment-required","title":"Payment \"Required\"","status":402,"detail":"a\nb","challengeId":"x","offers":["a","b"]}"#
    )
    #expect(try JSON.parse(Problem(status: 404).body) == ["type": "about:blank", "title": "Not Found", "status": 404])
  }

  @Test func everyStatusOfAnErrorHasAReason() {
    for form in SmugglingTests.forms { #expect(Status.reason(form.status).utf8CodeUnitCount > 0) }
    var output = ByteBuffer()
    Status.appendLine(599, to: &output)
    #expect(output.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } == "HTTP/1.1 599 \r\n")
  }

  @Test func datesChangeWithTheSecond() {
    var date = HTTPDate()
    date.update(Timestamp(seconds: 784_111_777))
    let first = date.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    #expect(first == "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
    date.update(Timestamp(seconds: 784_111_778))
    #expect(date.withUnsafeBytes { String(decoding: $0, as: UTF8.self) } == "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n")
  }
}
