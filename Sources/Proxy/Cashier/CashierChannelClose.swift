import Bytes
import Encoding
import Ethereum
import Gateway
import HTTP
import Ledger
import Methods
import Payments

// The close of a channel by its payer: charges stop at once, the desk closes on the chain, and the answer has the transaction.
extension Cashier {
  /// Closes a channel with a last voucher, or says what became of that.
  mutating func close(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ presented: ChannelCredential, _ voucher: SessionVoucher,
    descriptor: ChannelDescriptor?, at now: Timestamp
  ) -> Verdict {
    guard let ledger else { return .answer(unavailable()) }
    if case .closed(let record)? = ledger.closeResult(voucher.channelID) { return .answer(closed(record, presented, voucher, at: now)) }
    let view: ChannelView
    let stored: StoredChannel
    switch find(voucher.channelID, request, index, presented, descriptor: descriptor, at: now) {
    case .answer(let answer): return .answer(answer)
    case .channel(let found, let kept): (view, stored) = (found, kept)
    }
    let challengeID = presented.credential.challenge.id
    if let told, told.id == view.id {
      switch told.word {
      // Told before the books were read: they say it in a moment.
      case .settled, .unknown, .declined: return .answer(problem(.paymentPending, challengeID: challengeID, retryAfter: 1))
      case .unavailable: return .answer(problem(.railUnavailable, challengeID: challengeID, retryAfter: Self.channelRetry))
      case .refused: return .answer(refused(.transactionReverted, request, index, view, stored, presented, at: now))
      }
    }
    // What stands on the chain is everybody's to bring: by that the payer closes whose challenge it is, or who comes from where he has shown
    // himself last, since clients close by whatever challenge they got last; nobody else does.
    let isPublic = view.isPublic(voucher.cumulativeAmount)
    let isProven = !isPublic || view.isPayers(presented.credential.challengeID)
    let isAtRest = view.inFlight == 0 && now - view.lastUse >= Self.restBeforeRefund
    let isLast = chains?.payers.isLast(view.id, request.client) == true
    guard isProven || isAtRest && isLast else {
      var answer = unproven(request, index, view, stored, at: now)
      if isLast { answer.fields += Array("Retry-After: \(Self.restBeforeRefund.components.seconds)\r\n".utf8) }
      return .answer(answer)
    }
    guard !channelFailures.isFull(view.id, request.client, at: clock) else { return .answer(problem(.rateLimited, retryAfter: 1)) }
    // The chain has ended it, and the books say so in a moment: what they say then is the answer.
    if view.account.isFinalized { return .answer(problem(.paymentPending, challengeID: challengeID, retryAfter: 1)) }
    let seat = ChannelSeat(id: view.id, stored, challengeID: challengeID, minimumDelta: 0)
    var question: WalletQuestion?
    do throws(ChannelError) {
      // While exchanges are in flight nobody knows what was spent: the last voucher covers it in any case.
      let spent = view.inFlight == 0 && view.phase == .open ? min(view.spent, view.budget) : 0
      question = try seat.key.close(
        voucher, after: seat.voucher(view.voucher), standing: ChannelStanding(view.account), spent: spent, rules: seat.rules, wallets: .refused
      ).question
      if question == nil, voucher != seat.voucher(view.voucher) { question = try seat.key.verify(voucher, wallets: .refused) }
    } catch {
      noteFailure(error, view.id, request.client)
      return .answer(refused(error, request, index, view, stored, presented, at: now))
    }
    if let question, let verdict = ask(question, request, index, view, stored, presented, at: now) { return verdict }
    do throws(Refusal) {
      let claim = (id: presented.credential.challengeID, expires: presented.credential.expires ?? now)
      let entry = try ledger.beginClose(view.handle, cause: .payer, voucher: AcceptedVoucher(voucher), claim: claim, onlyAtRest: !isProven, at: now)
      // Once the close is on its way its voucher is public, and the same credential has to be known as the payer's.
      _ = try? ledger.prove(view.handle, by: presented.credential.challengeID, at: now)
      return .awaitSettlement(SettlementOrder.close(channel: view.id, chain: view.chain, entry: entry))
    } catch {
      return .answer(answer(error, request, index, seat, at: now))
    }
  }

  /// 402 for a close by what anybody may have: what its voucher has to say at least.
  private mutating func unproven(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ view: ChannelView, _ stored: StoredChannel, at now: Timestamp
  ) -> Answer {
    let known = max(view.published ?? 0, view.account.settled)
    let hint = ChannelHint(view, stored, required: known + min(1, .max - known))
    self.hint = hint
    defer { self.hint = nil }
    var members = hint.members
    members.set("requiredCumulative", .string(String(hint.required)))
    let detail = "This voucher was settled and is public: close by a challenge by which the channel was used, or by a voucher for more."
    return failed(request, index, .verificationFailed, detail: detail, members: members, at: now)
  }

  /// 204 with the transaction for the credential that closed the channel, however often it comes; 410 for others, with the same facts.
  private func closed(_ record: ClosedSession, _ presented: ChannelCredential, _ voucher: SessionVoucher, at now: Timestamp) -> Answer {
    let credential = presented.credential
    guard record.claim == credential.challengeID, let outcome = record.channel else {
      var members: JSONObject = ["channelId": .string(HexData.text(voucher.channelID)), "spent": .string(String(record.spent))]
      if let outcome = record.channel {
        members.set("captured", .string(String(outcome.captured)))
        members.set("refunded", .string(String(record.refunded)))
        if let transaction = outcome.transaction { members.set("txHash", .string(HexData.text(transaction))) }
      }
      return problem(.sessionFinalized, members: members, challengeID: credential.challenge.id, after: record.lsn)
    }
    // A close that signed for less than was spent was closed with what had been accepted before.
    let accepted = voucher.cumulativeAmount >= record.spent ? voucher.cumulativeAmount : max(record.deposit, record.spent)
    let escrow = SessionEscrow(rules: presented.quote.rules, chain: presented.quote.details.chainID, address: presented.quote.details.escrow)
    var text = ByteBuffer()
    ChannelReceiptStub(escrow: escrow, challengeID: credential.challenge.id, channelID: voucher.channelID).append(
      acceptedCumulative: accepted, spent: record.spent, timestamp: record.time, transaction: outcome.transaction, to: &text)
    return Answer(status: 204, fields: managementLines(voucher.channelID, receipt: text).array(), body: [], after: record.lsn)
  }
}
