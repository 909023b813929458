import Bytes
import Crypto
import Encoding
import Methods
import Testing

private let id = SessionSecret(octets: [UInt8](repeating: 0, count: 32))!.id

@Suite struct SessionAnswerTests {
  @Test func statusReadsBack() throws {
    let status = SessionStatus(phase: .closing, deposit: 10, spent: 4, held: 3, remaining: 6, required: 2)
    #expect(try SessionStatus(parsing: status.object) == status)
    #expect(
      String(decoding: JCS.serialize(.object(status.object)), as: UTF8.self)
        == #"{"deposit":"10","held":"3","remaining":"6","required":"2","spent":"4","state":"closing"}"#)
    for member in status.object.members {
      var without = status.object
      without.remove(member.name)
      #expect(throws: PrepaidError.self) { _ = try SessionStatus(parsing: without) }
    }
  }

  @Test func closedReadsBack() throws {
    let closed = SessionClosed(spent: 4, refunded: 6)
    #expect(try SessionClosed(parsing: closed.object) == closed)
    #expect(throws: PrepaidError.invalid(.status)) {
      _ = try SessionClosed(parsing: ["status": "ok", "spent": "1", "refunded": "1"])
    }
  }

  @Test func eventsAreWholeEvents() {
    let events: [(SessionEvent, String)] = [
      (
        .needTopUp(session: id, spent: 300, required: 2),
        "event: payment-need-topup\ndata: {\"balanceRequired\":\"2\",\"balanceSpent\":\"300\",\"sessionId\":\"\(id.hex)\"}\n\n"
      ),
      (
        .timeout(session: id, spent: 300, required: 2),
        "event: session-timeout\ndata: {\"balanceRequired\":\"2\",\"balanceSpent\":\"300\",\"sessionId\":\"\(id.hex)\"}\n\n"
      ),
      (.receipt(encoded: Array("abc".utf8)), "event: payment-receipt\ndata: abc\n\n"),
    ]
    for (event, text) in events { #expect(String(decoding: event.octets, as: UTF8.self) == text) }
  }
}
