import Bytes
import Encoding
import Ethereum
import Methods
import Payments
import Testing

@Suite struct ChannelDepositTests {
  private typealias Fixture = SessionFixture

  private func payload(_ text: String, _ changes: [(String, JSONValue?)]) throws -> ChannelOpening {
    guard case .open(let opening) = try ChannelPayload(parsing: try altered(text, changes), rules: .evm) else {
      throw ChannelError.transactionMismatch
    }
    return opening
  }

  /// Changes members, of `authorization` where the name says so.
  private func altered(_ text: String, _ changes: [(String, JSONValue?)]) throws -> JSONObject {
    var object = try Fixture.json(text)
    for (name, value) in changes {
      let parts = name.split(separator: ".").map(String.init)
      if parts.count == 1 {
        object[name] = value
      } else {
        var inner = try #require(object[parts[0]]?.objectValue)
        if parts.count == 3 {
          var third = try #require(inner[parts[1]]?.objectValue)
          third[parts[2]] = value
          inner.set(parts[1], .object(third))
        } else {
          inner[parts[1]] = value
        }
        object.set(parts[0], .object(inner))
      }
    }
    return object
  }

  private func transfer(_ amount: UInt128) -> ExpectedTransfer {
    ExpectedTransfer(token: Fixture.token.address, from: Fixture.channel.payer, to: Fixture.escrow.address, amount: amount)
  }

  // MARK: opening

