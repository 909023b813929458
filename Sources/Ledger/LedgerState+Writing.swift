import Bytes
import Encoding
import Metering

/// The images of records. `LedgerState+Reading` reads exactly what stands here.
extension LedgerState {
  /// Appends the images of everything that changed since the last batch, and the counters.
  mutating func writeDirty() {
    for index in dirtyCurrencies {
      currencies[Int(index)].isDirty = false
      let accounts = currencies[Int(index)]
      let place = redo.beginRecord(RecordKey(.currency, number: UInt64(index)))
      redo.put(accounts.code)
      redo.put(accounts.issued)
      redo.put(accounts.paidOut)
      redo.endRecord(place)
    }
    dirtyCurrencies.removeAll(keepingCapacity: true)
    for index in dirtyWallets {
      wallets[Int(index)].isDirty = false
      write(wallets[Int(index)])
    }
    dirtyWallets.removeAll(keepingCapacity: true)
    for index in dirtyMerchants {
      merchants[Int(index)].isDirty = false
      write(merchants[Int(index)], index: index)
    }
    dirtyMerchants.removeAll(keepingCapacity: true)
    for index in dirtyBalances {
      balances[Int(index)].isDirty = false
      if balances[Int(index)].phase != .vacant { write(slot: Int(index)) }
      if balances[Int(index)].phase != .vacant, balances[Int(index)].isChannel { writeChannel(slot: Int(index)) }
    }
    dirtyBalances.removeAll(keepingCapacity: true)
    vacant += vacated
    vacated.removeAll(keepingCapacity: true)
    let place = redo.beginRecord(RecordKey(.meta, number: 0))
    redo.put(lsn)
    redo.put(clock.microseconds)
    redo.put(horizon.microseconds)
    redo.endRecord(place)
  }

  private mutating func write(_ wallet: Wallet) {
    let place = redo.beginRecord(RecordKey(.wallet, number: wallet.number))
    redo.put(wallet.number)
    redo.put(wallet.key)
    redo.put(UInt8(wallet.isFrozen ? 1 : 0))
    redo.put(UInt32(wallet.accounts.count))
    for account in wallet.accounts {
      redo.put(account.balance)
      redo.put(account.day)
      redo.put(account.outflow)
    }
    let policy = wallet.policy
    redo.put(UInt32(policy.caps.count))
    for (code, caps) in policy.caps {
      redo.put(code)
      redo.put(optional: caps.daily) { $0.put($1) }
      redo.put(optional: caps.payment) { $0.put($1) }
      redo.put(optional: caps.session) { $0.put($1) }
    }
    redo.put(optional: policy.maximumSessions) { $0.put($1) }
    redo.put(optional: policy.allowed) { buffer, names in
      buffer.put(UInt32(names.count))
      for name in names { buffer.put(name) }
    }
    redo.put(optional: policy.expires) { $0.put($1.microseconds) }
    redo.endRecord(place)
  }

  private mutating func write(_ merchant: Merchant, index: UInt32) {
    let place = redo.beginRecord(RecordKey(.merchant, number: UInt64(index)))
    redo.put(merchant.name)
    redo.put(UInt32(merchant.balances.count))
    for balance in merchant.balances { redo.put(balance) }
    redo.endRecord(place)
  }

  private mutating func write(slot index: Int) {
    let balance = balances[index]
    let place = redo.beginRecord(RecordKey(.balance, number: balance.number))
    redo.put(balance.number)
    redo.put(balance.phase.rawValue)
    redo.put(balance.currency)
    redo.put(balance.maximumInFlight)
    // No wallet has the number 0.
    redo.put(balance.isChannel ? 0 : wallets[Int(balance.wallet)].number)
    redo.put(balance.merchant)
    redo.put(balance.deposit)
    redo.put(balance.settled.whole)
    redo.put(balance.settled.numerator)
    redo.put(balance.total.whole)
    redo.put(balance.total.numerator)
    redo.put(balance.units)
    redo.put(balance.idleMicroseconds)
    redo.put(balance.depositDay)
    redo.put(balance.depositOfDay)
    if balance.isChannel { redo.put(balance.arrived) }
    redo.endRecord(place)
  }

  mutating func write(_ details: SessionDetails, number: UInt64) {
    let place = redo.beginRecord(RecordKey(.session, number: number))
    redo.put(number)
    redo.put(details.id)
    redo.put(details.terms)
    redo.put(UInt32(details.claims.count))
    for claim in details.claims.all { redo.put(claim) }
    redo.put(optional: details.cause) { $0.put($1.rawValue) }
    redo.put(optional: details.closeClaim) { $0.put($1) }
    redo.endRecord(place)
  }

