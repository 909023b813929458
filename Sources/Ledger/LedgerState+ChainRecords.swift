import Bytes
import Encoding
import HTTP

/// The images of payments on chains.
extension LedgerState {
  mutating func write(payment id: Digest32) {
    guard let payment = payments[id] else { return }
    let place = redo.beginRecord(RecordKey(.payment, id))
    redo.put(payment.state.rawValue | (payment.channel == nil ? 0 : ChainPayment.depositMark) | ChainPayment.presentedMark
      | (payment.name == nil ? 0 : ChainPayment.namedMark) | (payment.splits.isEmpty ? 0 : ChainPayment.splitMark))
    redo.put(payment.recipient)
    redo.put(payment.presented)
    if let name = payment.name { redo.put(name) }
    if !payment.splits.isEmpty {
      redo.put(UInt8(payment.splits.count))
      for split in payment.splits {
        redo.put(split.recipient)
        redo.put(split.amount)
      }
    }
    redo.put(payment.request)
    redo.put(payment.payer)
    redo.put(payment.amount)
    redo.put(payment.currency)
    redo.put(payment.merchant)
    redo.put(payment.client.high)
    redo.put(payment.client.low)
    redo.put(payment.expires.microseconds)
    redo.put(payment.reference)
    redo.put(payment.hold)
    redo.put(optional: payment.challengeID) { $0.put($1) }
    redo.put(optional: payment.transaction) { $0.put($1) }
    redo.put(optional: payment.until) { $0.put($1.microseconds) }
    redo.put(payment.since.microseconds)
    redo.put(payment.proof)
    if let channel = payment.channel {
      redo.put(channel)
      redo.put(optional: payment.deposit) { $0.put($1) }
    }
    redo.endRecord(place)
  }

  mutating func readPayment(_ reader: inout RecordReader, _ id: Digest32) throws(LedgerError) {
    let marked: UInt8 = try reader.integer()
    guard let state = ChainPaymentState(rawValue: marked & ~ChainPayment.marks) else {
      throw .malformed(.payment)
    }
    // Older programs wrote neither.
    let isPresented = marked & ChainPayment.presentedMark != 0
    let recipient = isPresented ? try reader.string() : ""
    let presented = isPresented ? try reader.digest() : Digest32()
    let name = marked & ChainPayment.namedMark != 0 ? try reader.digest() : nil
    var splits: [ChainSplit] = []
    if marked & ChainPayment.splitMark != 0 {
      let count: UInt8 = try reader.integer()
      for _ in 0..<count { splits.append(ChainSplit(recipient: try reader.string(), amount: try reader.integer())) }
    }
    let request = try reader.digest()
    let payer = try reader.string()
    let amount: UInt128 = try reader.integer()
    let currency: UInt8 = try reader.integer()
    let merchant: UInt32 = try reader.integer()
    let client = ClientAddress(high: try reader.integer(), low: try reader.integer())
    let expires = Timestamp(microseconds: try reader.integer())
    let reference: LSN = try reader.integer()
    let hold: LSN = try reader.integer()
    let challengeID = try reader.optional { (reader) throws(LedgerError) in try reader.digest() }
    let transaction = try reader.optional { (reader) throws(LedgerError) in try reader.digest() }
    let until = try reader.optional { (reader) throws(LedgerError) in Timestamp(microseconds: try reader.integer()) }
    let since = Timestamp(microseconds: try reader.integer())
    guard Int(merchant) < merchants.count, Int(currency) < currencies.count, (state == .serving) == (hold != 0) else {
      throw .malformed(.payment)
    }
    let proof = try reader.bytes()
    var channel: Digest32?
    var deposit: EscrowDeposit?
    if marked & ChainPayment.depositMark != 0 {
      channel = try reader.digest()
      deposit = try reader.optional { (reader) throws(LedgerError) in try Self.deposit(&reader) }
      guard (deposit != nil) == (state == .claimed || state == .submitted), deposit == nil || deposit?.channel == channel else {
        throw .malformed(.payment)
      }
    }
    payments[id] = ChainPayment(
      request: request, payer: payer, recipient: recipient, presented: presented, name: name, amount: amount, splits: splits, currency: currency, merchant: merchant,
      route: .none, client: client, expires: expires, challengeID: challengeID, proof: proof, deposit: deposit, channel: channel, reference: reference, state: state,
      transaction: transaction, hold: hold, until: until, since: since)
    countFree(id, 1)
    try place(id, amount, currency, state)
  }

  /// Puts a payment that was read into the lists and sums that its state belongs to.
  private mutating func place(_ id: Digest32, _ amount: UInt128, _ index: UInt8, _ state: ChainPaymentState) throws(LedgerError) {
    let currency = Int(index)
    if let name = payments[id]?.name { paymentNames[name] = id }
    if let deposit = payments[id]?.deposit {
      open(payment: id)
      if case .open(let order) = deposit { openings[order.id] = id }
      return
    }
    switch state {
    case .claimed, .submitted:
      guard fits(amount, index) else { throw .malformed(.payment) }
      currencies[currency].expected += amount
      open(payment: id)
    case .settled, .serving:
      let (held, overflows) = currencies[currency].held.addingReportingOverflow(amount)
      if overflows { throw .malformed(.payment) }
      currencies[currency].held = held
      if state == .settled {
        unservedPayments.insert(id)
        if let payment = payments[id], payment.isFree { expiries.add(.payment(id), at: payment.expires) }
      } else { hold(id, idempotency: nil) }
    case .served, .writtenOff:
      guard let until = payments[id]?.until else { throw .malformed(.payment) }
      expiries.add(.payment(id), at: until)
    }
  }
}
