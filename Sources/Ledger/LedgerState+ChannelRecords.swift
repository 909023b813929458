import Bytes
import Encoding
import HTTP

/// The images of channels.
extension LedgerState {
  /// Writes what has changed of a slot's channel: what every voucher changes apart from the rest.
  mutating func writeChannel(slot index: Int) {
    let place = Int(balances[index].channel)
    guard let channel = channels[place], channel.isDirty || channel.isVoucherDirty else { return }
    if channel.isDirty { write(channel, number: balances[index].number) }
    if channel.isVoucherDirty { write(voucherOf: channel, number: balances[index].number) }
    channels[place]?.isDirty = false
    channels[place]?.isVoucherDirty = false
  }

  private mutating func write(_ channel: Channel, number: UInt64) {
    let place = redo.beginRecord(RecordKey(.channel, number: number))
    redo.put(number)
    redo.put(channel.id)
    redo.put(channel.chain)
    redo.put(channel.payer)
    redo.put(channel.descriptor)
    redo.put(channel.challengeID)
    redo.put(optional: channel.openedBy) { $0.put($1) }
    redo.put(channel.opened.microseconds)
    redo.put(channel.account.deposit)
    redo.put(channel.account.settled)
    redo.put(channel.account.closeRequestedAt)
    redo.put(UInt8(channel.account.isFinalized ? 1 : 0))
    redo.put(channel.account.block)
    redo.put(channel.account.blockHash)
    redo.put(optional: channel.underWay) { $0.put($1) }
    redo.put(UInt8(channel.isCloseUnderWay ? 1 : 0))
    redo.put(optional: channel.closing) { $0.put($1) }
    redo.put(optional: channel.published) { $0.put($1) }
    redo.put(UInt32(channel.proofs.count))
    for proof in channel.proofs { redo.put(proof) }
    redo.put(optional: channel.returning) { $0.put($1) }
    redo.endRecord(place)
  }

  private mutating func write(voucherOf channel: Channel, number: UInt64) {
    let place = redo.beginRecord(RecordKey(.voucher, number: number))
    redo.put(number)
    redo.put(channel.voucher)
    redo.put(optional: channel.previous) { $0.put($1) }
    redo.put(optional: channel.unsettledSince) { $0.put($1.microseconds) }
    redo.put(channel.lastUse.microseconds)
    redo.endRecord(place)
  }

  func readChannel(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) {
    let number: UInt64 = try reader.integer()
    let id = try reader.digest()
    guard reading.details(of: number)?.id == id else { throw .malformed(.channel) }
    let chain: UInt64 = try reader.integer()
    let payer = try reader.string()
    let descriptor = try reader.bytes()
    let challengeID = try reader.digest()
    let openedBy = try reader.optional { (reader) throws(LedgerError) in try reader.digest() }
    let opened = Timestamp(microseconds: try reader.integer())
    let account = ChannelAccount(
      deposit: try reader.integer(), settled: try reader.integer(), closeRequestedAt: try reader.integer(), isFinalized: try reader.bool(),
      block: try reader.integer(), blockHash: try reader.digest())
    let underWay = try reader.optional { (reader) throws(LedgerError) in try reader.digest() }
    let isCloseUnderWay = try reader.bool()
    let closing = try reader.optional { (reader) throws(LedgerError) in try reader.voucher() }
    // Images that earlier versions wrote end here.
    let published: UInt128? = reader.isAtEnd ? nil : try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
    let proofs = reader.isAtEnd ? [] : try reader.array { (reader) throws(LedgerError) in try reader.digest() }
    let returning: UInt128? = reader.isAtEnd ? nil : try reader.optional { (reader) throws(LedgerError) in try reader.integer() }
    reading.channels[number] = Channel(
      id: id, chain: chain, payer: payer, descriptor: descriptor, challengeID: challengeID, openedBy: openedBy, opened: opened,
      account: account, underWay: underWay, isCloseUnderWay: isCloseUnderWay, closing: closing, published: published, proofs: proofs,
      returning: returning, voucher: AcceptedVoucher(amount: 0, signature: []), lastUse: opened)
  }

  func readVoucher(_ reader: inout RecordReader, _ reading: inout Reading) throws(LedgerError) {
    let number: UInt64 = try reader.integer()
    guard var channel = reading.channels[number] else { throw .malformed(.voucher) }
    channel.voucher = try reader.voucher()
    channel.previous = try reader.optional { (reader) throws(LedgerError) in try reader.voucher() }
    channel.unsettledSince = try reader.optional { (reader) throws(LedgerError) in Timestamp(microseconds: try reader.integer()) }
    channel.lastUse = Timestamp(microseconds: try reader.integer())
    reading.channels[number] = channel
  }

  static func closedChannel(_ reader: inout RecordReader) throws(LedgerError) -> ClosedChannel {
    ClosedChannel(
      chain: try reader.integer(), payer: try reader.string(), deposit: try reader.integer(), captured: try reader.integer(),
      overpaid: try reader.integer(), lost: try reader.integer(),
      transaction: try reader.optional { (reader) throws(LedgerError) in try reader.digest() })
  }

  static func deposit(_ reader: inout RecordReader) throws(LedgerError) -> EscrowDeposit {
    switch try reader.integer(UInt8.self) {
    case 0: return .topUp(channel: try reader.digest())
    case let kind where kind == 1 || kind == 2:
      let id = try reader.digest()
      let challengeID = try reader.digest()
      let payer = try reader.string()
      let chain: UInt64 = try reader.integer()
      let descriptor = try reader.bytes()
      let voucher = try reader.voucher()
      let terms = try terms(&reader)
      return .open(
        ChannelOrder(
          id: id, challengeID: challengeID, payer: payer, chain: chain, descriptor: descriptor, voucher: voucher, terms: terms,
          idleTimeout: .microseconds(try reader.integer(Int64.self)), maximumInFlight: try reader.integer(),
          client: ClientAddress(high: try reader.integer(), low: try reader.integer()), isResumable: kind == 2))
    default: throw .malformed(.payment)
    }
  }
}

extension RecordReader {
  mutating func voucher() throws(LedgerError) -> AcceptedVoucher {
    AcceptedVoucher(amount: try integer(), signature: try bytes())
  }
}

extension ByteBuffer {
  mutating func put(_ voucher: AcceptedVoucher) {
    put(voucher.amount)
    put(voucher.signature)
  }

  mutating func put(_ channel: ClosedChannel) {
    put(channel.chain)
    put(channel.payer)
    put(channel.deposit)
    put(channel.captured)
    put(channel.overpaid)
    put(channel.lost)
    put(optional: channel.transaction) { $0.put($1) }
  }

  /// Writes a deposit; the route's label is of this run alone.
  mutating func put(_ deposit: EscrowDeposit) {
    switch deposit {
    case .topUp(let channel):
      put(UInt8(0))
      put(channel)
    case .open(let order):
      put(UInt8(order.isResumable ? 2 : 1))
      put(order.id)
      put(order.challengeID)
      put(order.payer)
      put(order.chain)
      put(order.descriptor)
      put(order.voucher)
      put(order.terms)
      put(LedgerState.microseconds(order.idleTimeout))
      put(order.maximumInFlight)
      put(order.client.high)
      put(order.client.low)
    }
  }
}
