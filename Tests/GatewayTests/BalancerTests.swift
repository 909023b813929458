import Gateway
import Testing

private func picks(_ balancer: inout Balancer, _ count: Int, among usable: ServerSet, key: UInt64 = 0) -> [Int] {
  (0..<count).map { _ in balancer.choose(among: usable, key: key) ?? -1 }
}

private func counts(_ picks: [Int], _ servers: Int) -> [Int] { (0..<servers).map { server in picks.count { $0 == server } } }

@Suite struct BalancerTests {
  @Test func setsHoldSixtyFourServers() {
    #expect(ServerSet(first: 64).count == 64 && ServerSet(first: 0).isEmpty && ServerSet(first: 3).rawValue == 7)
    #expect(ServerSet(server: 63).has(63) && !ServerSet(server: 63).has(0) && ServerSet(server: 63).first == 63)
    var set = ServerSet(rawValue: 0b1010)
    #expect(set.popFirst() == 1 && set.popFirst() == 3 && set.popFirst() == nil)
  }

  @Test func roundRobinSpreadsByWeightAndSmoothly() {
    var balancer = Balancer(policy: .roundRobin, weights: [5, 1, 1])
    let all = ServerSet(first: 3)
    // The order in which weights 5, 1, 1 come out smoothly.
    #expect(picks(&balancer, 7, among: all) == [0, 0, 1, 0, 2, 0, 0])
    #expect(counts(picks(&balancer, 700, among: all), 3) == [500, 100, 100])
    // The one that is left takes all, and turns go on when the others return.
    #expect(picks(&balancer, 5, among: ServerSet(server: 2)) == [2, 2, 2, 2, 2])
    #expect(counts(picks(&balancer, 70, among: all), 3) == [50, 10, 10])
  }

  @Test func seedsBeginAtDifferentServers() {
    let first = (0..<3 as Range<UInt64>).map { seed -> Int in
      var balancer = Balancer(policy: .roundRobin, weights: [1, 1, 1], seed: seed)
      return balancer.choose(among: ServerSet(first: 3), key: 0) ?? -1
    }
    #expect(first == [0, 1, 2])
  }

  @Test(arguments: [Balancer.Policy.roundRobin, .leastConnections, .hash])
  func choosesNothingWhereNothingIs(policy: Balancer.Policy) {
    var balancer = Balancer(policy: policy, weights: [1, 0])
    #expect(balancer.choose(among: [], key: 1) == nil)
    #expect(balancer.choose(among: ServerSet(server: 1), key: 1) == nil)
    #expect(balancer.choose(among: ServerSet(first: 64), key: 1) == 0)
    #expect(picks(&balancer, 20, among: ServerSet(first: 2), key: 7).allSatisfy { $0 == 0 })
  }

  @Test func leastConnectionsEvensOutByWeight() {
    var balancer = Balancer(policy: .leastConnections, weights: [3, 1])
    let all = ServerSet(first: 2)
    for _ in 0..<8 {
      let server = balancer.choose(among: all, key: 0) ?? -1
      balancer.began(server)
    }
    #expect(balancer.inFlight(0) == 6 && balancer.inFlight(1) == 2)
    // The first one gets free and takes what comes.
    for _ in 0..<6 { balancer.ended(0) }
    for _ in 0..<3 {
      #expect(balancer.choose(among: all, key: 0) == 0)
      balancer.began(0)
    }
  }

  @Test func leastConnectionsTakesTurnsAmongEquals() {
    var balancer = Balancer(policy: .leastConnections, weights: [1, 1, 1])
    #expect(counts(picks(&balancer, 300, among: ServerSet(first: 3)), 3) == [100, 100, 100])
  }

  @Test func hashKeepsAKeyAtItsServer() {
    var first = Balancer(policy: .hash, weights: [1, 1, 1], seed: 1)
    var second = Balancer(policy: .hash, weights: [1, 1, 1], seed: 2)
    for key in 0..<1000 as Range<UInt64> {
      let server = first.choose(among: ServerSet(first: 3), key: key)
      #expect(first.choose(among: ServerSet(first: 3), key: key) == server)
      #expect(second.choose(among: ServerSet(first: 3), key: key) == server)
    }
  }

  @Test func hashMovesOnlyTheKeysOfTheServerThatLeaves() {
    var balancer = Balancer(policy: .hash, weights: [1, 2, 1, 4])
    let all = ServerSet(first: 4)
    for leaving in 0..<4 {
      let rest = all.subtracting(ServerSet(server: leaving))
      for key in 0..<2000 as Range<UInt64> {
        let before = balancer.choose(among: all, key: key)
        let after = balancer.choose(among: rest, key: key)
        if before == leaving { #expect(after != leaving) } else { #expect(after == before) }
      }
    }
  }

  @Test func hashKnowsServersByTheirIdentities() {
    let identities: [UInt64] = [11, 22, 33]
    let weights = [1, 2, 1]
    var balancer = Balancer(policy: .hash, weights: weights, identities: identities)
    for (order, count) in [([2, 0, 1], 3), ([1, 2], 2), ([0, 2], 2), ([0], 1)] as [([Int], Int)] {
      // Another configuration, or another proxy, that has them elsewhere or has fewer of them.
      var other = Balancer(policy: .hash, weights: order.map { weights[$0] }, identities: order.map { identities[$0] })
      for key in 0..<2000 as Range<UInt64> {
        let before = balancer.choose(among: ServerSet(first: 3), key: key) ?? -1
        let after = other.choose(among: ServerSet(first: count), key: key).map { order[$0] } ?? -1
        if order.contains(before) { #expect(after == before) } else { #expect(order.contains(after)) }
      }
    }
  }

  @Test(arguments: [[1, 1], [1, 1, 1, 1, 1], [1, 2, 3, 4], [256, 1, 128], [10, 10, 0, 20]])
  func hashSpreadsKeysByWeight(weights: [Int]) {
    var balancer = Balancer(policy: .hash, weights: weights)
    let total = 40_000
    let found = counts((0..<total).map { balancer.choose(among: ServerSet(first: weights.count), key: UInt64($0)) ?? -1 }, weights.count)
    let sum = weights.reduce(0, +)
    for (server, weight) in weights.enumerated() {
      let expected = total * weight / sum
      // Three in a hundred for the logarithm, and what chance does among so few.
      #expect(abs(found[server] - expected) <= expected * 3 / 100 + 300, "\(found) for \(weights)")
    }
  }

  @Test func keysDependOnEveryOctet() {
    var seen: Set<UInt64> = []
    let octets = Array("session-0123456789abcdef-tail".utf8)
    for count in 0...octets.count {
      var part = Array(octets[..<count])
      seen.insert(part.withUnsafeBytes { BalanceKey.hash($0) })
      for index in part.indices {
        part[index] ^= 1
        seen.insert(part.withUnsafeBytes { BalanceKey.hash($0) })
        part[index] ^= 1
      }
    }
    #expect(seen.count == octets.count * (octets.count + 1) / 2 + octets.count + 1)
    #expect(BalanceKey.hash(1, 2) != BalanceKey.hash(2, 1))
  }
}
