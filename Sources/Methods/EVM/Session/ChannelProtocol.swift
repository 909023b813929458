import Bytes
import Ethereum

/// Names the kinds of payment channels that sessions run over, which differ in little but their escrow.
public enum ChannelProtocol: Sendable, Hashable, CaseIterable {
  /// The escrow contract of draft-evm-session-00.
  case evm
  /// The escrow contract of draft-tempo-session-00, `sessionProtocol` "v1".
  case tempoV1
  /// The escrow in Tempo's chain itself, draft-tempo-session-00, `sessionProtocol` "v2".
  case tempoV2
  /// The contract of x402's scheme batch-settlement, whose channels no session of MPP's uses.
  case batch

  /// The payment method whose sessions these are.
  public var method: String {
    switch self {
    case .evm: "evm"
    case .tempoV1, .tempoV2: "tempo"
    case .batch: "x402"
    }
  }

  /// The intent of all of them.
  public static let intent = "session"

  /// The value of `methodDetails.sessionProtocol`; nil where there is no such member.
  var sessionProtocol: String? {
    switch self {
    case .evm, .batch: nil
    case .tempoV1: "v1"
    case .tempoV2: "v2"
    }
  }

  /// The greatest deposit and voucher, in base units.
  public var amountLimit: UInt128 {
    switch self {
    case .evm, .tempoV1, .batch: .max
    case .tempoV2: ChannelReserve.maximumAmount
    }
  }

  /// The hash of a voucher's type.
  var voucherTypeHash: Digest32 {
    switch self {
    case .evm, .tempoV1: ChannelEscrow.voucherTypeHash
    case .tempoV2: ChannelReserve.voucherTypeHash
    case .batch: BatchSettlement.voucherTypeHash
    }
  }

  /// Whether a valid voucher below the highest one is answered like a repeated one, and not refused.
  ///
  /// draft-evm-session-00 "Idempotency" asks for the one, draft-tempo-session-00 "Idempotency" for the other.
  public var takesLowerVouchers: Bool {
    switch self {
    case .evm, .batch: true
    case .tempoV1, .tempoV2: false
    }
  }

  /// Whether a close may take less than its voucher says.
  public var capturesExactly: Bool {
    switch self {
    case .evm, .tempoV1: false
    case .tempoV2, .batch: true
    }
  }

  /// The prepared domain of vouchers.
  func domain(chain: UInt64, escrow: Address) -> TypedData.PreparedDomain {
    switch self {
    case .evm: ChannelEscrow.domain(chainID: chain, escrow: escrow).prepared
    case .tempoV1: ChannelEscrow.domain(name: ChannelEscrow.tempoDomainName, chainID: chain, escrow: escrow).prepared
    case .tempoV2: ChannelReserve.domain(chainID: chain, escrow: escrow).prepared
    case .batch: BatchSettlement.domain(chainID: chain, contract: escrow).prepared
    }
  }
}

/// An escrow as configured, with what checking vouchers needs prepared.
public struct SessionEscrow: Sendable, Hashable {
  /// What kind of channels it holds.
  public let rules: ChannelProtocol
  /// The chain's id (EIP-155).
  public let chain: UInt64
  /// The contract.
  public let address: Address
  let domain: TypedData.PreparedDomain

  /// The shortest time, in seconds, that an escrow may leave between a forced close and its end (draft-evm-session-00 "Forced Close").
  public static let leastGracePeriod: UInt64 = 600

  /// Prepares an escrow.
  public init(rules: ChannelProtocol, chain: UInt64, address: Address) {
    self.rules = rules
    self.chain = chain
    self.address = address
    domain = rules.domain(chain: chain, escrow: address)
  }
}
