import Bytes
import Ethereum
import Methods
import Payments
import Testing

@Suite struct ChannelChainTests {
  private typealias Fixture = SessionFixture

  private func word(_ number: UInt128) -> [UInt8] { Word256(number).octets.bytes }
  private func word(_ address: Address) -> [UInt8] { [UInt8](repeating: 0, count: 12) + address.bytes }

  private func answer(
    payer: Address = Fixture.channel.payer, payee: Address = Fixture.channel.payee, token: Address = Fixture.channel.token,
    signer: Address = Fixture.channel.authorizedSigner, deposit: UInt128 = 1000, settled: UInt128 = 400,
    closeRequestedAt: UInt128 = 0, isFinalized: Bool = false
  ) -> [UInt8] {
    word(payer) + word(payee) + word(token) + word(signer) + word(deposit) + word(settled) + word(closeRequestedAt)
      + word(isFinalized ? 1 : 0)
  }

  private func standing(_ data: [UInt8], _ channel: ChannelDescriptor = Fixture.channel) throws(ChannelError) -> ChannelStanding {
    try ChannelStanding(returned: data, of: channel, rules: .evm)
  }

  @Test func states() throws {
    #expect(try standing(answer()) == ChannelStanding(deposit: 1000, settled: 400))
    #expect(
      try standing(answer(closeRequestedAt: 77, isFinalized: true))
        == ChannelStanding(deposit: 1000, settled: 400, closeRequestedAt: 77, isFinalized: true))
    #expect(throws: ChannelError.channelNotFound) { _ = try standing(answer(payer: .zero)) }
    for data in [
      answer(payer: Fixture.channel.token), answer(payee: Fixture.channel.token), answer(token: Fixture.channel.payee),
      answer(signer: .zero),
    ] {
      #expect(throws: ChannelError.stateMismatch) { _ = try standing(data) }
    }
    for data in [[], [UInt8](answer().dropLast()), answer(deposit: 1, settled: 2)] {
      #expect(throws: ChannelError.malformedState) { _ = try standing(data) }
    }
    // An escrow that stores the payer where there is no other signer says the same.
    let own = ChannelDescriptor(
      payer: Fixture.channel.payer, payee: Fixture.channel.payee, token: Fixture.channel.token, salt: Fixture.salt)
    #expect(try standing(answer(signer: .zero), own) == standing(answer(signer: own.payer), own))
  }

  @Test func statesOfTempo() throws {
    let channel = Fixture.channel
    let words = word(0) + word(77) + word(channel.payer) + word(channel.payee) + word(channel.token) + word(channel.authorizedSigner)
    let data = words + word(1000) + word(400)
    #expect(
      try ChannelStanding(returned: data, of: channel, rules: .tempoV1)
        == ChannelStanding(deposit: 1000, settled: 400, closeRequestedAt: 77))
    #expect(throws: ChannelError.malformedState) { _ = try standing(data) }
    #expect(throws: ChannelError.malformedState) { _ = try ChannelStanding(returned: answer(), of: channel, rules: .tempoV1) }
  }

  @Test func reserveStates() throws {
    func read(_ data: [UInt8]) throws(ChannelError) -> ChannelStanding {
      try ChannelStanding(returned: data, of: Fixture.channel, rules: .tempoV2)
    }
    #expect(try read(word(400) + word(1000) + word(77)) == ChannelStanding(deposit: 1000, settled: 400, closeRequestedAt: 77))
    #expect(throws: ChannelError.channelNotFound) { _ = try read(word(0) + word(0) + word(0)) }
    #expect(throws: ChannelError.malformedState) { _ = try read(word(0) + word(1)) }
    #expect(
      ChannelStanding.question(Fixture.salt, rules: .tempoV2) == ChannelReserve.getChannelState(Fixture.salt))
    #expect(ChannelStanding.question(Fixture.salt, rules: .evm) == ChannelEscrow.getChannel(Fixture.salt))
  }

  @Test func usable() throws {
    try ChannelStanding(deposit: 1000, settled: 400).checkUsable(for: 600)
    #expect(throws: ChannelError.insufficientBalance(1)) {
      try ChannelStanding(deposit: 1000, settled: 400).checkUsable(for: 601)
    }
    #expect(throws: ChannelError.channelFinalized) { try ChannelStanding(deposit: 1, isFinalized: true).checkUsable() }
    #expect(throws: ChannelError.closeRequested) { try ChannelStanding(deposit: 1, closeRequestedAt: 5).checkUsable() }
  }

  @Test func gracePeriods() throws {
    #expect(try SessionEscrow.gracePeriod(returned: word(600)) == 600)
    #expect(throws: ChannelError.gracePeriodTooShort) { _ = try SessionEscrow.gracePeriod(returned: word(599)) }
    #expect(throws: ChannelError.malformedState) { _ = try SessionEscrow.gracePeriod(returned: []) }
    #expect(ChannelStanding(deposit: 1).withdrawable(gracePeriod: 900) == nil)
    #expect(ChannelStanding(deposit: 1, closeRequestedAt: 100).withdrawable(gracePeriod: 900) == 1000)
    #expect(ChannelStanding(deposit: 1, closeRequestedAt: .max).withdrawable(gracePeriod: 900) == .max)
  }

  // MARK: events

  private func log(_ event: ABIEvent, _ data: [UInt8], from address: Address = Fixture.escrow.address) -> Log {
    Log(
      address: address,
      topics: [
        event.topic, Fixture.voucherKey.channelID, Word256(Fixture.channel.payer).octets, Word256(Fixture.channel.payee).octets,
      ], data: data)
  }

  @Test func events() throws {
    let opened = word(Fixture.channel.token) + word(Fixture.channel.authorizedSigner) + Fixture.salt.bytes + word(1000)
    let cases: [(ABIEvent, [UInt8], ChannelEvent.Kind)] = [
      (
        ChannelEscrow.channelOpened, opened,
        .opened(token: Fixture.channel.token, authorizedSigner: Fixture.channel.authorizedSigner, deposit: 1000)
      ),
      (ChannelEscrow.toppedUp, word(5) + word(1005), .toppedUp(additionalDeposit: 5, deposit: 1005)),
      (ChannelEscrow.settled, word(40) + word(30) + word(40), .settled(paid: 30, settled: 40)),
      (ChannelEscrow.closeRequested, word(99), .closeRequested(withdrawable: 99)),
      (ChannelEscrow.closeRequestCancelled, [], .closeRequestCancelled),
      (ChannelEscrow.channelClosed, word(40) + word(960), .closed(toPayee: 40, refunded: 960)),
    ]
    for (event, data, kind) in cases {
      let read = try #require(ChannelEvent(log(event, data), escrow: Fixture.escrow))
      #expect(read.kind == kind)
      #expect(read.channelID == Fixture.voucherKey.channelID)
      #expect(read.payer == Fixture.channel.payer && read.payee == Fixture.channel.payee)
      // Another contract may tell anything.
      #expect(ChannelEvent(log(event, data, from: Fixture.channel.payer), escrow: Fixture.escrow) == nil)
      var removed = log(event, data)
      removed.isRemoved = true
      #expect(ChannelEvent(removed, escrow: Fixture.escrow) == nil)
      if !data.isEmpty { #expect(ChannelEvent(log(event, Array(data.dropLast())), escrow: Fixture.escrow) == nil) }
    }
    #expect(ChannelEvent.topics(.evm) == cases.map(\.0.topic))
    #expect(Set(ChannelEvent.topics(.tempoV2)).count == 6)
  }

  @Test func reserveEvents() throws {
    let escrow = SessionEscrow(rules: .tempoV2, chain: sessionChain, address: Fixture.escrow.address)
    let data =
      word(.zero as Address) + word(Fixture.channel.token) + word(Fixture.channel.authorizedSigner) + Fixture.salt.bytes
      + Fixture.salt.bytes + word(1000)
    let event = try #require(ChannelEvent(log(ChannelReserve.channelOpened, data), escrow: escrow))
    #expect(
      event.kind
        == .opened(token: Fixture.channel.token, authorizedSigner: Fixture.channel.authorizedSigner, deposit: 1000))
    #expect(ChannelEvent(log(ChannelReserve.channelOpened, data), escrow: Fixture.escrow) == nil)
  }

  @Test func stepsAreShown() throws {
    let checked = try Fixture.check(try Fixture.opening(Fixture.openByAuthorization))
    func opened(_ deposit: UInt128, token: Address = Fixture.channel.token) -> Log {
      log(ChannelEscrow.channelOpened, word(token) + word(Fixture.channel.authorizedSigner) + Fixture.salt.bytes + word(deposit))
    }
    func shown(_ transaction: ChannelTransaction, _ logs: [Log]) -> Bool {
      transaction.event(in: logs, of: Fixture.channel, escrow: Fixture.escrow) != nil
    }
    #expect(shown(checked.transaction, [opened(1), opened(10_000_000)]))
    #expect(!shown(checked.transaction, [opened(1)]))
    #expect(!shown(checked.transaction, [opened(10_000_000, token: Fixture.channel.payee)]))
    #expect(!shown(checked.transaction, [log(ChannelEscrow.toppedUp, word(10_000_000) + word(10_000_000))]))
    let topUp = try Fixture.check(try Fixture.topUp(Fixture.topUpByPermit))
    #expect(shown(topUp, [log(ChannelEscrow.toppedUp, word(5_000_000) + word(15_000_000))]))
    #expect(!shown(topUp, [log(ChannelEscrow.toppedUp, word(4_999_999) + word(15_000_000))]))
    var other = log(ChannelEscrow.toppedUp, word(5_000_000) + word(15_000_000))
    other.topics[1] = Fixture.salt
    #expect(!shown(topUp, [other]))
  }

  // MARK: reverts and problems

  /// The table of draft-evm-session-00 "Error Responses".
  @Test func reverts() {
    let table: [(String, ChannelError)] = [
      ("AmountExceedsDeposit", .amountExceedsDeposit), ("ChannelNotFound", .channelNotFound),
      ("ChannelFinalized", .channelFinalized), ("InvalidSignature", .invalidSignature), ("TransferFailed", .depositFailed),
      ("NonceMismatch", .transactionReverted), ("NonceAlreadyUsed", .transactionReverted),
      ("AuthorizationExpired", .transactionReverted), ("AmountNotIncreasing", .transactionReverted),
      ("ChannelAlreadyExists", .transactionReverted), ("SomethingElse", .transactionReverted),
    ]
    for (name, error) in table {
      #expect(ChannelError(.custom(Selector(signature: name + "()"), [])) == error)
      #expect(ChannelError(.message(name)) == error)
    }
    #expect(ChannelError(.none) == .transactionReverted)
    #expect(ChannelError(.panic(17)) == .transactionReverted)
  }

  /// The registered problem types and their status.
  @Test func problems() {
    let table: [(ChannelError, String, UInt16)] = [
      (.invalidSignature, "session/invalid-signature", 402), (.signerMismatch, "session/signer-mismatch", 402),
      (.amountExceedsDeposit, "session/amount-exceeds-deposit", 402), (.deltaTooSmall(5), "session/delta-too-small", 402),
      (.channelNotFound, "session/channel-not-found", 410), (.channelFinalized, "session/channel-finalized", 410),
      (.closeRequested, "session/channel-finalized", 410), (.challengeNotFound, "session/challenge-not-found", 402),
      (.insufficientBalance(1), "session/insufficient-balance", 402), (.depositFailed, "session/insufficient-balance", 402),
      (.transactionReverted, "session/transaction-reverted", 409),
      (.payment(.signatureMismatch(.permit2)), "session/invalid-signature", 402),
      (.payment(.missing(.salt)), "malformed-credential", 402), (.sourceMissing, "malformed-credential", 402),
      (.channelMismatch, "verification-failed", 402), (.gracePeriodTooShort, "internal-payment-error", 500),
      (.depositBelowMinimum(1), "payment-insufficient", 402),
    ]
    for (error, name, status) in table {
      #expect(error.problem.type(origin: "https://r") == "https://paymentauth.org/problems/" + name)
      #expect(error.problem.status == status)
      #expect(!error.detail.isEmpty)
    }
  }
}
