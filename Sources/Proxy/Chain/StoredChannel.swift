import Bytes
import Ethereum
import Methods

/// A channel with its escrow as the ledger keeps it, to which it is octets and no more.
struct StoredChannel: Sendable, Hashable {
  let escrow: SessionEscrow
  let channel: ChannelDescriptor

  private static let version: UInt8 = 1
  /// Version, rules, chain, six addresses and two words.
  private static let octetCount = 2 + 8 + 6 * 20 + 2 * 32
  /// Behind them, of batch-settlement alone, the delay of withdrawals.
  private static let delayCount = 8

  init(escrow: SessionEscrow, channel: ChannelDescriptor) {
    self.escrow = escrow
    self.channel = channel
  }

  /// Reads what the ledger kept; nil where no version of this program wrote it.
  init?(_ octets: [UInt8]) {
    guard octets.count >= Self.octetCount, octets[0] == Self.version, let rules = Self.rules(octets[1]),
      octets.count == Self.octetCount + (rules == .batch ? Self.delayCount : 0)
    else { return nil }
    let chain = octets[2..<10].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    var next = 10
    func address() -> Address? {
      defer { next += 20 }
      return Address(bytes: octets[next..<next + 20])
    }
    func word() -> Digest32? {
      defer { next += 32 }
      return Digest32(bytes: octets[next..<next + 32])
    }
    guard let contract = address(), let payer = address(), let payee = address(), let agent = address(), let token = address(),
      let signer = address(), let salt = word(), let hash = word()
    else { return nil }
    escrow = SessionEscrow(rules: rules, chain: chain, address: contract)
    channel = ChannelDescriptor(
      payer: payer, payee: payee, operator: agent, token: token, salt: salt, authorizedSigner: signer, expiringNonceHash: hash,
      withdrawDelay: octets[Self.octetCount...].reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
  }

  /// What the ledger keeps.
  var octets: [UInt8] {
    var octets = [Self.version, Self.number(escrow.rules)]
    octets.reserveCapacity(Self.octetCount)
    withUnsafeBytes(of: escrow.chain.bigEndian) { octets.append(contentsOf: $0) }
    for address in [escrow.address, channel.payer, channel.payee, channel.operator, channel.token, channel.authorizedSigner] {
      octets.append(contentsOf: address.bytes)
    }
    octets.append(contentsOf: channel.salt.bytes)
    octets.append(contentsOf: channel.expiringNonceHash.bytes)
    if escrow.rules == .batch { withUnsafeBytes(of: channel.withdrawDelay.bigEndian) { octets.append(contentsOf: $0) } }
    return octets
  }

  private static func number(_ rules: ChannelProtocol) -> UInt8 {
    switch rules {
    case .evm: 1
    case .tempoV1: 2
    case .tempoV2: 3
    case .batch: 4
    }
  }

  private static func rules(_ number: UInt8) -> ChannelProtocol? { ChannelProtocol.allCases.first { Self.number($0) == number } }
}
