import HTTP
import Testing

@testable import Proxy

@Suite struct CollectedContentTests {
  private let first = ClientAddress(ipv4: 1)
  private let second = ClientAddress(ipv4: 2)

  @Test func aClientsRequestsShareALimit() {
    var content = CollectedContent()
    #expect(content.keep(60, of: first, own: 0, clientLimit: 100) == .kept)
    #expect(content.keep(40, of: first, own: 0, clientLimit: 100) == .kept)
    #expect(content.keep(1, of: first, own: 40, clientLimit: 100) == .clientFull)
    #expect(content.keep(1, of: second, own: 0, clientLimit: 100) == .kept)
    content.release(60, of: first)
    #expect(content.keep(60, of: first, own: 40, clientLimit: 100) == .kept)
    #expect(content.count == 101)
  }

  @Test func oneRequestAloneMayBeLonger() {
    var content = CollectedContent()
    #expect(content.keep(80, of: first, own: 0, clientLimit: 100) == .kept)
    #expect(content.keep(80, of: first, own: 80, clientLimit: 100) == .kept)
    #expect(content.keep(1, of: first, own: 0, clientLimit: 100) == .clientFull)
    content.release(160, of: first)
    #expect(content.count == 0)
    #expect(content.keep(80, of: first, own: 0, clientLimit: 0) == .kept)
  }

  @Test func anIPv6CustomerIsOneClient() throws {
    var content = CollectedContent()
    #expect(content.keep(80, of: try #require(ClientAddress("2001:db8::1")), own: 0, clientLimit: 100) == .kept)
    #expect(content.keep(80, of: try #require(ClientAddress("2001:db8::2")), own: 0, clientLimit: 100) == .clientFull)
  }

  @Test func allShareWhatAWorkerHas() {
    var content = CollectedContent()
    for number in 0..<8 {
      #expect(content.keep(8 << 20, of: ClientAddress(ipv4: UInt32(number) + 1), own: 0, clientLimit: 8 << 20) == .kept)
    }
    #expect(content.keep(1, of: ClientAddress(ipv4: 99), own: 0, clientLimit: 8 << 20) == .full)
    #expect(content.keep(1, of: .none, own: 0, clientLimit: 8 << 20) == .full)
    content.change(from: 8 << 20, to: 10, of: ClientAddress(ipv4: 1))
    #expect(content.keep(1, of: .none, own: 0, clientLimit: 0) == .kept)
    #expect(content.count == 7 * (8 << 20) + 11)
    content.release(10, of: ClientAddress(ipv4: 1))
    #expect(content.keep(8 << 20, of: ClientAddress(ipv4: 1), own: 0, clientLimit: 1) == .full)
  }
}
