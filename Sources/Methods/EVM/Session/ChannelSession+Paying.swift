import Bytes
import Encoding
import Ethereum

// What a payer signs for a session over a channel.
extension ChannelSession {
  /// The escrow that the offer names, for vouchers.
  public var sessionEscrow: SessionEscrow { SessionEscrow(rules: rules, chain: details.chainID, address: details.escrow) }

  /// The channel that a payer would open for this offer (method `evm`, and Tempo's v1).
  ///
  /// - Parameters:
  ///   - salt: 256 fresh random bits.
  ///   - authorizedSigner: who signs vouchers; zero for the payer.
  public func channel(payer: Address, salt: Digest32, authorizedSigner: Address = .zero) -> ChannelDescriptor {
    ChannelDescriptor(payer: payer, payee: recipient, token: currency, salt: salt, authorizedSigner: authorizedSigner)
  }

  /// The `source` of a payer's credential: `did:pkh:eip155:`, the chain and the account.
  public func source(of payer: Address) -> String { "did:pkh:eip155:\(details.chainID):\(payer.checksummed)" }

  /// Opens a channel by an authorization of the token.
  ///
  /// - Parameters:
  ///   - deposit: base units.
  ///   - voucher: the first one, of nothing or of what the first request costs.
  ///   - until: when the authorization ends.
  /// - Throws: what keeps the channel from being opened so.
  public func openByAuthorization(
    _ channel: ChannelDescriptor, deposit: UInt128, voucher: SessionVoucher, by key: EthereumKey, token: ChainToken,
    until: Timestamp
  ) throws(ChannelError) -> ChannelPayload {
    let nonce = ChannelEscrow.openNonce(
      from: channel.payer, payee: channel.payee, token: channel.token, salt: channel.salt,
      authorizedSigner: channel.authorizedSigner)
    return opening(
      channel, voucher, try authorization(deposit, nonce: nonce, by: key, token: token, until: until))
  }

  /// Opens a channel by a permit; the token must have been approved for Permit2 once.
  ///
  /// - Parameters:
  ///   - nonce: 256 fresh random bits; each is used once, in whatever order.
  public func openByPermit(
    _ channel: ChannelDescriptor, deposit: UInt128, voucher: SessionVoucher, by key: EthereumKey, token: ChainToken,
    nonce: Word256, until: Timestamp
  ) throws(ChannelError) -> ChannelPayload {
    let witness = EscrowPermit.Witness.open(
      payee: channel.payee, salt: channel.salt, authorizedSigner: channel.authorizedSigner)
    return opening(
      channel, voucher, try permit(deposit, witness, by: key, token: token, nonce: nonce, until: until))
  }

  /// Confirms a channel that the payer opened himself; the credential's `source` must name him.
  public func openByHash(
    _ channel: ChannelDescriptor, voucher: SessionVoucher, hash: Digest32
  ) throws(ChannelError) -> ChannelPayload {
    guard accepts(.hash) else { throw .payment(.typeNotOffered(.hash)) }
    return opening(channel, voucher, .hash(hash))
  }

  /// Adds to a channel by an authorization of the token.
  ///
  /// - Parameters:
  ///   - salt: 256 fresh random bits.
  public func topUpByAuthorization(
    _ channelID: Digest32, additionalDeposit: UInt128, salt: Digest32, by key: EthereumKey, token: ChainToken, until: Timestamp
  ) throws(ChannelError) -> ChannelTopUp {
    let nonce = ChannelEscrow.topUpNonce(
      channelID: channelID, additionalDeposit: additionalDeposit, from: key.address, salt: salt)
    return ChannelTopUp(
      channelID: channelID, additionalDeposit: additionalDeposit,
      funding: try authorization(additionalDeposit, nonce: nonce, by: key, token: token, until: until), salt: salt)
  }

  /// Adds to a channel by a permit.
  public func topUpByPermit(
    _ channelID: Digest32, additionalDeposit: UInt128, by key: EthereumKey, token: ChainToken, nonce: Word256, until: Timestamp
  ) throws(ChannelError) -> ChannelTopUp {
    ChannelTopUp(
      channelID: channelID, additionalDeposit: additionalDeposit,
      funding: try permit(
        additionalDeposit, .topUp(channelID: channelID), by: key, token: token, nonce: nonce, until: until))
  }

  private func opening(
    _ channel: ChannelDescriptor, _ voucher: SessionVoucher, _ funding: ChannelFunding
  ) -> ChannelPayload {
    .open(
      ChannelOpening(
        channelID: voucher.channelID, funding: funding, salt: channel.salt,
        authorizedSigner: channel.authorizedSigner.isZero ? nil : channel.authorizedSigner, voucher: voucher))
  }

  private func authorization(
    _ amount: UInt128, nonce: Digest32, by key: EthereumKey, token: ChainToken, until: Timestamp
  ) throws(ChannelError) -> ChannelFunding {
    guard accepts(.authorization) else { throw .payment(.typeNotOffered(.authorization)) }
    guard token.chain == details.chainID else { throw .payment(.chainMismatch) }
    guard token.address == currency else { throw .payment(.tokenMismatch(.authorization)) }
    guard let domain = token.domain else { throw .payment(.tokenWithoutEIP3009) }
    let authorization = EIP3009.Authorization(
      from: key.address, to: details.escrow, value: Word256(amount), validAfter: .zero,
      validBefore: Word256(UInt64(clamping: until.seconds)), nonce: nonce)
    let signature = key.sign(domain.digest(authorization.structHash(EIP3009.receiveTypeHash)))
    return .authorization(authorization, signature: signature.bytes)
  }

  private func permit(
    _ amount: UInt128, _ witness: EscrowPermit.Witness, by key: EthereumKey, token: ChainToken, nonce: Word256, until: Timestamp
  ) throws(ChannelError) -> ChannelFunding {
    guard accepts(.permit2) else { throw .payment(.typeNotOffered(.permit2)) }
    guard token.chain == details.chainID else { throw .payment(.chainMismatch) }
    guard token.address == currency else { throw .payment(.tokenMismatch(.permit2)) }
    // Another contract than the one that was allowed once could do with the signature what it likes.
    guard token.supportsPermit2, token.permit2 == details.permit2 ?? Permit2.address else {
      throw .payment(.tokenWithoutPermit2)
    }
    let permit = EscrowPermit(
      from: key.address, token: currency, amount: amount, nonce: nonce,
      deadline: Word256(UInt64(clamping: until.seconds)), witness: witness)
    let digest = permit.digest(escrow: details.escrow, domain: token.permit2Domain)
    return .permit2(permit, signature: key.sign(digest).bytes)
  }
}
