import Bytes
import Testing

@testable import Proxy

@Suite struct LastLooksTests {
  @Test func aLookCountsWhenALaterBlockRepeatsIt() {
    let looks = LastLooks()
    let (first, second) = (Digest32(), Digest32(bytes: [UInt8](repeating: 1, count: 32)) ?? Digest32())
    #expect(!looks.isRepeated(first, at: 7) && !looks.isRepeated(first, at: 7) && !looks.isRepeated(first, at: 6))
    #expect(!looks.isRepeated(second, at: 8) && looks.isRepeated(first, at: 8))
    // It is over then, and what was found otherwise in between begins anew.
    #expect(!looks.isRepeated(first, at: 9))
    looks.forget(second)
    #expect(!looks.isRepeated(second, at: 9) && looks.isRepeated(second, at: 10))
  }
}