  @Test func openByAuthorization() throws {
    let checked = try Fixture.check(try Fixture.opening(Fixture.openByAuthorization))
    #expect(checked.channel == Fixture.channel)
    #expect(checked.channelID == Fixture.digest(sessionChannel))
    #expect(checked.deposit == 10_000_000)
    #expect(checked.voucher.cumulativeAmount == 250_000)
    #expect(checked.question == nil)
    #expect(checked.transaction.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionOpenByAuthorization)))
    #expect(checked.transaction.transfers == [transfer(10_000_000)])
    #expect(checked.transaction.expires == Timestamp(seconds: 1_900_000_000))
    #expect(
      checked.transaction.id
        == ChainCharge.id(
          chain: sessionChain, contract: Fixture.token.address, payer: Fixture.channel.payer,
          nonce: Fixture.digest(sessionOpenNonce)))
  }

  @Test func openByPermit() throws {
    let checked = try Fixture.check(try Fixture.opening(Fixture.openByPermit))
    #expect(checked.channel == Fixture.channel)
    #expect(checked.transaction.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionOpenByPermit)))
    #expect(checked.transaction.transfers == [transfer(10_000_000)])
    #expect(
      checked.transaction.id
        == ChainCharge.id(
          chain: sessionChain, contract: Permit2.address, payer: Fixture.channel.payer, nonce: Word256(UInt64(7)).octets))
  }

  @Test func openByHash() throws {
    let opening = try Fixture.opening(Fixture.openByHash)
    let checked = try Fixture.check(opening, source: Fixture.source)
    #expect(checked.channel == Fixture.channel)
    #expect(checked.deposit == nil)
    #expect(
      checked.transaction.means
        == .hash(Fixture.digest("0x9f8e7d6c5b4a39281700abcdef1234567890abcdef1234567890abcdef123456")))
    #expect(checked.transaction.transfers.isEmpty)
    #expect(throws: ChannelError.sourceMissing) { _ = try Fixture.check(opening) }
    // Whoever else says that he opened it names another channel.
    #expect(throws: ChannelError.channelMismatch) {
      _ = try Fixture.check(opening, source: "did:pkh:eip155:8453:\(sessionSigner)")
    }
  }

  /// A voucher whose `deposit` opens its channel is an opening with that voucher.
  @Test func mergedOpen() throws {
    let text =
      #"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"250000","signature":"\#(sessionVoucher)","deposit":{"action":"open","type":"permit2","authorization":{"from":"\#(sessionPayer)","permitted":{"token":"\#(sessionToken)","amount":"10000000"},"nonce":"7","deadline":"1900000000","witness":{"payee":"\#(sessionPayee)","salt":"\#(sessionSalt)","authorizedSigner":"\#(sessionSigner)"}},"signature":"\#(sessionOpenPermit)","salt":"\#(sessionSalt)","authorizedSigner":"\#(sessionSigner)"}}"#
    #expect(try Fixture.opening(text) == Fixture.opening(Fixture.openByPermit))
  }

  @Test(arguments: [
    ([("authorization.to", JSONValue.string(sessionPayee))], ChannelError.payment(.recipientMismatch(.authorization))),
    ([("authorization.value", "0")], .depositZero),
    ([("authorization.value", "10000001")], .payment(.signatureMismatch(.authorization))),
    ([("authorization.nonce", .string(sessionTopUpNonce))], .nonceMismatch),
    ([("authorization.validBefore", "1899999005")], .payment(.expired(.authorization))),
    ([("authorization.validAfter", "1899999001")], .payment(.notYetValid(.authorization))),
    ([("authorization.validBefore", "1900085401")], .payment(.validTooLong(.authorization))),
    ([("authorization.from", .string(sessionSigner))], .channelMismatch),
    ([("salt", .string(sessionTopUpSalt))], .channelMismatch),
    ([("authorizedSigner", nil)], .channelMismatch),
    ([("channelId", .string(sessionSalt))], .channelMismatch),
    ([("signature", .string(sessionTopUpSignature))], .payment(.signatureMismatch(.authorization))),
    ([("voucherSignature", .string(sessionOpenSignature))], .signerMismatch),
    ([("cumulativeAmount", "250001")], .signerMismatch),
    ([("cumulativeAmount", "10000001")], .amountExceedsDeposit),
    ([("type", "permit2")], .payment(.missing(.permitted))),
    ([("type", "hash")], .payment(.missing(.hash))),
    ([("type", "cash")], .payment(.unknownType)),
    ([("salt", nil)], .payment(.missing(.salt))),
    ([("authorization", nil)], .payment(.missing(.authorization))),
    ([("voucherSignature", nil)], .payment(.missing(.voucherSignature))),
    ([("cumulativeAmount", "340282366920938463463374607431768211456")], .payment(.overflow(.cumulativeAmount))),
    ([("cumulativeAmount", "01")], .payment(.malformed(.cumulativeAmount))),
    ([("action", "pay")], .payment(.unknownType)),
  ] as [([(String, JSONValue?)], ChannelError)])
  func brokenAuthorizations(changes: [(String, JSONValue?)], error: ChannelError) throws {
    #expect(throws: error) {
      let opening: ChannelOpening
      do { opening = try payload(Fixture.openByAuthorization, changes) } catch let error as ChainChargeError {
        throw ChannelError.payment(error)
      }
      _ = try Fixture.check(opening)
    }
  }

  @Test(arguments: [
    ([("authorization.permitted.token", JSONValue.string(sessionPayee))], ChannelError.payment(.tokenMismatch(.permit2))),
    ([("authorization.permitted.amount", "0")], .depositZero),
    ([("authorization.permitted.amount", "10000001")], .payment(.signatureMismatch(.permit2))),
    ([("authorization.nonce", "8")], .payment(.signatureMismatch(.permit2))),
    ([("authorization.deadline", "1899999005")], .payment(.expired(.permit2))),
    ([("authorization.witness.payee", .string(sessionToken))], .witnessMismatch),
    ([("authorization.witness.salt", .string(sessionTopUpSalt))], .witnessMismatch),
    ([("authorization.witness.authorizedSigner", .string(sessionPayer))], .witnessMismatch),
    ([("authorization.witness.channelId", .string(sessionChannel))], .witnessMismatch),
    ([("authorization.from", .string(sessionSigner))], .channelMismatch),
  ] as [([(String, JSONValue?)], ChannelError)])
  func brokenPermits(changes: [(String, JSONValue?)], error: ChannelError) throws {
    let opening = try payload(Fixture.openByPermit, changes)
    #expect(throws: error) { _ = try Fixture.check(opening) }
  }

  @Test func offersBind() throws {
    let opening = try Fixture.opening(Fixture.openByAuthorization)
    let permit = try Fixture.opening(Fixture.openByPermit)
    #expect(throws: ChannelError.payment(.typeNotOffered(.authorization))) {
      _ = try Fixture.check(opening, Fixture.offer([.permit2]))
    }
    // An offer that names no types takes what the payer sends himself.
    #expect(throws: ChannelError.payment(.typeNotOffered(.authorization))) { _ = try Fixture.check(opening, Fixture.offer(nil)) }
    #expect(throws: ChannelError.depositBelowMinimum(10_000_001)) {
      _ = try Fixture.check(opening, Fixture.offer(minimumDeposit: 10_000_001))
    }
    let elsewhere = SessionEscrow(rules: .evm, chain: sessionChain, address: Fixture.address(sessionPayee))
    #expect(throws: ChannelError.escrowMismatch) { _ = try Fixture.check(opening, escrow: elsewhere) }
    let otherChain = SessionEscrow(rules: .evm, chain: 1, address: Fixture.escrow.address)
    #expect(throws: ChannelError.payment(.chainMismatch)) { _ = try Fixture.check(opening, escrow: otherChain) }
    let otherRules = SessionEscrow(rules: .tempoV1, chain: sessionChain, address: Fixture.escrow.address)
    #expect(throws: ChannelError.protocolMismatch) { _ = try Fixture.check(opening, escrow: otherRules) }
    func token(_ eip3009: Bool, _ permit2: Bool, at address: Address = Fixture.token.address) -> ChainToken {
      ChainToken(
        chain: sessionChain, address: address, currency: Fixture.token.currency, name: "USD Coin", version: "2",
        supportsEIP3009: eip3009, supportsPermit2: permit2)
    }
    #expect(throws: ChannelError.payment(.tokenWithoutEIP3009)) { _ = try Fixture.check(opening, token: token(false, true)) }
    #expect(throws: ChannelError.payment(.tokenWithoutPermit2)) { _ = try Fixture.check(permit, token: token(true, false)) }
    #expect(throws: ChannelError.payment(.tokenMismatch(.authorization))) {
      _ = try Fixture.check(opening, token: token(true, true, at: Fixture.escrow.address))
    }
    var offer = Fixture.offer()
    var details = offer.details
    details.permit2 = Fixture.address(sessionPayee)
    offer = ChannelSession(
      rules: .evm, amount: 1, unitType: nil, currency: offer.currency, recipient: offer.recipient, details: details)
    #expect(throws: ChannelError.payment(.spenderMismatch)) { _ = try Fixture.check(permit, offer) }
  }

  @Test func sources() throws {
    let opening = try Fixture.opening(Fixture.openByAuthorization)
    #expect(try Fixture.check(opening, source: Fixture.source).channel == Fixture.channel)
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try Fixture.check(opening, source: "did:pkh:eip155:8453:\(sessionSigner)")
    }
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try Fixture.check(opening, source: "did:pkh:eip155:1:\(sessionPayer)")
    }
    #expect(throws: ChannelError.payment(.malformedSource)) { _ = try Fixture.check(opening, source: sessionPayer) }
  }

  /// A challenge's end is no reason to refuse an authorization that lies far ahead.
  @Test func authorizationsMayLastAsLongAsTheChallenge() throws {
    let opening = try payload(Fixture.openByAuthorization, [("authorization.validBefore", "1900085401")])
    #expect(throws: ChannelError.payment(.signatureMismatch(.authorization))) {
      _ = try Fixture.offer().check(
        opening, source: nil, token: Fixture.token, escrow: Fixture.escrow, latest: Timestamp(seconds: 1_900_085_401),
        now: Fixture.now)
    }
  }

  /// What a payer signs here is what eth-account signs.
  @Test func paying() throws {
    let offer = Fixture.offer()
    let until = Timestamp(seconds: 1_900_000_000)
    let voucher = Fixture.voucherKey.sign(250_000, by: Fixture.signerKey)
    let channel = offer.channel(
      payer: Fixture.payerKey.address, salt: Fixture.salt, authorizedSigner: Fixture.signerKey.address)
    #expect(channel == Fixture.channel)
    #expect(VoucherKey(channel, escrow: offer.sessionEscrow).channelID == Fixture.voucherKey.channelID)
    let byAuthorization = try offer.openByAuthorization(
      channel, deposit: 10_000_000, voucher: voucher, by: Fixture.payerKey, token: Fixture.token, until: until)
    #expect(byAuthorization == .open(try Fixture.opening(Fixture.openByAuthorization)))
    let byPermit = try offer.openByPermit(
      channel, deposit: 10_000_000, voucher: voucher, by: Fixture.payerKey, token: Fixture.token, nonce: 7, until: until)
    #expect(byPermit == .open(try Fixture.opening(Fixture.openByPermit)))
    let hash = Fixture.digest("0x9f8e7d6c5b4a39281700abcdef1234567890abcdef1234567890abcdef123456")
    #expect(
      try offer.openByHash(channel, voucher: voucher, hash: hash) == .open(try Fixture.opening(Fixture.openByHash)))
    let topUp = try offer.topUpByAuthorization(
      voucher.channelID, additionalDeposit: 5_000_000, salt: Fixture.digest(sessionTopUpSalt), by: Fixture.payerKey,
      token: Fixture.token, until: until)
    #expect(topUp == (try Fixture.topUp(Fixture.topUpByAuthorization)))
    let permit = try offer.topUpByPermit(
      voucher.channelID, additionalDeposit: 5_000_000, by: Fixture.payerKey, token: Fixture.token, nonce: 8, until: until)
    #expect(permit == (try Fixture.topUp(Fixture.topUpByPermit)))
    #expect(offer.source(of: Fixture.payerKey.address) == Fixture.source)
    #expect(throws: ChannelError.payment(.typeNotOffered(.hash))) {
      _ = try Fixture.offer([.permit2]).openByHash(channel, voucher: voucher, hash: hash)
    }
  }

  // MARK: top-ups

  @Test func topUps() throws {
    let byAuthorization = try Fixture.check(try Fixture.topUp(Fixture.topUpByAuthorization))
    #expect(byAuthorization.step == .topUp)
    #expect(byAuthorization.amount == 5_000_000)
    #expect(byAuthorization.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionTopUpByAuthorization)))
    #expect(byAuthorization.transfers == [transfer(5_000_000)])
    let byPermit = try Fixture.check(try Fixture.topUp(Fixture.topUpByPermit))
    #expect(byPermit.means == .call(to: Fixture.escrow.address, data: Fixture.octets(sessionTopUpByPermit)))
    let byHash = ChannelTopUp(
      channelID: Fixture.digest(sessionChannel), additionalDeposit: 5, funding: .hash(Fixture.salt))
    let observed = try Fixture.check(byHash, source: Fixture.source)
    #expect(observed.means == .hash(Fixture.salt))
    #expect(observed.transfers == [transfer(5)])
    #expect(throws: ChannelError.sourceMissing) { _ = try Fixture.check(byHash) }
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try Fixture.check(byHash, source: "did:pkh:eip155:8453:\(sessionSigner)")
    }
    // One transaction may open one channel and add to another.
    #expect(observed.id != ChainCharge.id(chain: sessionChain, transaction: Fixture.salt))
  }

  /// The example of draft-evm-session-00 "Voucher Payload": a deposit merged with a voucher.
  @Test func mergedTopUp() throws {
    let text =
      #"{"action":"voucher","channelId":"\#(sessionChannel)","cumulativeAmount":"250000","signature":"\#(sessionVoucher)","deposit":{"action":"topUp","type":"authorization","salt":"\#(sessionTopUpSalt)","authorization":{"from":"\#(sessionPayer)","to":"\#(sessionEscrow)","value":"5000000","validAfter":"0","validBefore":"1900000000","nonce":"\#(sessionTopUpNonce)"},"signature":"\#(sessionTopUpSignature)"}}"#
    let payload = try ChannelPayload(parsing: try Fixture.json(text), rules: .evm)
    guard case .voucher(let voucher, nil, let topUp?) = payload else { throw ChannelError.transactionMismatch }
    #expect(voucher.cumulativeAmount == 250_000)
    #expect(topUp == (try Fixture.topUp(Fixture.topUpByAuthorization)))
    #expect(try ChannelPayload(parsing: payload.object(rules: .evm), rules: .evm) == payload)
  }

  @Test func brokenTopUps() throws {
    let good = try Fixture.topUp(Fixture.topUpByAuthorization)
    func topUp(_ text: String, _ changes: [(String, JSONValue?)]) throws -> ChannelTopUp {
      guard case .topUp(let topUp) = try ChannelPayload(parsing: try altered(text, changes), rules: .evm) else {
        throw ChannelError.transactionMismatch
      }
      return topUp
    }
    let differing = try topUp(Fixture.topUpByAuthorization, [("additionalDeposit", "5000001")])
    #expect(throws: ChannelError.depositMismatch) { _ = try Fixture.check(differing) }
    let permit = try topUp(Fixture.topUpByPermit, [("additionalDeposit", "5000001")])
    #expect(throws: ChannelError.depositMismatch) { _ = try Fixture.check(permit) }
    let witness = try topUp(Fixture.topUpByPermit, [("authorization.witness.channelId", .string(sessionSalt))])
    #expect(throws: ChannelError.witnessMismatch) { _ = try Fixture.check(witness) }
    let salted = try topUp(Fixture.topUpByAuthorization, [("salt", .string(sessionSalt))])
    #expect(throws: ChannelError.nonceMismatch) { _ = try Fixture.check(salted) }
    let channel = try topUp(Fixture.topUpByAuthorization, [("channelId", .string(sessionSalt))])
    #expect(throws: ChannelError.channelMismatch) { _ = try Fixture.check(channel) }
    #expect(throws: ChannelError.depositTooLarge) { _ = try Fixture.check(good, standing: .max) }
    let zero = ChannelTopUp(channelID: good.channelID, additionalDeposit: 0, funding: good.funding, salt: good.salt)
    #expect(throws: ChannelError.depositZero) { _ = try Fixture.check(zero) }
    #expect(throws: ChannelError.payment(.sourceMismatch)) {
      _ = try Fixture.check(good, source: "did:pkh:eip155:8453:\(sessionSigner)")
    }
    #expect(throws: ChannelError.channelFinalized) {
      _ = try Fixture.offer().check(
        good, source: nil, channel: Fixture.channel, standing: ChannelStanding(deposit: 1, isFinalized: true),
        token: Fixture.token, escrow: Fixture.escrow, latest: Fixture.latest, now: Fixture.now)
    }
  }

  /// Anybody may add to a channel; the nonce binds him, the channel and the amount.
  @Test func othersMayTopUp() throws {
    let topUp = try Fixture.offer().topUpByAuthorization(
      Fixture.digest(sessionChannel), additionalDeposit: 7, salt: Fixture.salt, by: Fixture.signerKey, token: Fixture.token,
      until: Fixture.latest)
    let transaction = try Fixture.check(topUp)
    #expect(transaction.transfers.first?.from == Fixture.signerKey.address)
  }
}