  /// Writes a wallet's hold; that of a payment on a chain stands in the payment's record.
  mutating func write(_ held: HeldCharge, id: LSN) {
    guard case .wallet(let wallet, let challengeID, let day) = held.payer else { return }
    let place = redo.beginRecord(RecordKey(.hold, number: id))
    redo.put(id)
    redo.put(challengeID)
    redo.put(wallets[Int(wallet)].number)
    redo.put(held.merchant)
    redo.put(held.currency)
    redo.put(held.amount)
    redo.put(day)
    redo.put(held.client.high)
    redo.put(held.client.low)
    redo.put(held.expires.microseconds)
    redo.endRecord(place)
  }

  mutating func write(_ claim: Claim, id: Digest32) {
    let place = redo.beginRecord(RecordKey(.claim, id))
    switch claim.use {
    case .held(let hold):
      redo.put(UInt8(0))
      redo.put(hold)
    case .settled(let reference):
      redo.put(UInt8(1))
      redo.put(reference)
    case .opened(let session):
      redo.put(UInt8(2))
      redo.put(session)
    case .toppedUp(let session, let credential):
      redo.put(UInt8(3))
      redo.put(session)
      redo.put(credential)
    case .payment(let id):
      redo.put(UInt8(4))
      redo.put(id)
    case .closed(let session):
      redo.put(UInt8(5))
      redo.put(session)
    }
    redo.put(claim.reference)
    redo.put(claim.expires.microseconds)
    redo.put(optional: claim.answer) { $0.put($1) }
    redo.endRecord(place)
  }

  mutating func write(_ charge: SettledCharge, reference: LSN) {
    let place = redo.beginRecord(RecordKey(.charge, number: reference))
    redo.put(charge.wallet)
    redo.put(charge.merchant)
    redo.put(charge.currency)
    redo.put(charge.amount)
    redo.put(charge.day)
    redo.put(UInt8(charge.isRefunded ? 1 : 0))
    redo.endRecord(place)
  }

  mutating func write(_ closed: ClosedSession, id: Digest32) {
    let place = redo.beginRecord(RecordKey(.closed, id))
    redo.put(closed.wallet)
    redo.put(closed.currency)
    redo.put(closed.merchant)
    redo.put(closed.deposit)
    redo.put(closed.spent)
    redo.put(closed.refunded)
    redo.put(closed.units)
    redo.put(closed.cause.rawValue | (closed.channel == nil ? 0 : ClosedSession.channelMark))
    redo.put(closed.time.microseconds)
    redo.put(closed.lsn)
    redo.put(optional: closed.claim) { $0.put($1) }
    redo.put(optional: closed.answer) { $0.put($1) }
    redo.put(UInt32(closed.claims.count))
    for claim in closed.claims { redo.put(claim) }
    if let channel = closed.channel { redo.put(channel) }
    redo.endRecord(place)
  }

  mutating func write(_ record: OutcomeRecord, expires: Timestamp, key: Digest32) {
    guard let outcome = record.outcome else { return }
    let place = redo.beginRecord(RecordKey(.outcome, key))
    redo.put(record.request)
    redo.put(expires.microseconds)
    redo.put(outcome.status)
    redo.put(outcome.head)
    redo.put(optional: outcome.body) { $0.put($1) }
    redo.put(outcome.receipt)
    redo.endRecord(place)
  }

  mutating func write(reference: Digest32, content: Digest32) {
    let place = redo.beginRecord(RecordKey(.reference, reference))
    redo.put(content)
    redo.endRecord(place)
  }
}

extension ByteBuffer {
  mutating func put(_ terms: SessionTerms) {
    put(terms.realm)
    put(terms.currency)
    put(terms.merchant)
    put(UInt32(terms.routes.count))
    for route in terms.routes {
      put(route.routeID)
      put(route.priceVersion)
      put(route.price.currency.code)
      put(route.price.currency.decimals)
      let isBounded = route.price.minimum > 0 || route.price.maximum < .max
      put(UInt32(route.price.parts.count) | (isBounded ? RouteTerms.boundedMark : 0))
      for part in route.price.parts {
        put(part.amount)
        put(part.unitSize)
        put(part.unit.rawValue)
      }
      if isBounded {
        put(route.price.minimum)
        put(route.price.maximum)
      }
    }
  }
}
