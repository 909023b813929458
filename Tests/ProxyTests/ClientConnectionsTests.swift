import HTTP
import Testing

@testable import Proxy

@Suite struct ClientConnectionsTests {
  @Test func eachClientHasItsLimit() throws {
    let clients = ClientConnections(limit: 3)
    let one = ClientAddress(ipv4: 1)
    let other = ClientAddress(ipv4: 2)
    for _ in 0..<3 { #expect(clients.enter(one)) }
    #expect(!clients.enter(one))
    for _ in 0..<3 { #expect(clients.enter(other)) }
    clients.leave(one)
    #expect(!clients.enter(other))
    #expect(clients.enter(one))
    #expect(!clients.enter(one))
    for _ in 0..<3 { clients.leave(one) }
    for _ in 0..<3 { #expect(clients.enter(one)) }
  }

  @Test func anIPv6CustomerCountsAsOne() throws {
    let clients = ClientConnections(limit: 3)
    for last in 1...3 { #expect(clients.enter(try #require(ClientAddress("2001:db8::\(last)")))) }
    #expect(!clients.enter(try #require(ClientAddress("2001:db8::ffff:9"))))
    #expect(clients.enter(try #require(ClientAddress("2001:db8:0:1::9"))))
    clients.leave(try #require(ClientAddress("2001:db8::ffff:9")))
    #expect(clients.enter(try #require(ClientAddress("2001:db8::1"))))
  }
}
