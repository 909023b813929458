import Bytes
import Testing

@testable import Proxy

@Suite struct EventPassageTests {
  /// Behind a cut event stand the rest of it and many short ones: a walk back from the end, event by event, takes thousands of millions of steps.
  @Test func theEventBehindACutIsFoundWithoutLookingAtAllOthers() {
    var passage = EventPassage()
    var held = ByteBuffer()
    let cut = Array("data: a long".utf8)
    let rest = [UInt8](repeating: 0x78, count: 300_000) + [UInt8](repeating: 0x0A, count: 300_000)
    cut.withUnsafeBytes { passage.take($0, into: &held) }
    cut.withUnsafeBytes { passage.deliver(cut.count, of: $0) }
    #expect(!passage.isBetweenEvents)
    rest.withUnsafeBytes { octets in
      #expect(passage.firstEvent(in: octets) == 300_002)
      passage.deliver(300_002, of: UnsafeRawBufferPointer(rebasing: octets[..<300_002]))
    }
    #expect(passage.isBetweenEvents)
  }

  @Test func theEventBehindACutIsTheFirst() {
    for ends in ["\n\n", "\r\n\r\n", "\r\r"] {
      var passage = EventPassage()
      var held = ByteBuffer()
      Array("data: x".utf8).withUnsafeBytes { passage.take($0, into: &held) }
      Array("data: x".utf8).withUnsafeBytes { passage.deliver($0.count, of: $0) }
      Array(("yz" + ends + "data: a" + ends + "data: b" + ends).utf8).withUnsafeBytes {
        #expect(passage.firstEvent(in: $0) == 2 + ends.utf8.count)
      }
    }
  }
}
