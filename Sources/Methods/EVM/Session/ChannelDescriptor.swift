import Bytes
import Encoding
import Ethereum

/// What a channel's id is derived from, and so all that calling its escrow needs.
public struct ChannelDescriptor: Sendable, Hashable {
  /// Who deposits.
  public let payer: Address
  /// Who is paid.
  public let payee: Address
  /// Who else may act for the payee (Tempo's v2); zero for nobody.
  public let `operator`: Address
  /// The token.
  public let token: Address
  /// What the payer drew.
  public let salt: Digest32
  /// Who signs vouchers; zero for the payer.
  public let authorizedSigner: Address
  /// What names the transaction that opened the channel (Tempo's v2); zeros elsewhere.
  public let expiringNonceHash: Digest32
  /// The seconds that a withdrawal of the payer's waits (batch-settlement); zero elsewhere, where the escrow says it.
  public let withdrawDelay: UInt64

  /// Takes the members.
  public init(
    payer: Address, payee: Address, operator: Address = .zero, token: Address, salt: Digest32, authorizedSigner: Address = .zero,
    expiringNonceHash: Digest32 = Digest32(), withdrawDelay: UInt64 = 0
  ) {
    self.payer = payer
    self.payee = payee
    self.operator = `operator`
    self.token = token
    self.salt = salt
    self.authorizedSigner = authorizedSigner
    self.expiringNonceHash = expiringNonceHash
    self.withdrawDelay = withdrawDelay
  }

  /// Who signs vouchers: the authorized signer, or the payer where there is none.
  public var signer: Address { authorizedSigner.isZero ? payer : authorizedSigner }

  /// Derives the channel's id as its escrow does (drafts, "Channel State").
  public func id(in escrow: SessionEscrow) -> Digest32 {
    switch escrow.rules {
    case .evm, .tempoV1:
      ChannelEscrow.channelID(
        payer: payer, payee: payee, token: token, salt: salt, authorizedSigner: authorizedSigner, escrow: escrow.address,
        chainID: escrow.chain)
    case .tempoV2: reserve.channelID(escrow: escrow.address, chainID: escrow.chain)
    // A delay that does not fit is none that a channel can have.
    case .batch: config?.channelID(in: escrow.domain) ?? Digest32()
    }
  }

  /// As calls of Tempo's v2 take it.
  var reserve: ChannelReserve.Descriptor {
    ChannelReserve.Descriptor(
      payer: payer, payee: payee, operator: `operator`, token: token, salt: salt, authorizedSigner: authorizedSigner,
      expiringNonceHash: expiringNonceHash)
  }

  /// Reads the member `descriptor`; what only Tempo's v2 knows is required there alone.
  ///
  /// - Throws: `missing`, `malformed`.
  init(_ members: ChainMembers, rules: ChannelProtocol) throws(ChainChargeError) {
    let isReserve = rules == .tempoV2
    self.init(
      payer: try members.address(.payer), payee: try members.address(.payee),
      operator: isReserve ? try members.address(.operator) : .zero, token: try members.address(.token),
      salt: try members.word(.salt), authorizedSigner: try members.address(.authorizedSigner),
      expiringNonceHash: isReserve ? try members.word(.expiringNonceHash) : Digest32())
  }

  /// The member `descriptor`.
  func object(rules: ChannelProtocol) -> JSONObject {
    var object: JSONObject = [
      "payer": .string(payer.lowercase), "payee": .string(payee.lowercase), "token": .string(token.lowercase),
      "salt": .string(HexData.text(salt)), "authorizedSigner": .string(authorizedSigner.lowercase),
    ]
    if rules == .tempoV2 {
      object.set("operator", .string(`operator`.lowercase))
      object.set("expiringNonceHash", .string(HexData.text(expiringNonceHash)))
    }
    return object
  }
}
