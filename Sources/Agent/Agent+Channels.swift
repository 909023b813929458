import Bytes
import Crypto
import Encoding
import Ethereum
import Methods
import Payments

// The channels that an agent knows, and what is shown to their servers outside of requests.
extension Agent {
  /// Lists the channels that this agent knows to be open, or that may be; what is gone for long is forgotten.
  public func channels() throws(AgentError) -> [KeptChannel] {
    let known = try keeper?.channels() ?? channelsInMemory
    let now = Timestamp.now()
    let over = known.filter { $0.state == .gone && $0.until.map { $0 < now } ?? false }
    for channel in over { try forget(channel.channelID) }
    return known.filter { channel in !over.contains { $0.channelID == channel.channelID } }
  }

  /// What a server was given, has refused, and could submit all the same, in base units by currency: it counts as deposited for as long.
  func doubtful(_ origin: String) throws(AgentError) -> [String: UInt128] {
    let now = Timestamp.now()
    var sums: [String: UInt128] = [:]
    for channel in try channels() where channel.origin == origin {
      let amount = channel.doubtful(at: now)
      if amount > 0 { sums[channel.currency.code] = Self.sum(sums[channel.currency.code] ?? 0, amount) }
    }
    return sums
  }

  /// Writes a new channel down.
  func keep(_ channel: KeptChannel) throws(AgentError) {
    if let keeper { return try keeper.save(channel) }
    guard channelsInMemory.count < Keeper.sessionLimit else { throw .keeper(.tooManySessions(limit: Keeper.sessionLimit)) }
    channelsInMemory.append(channel)
  }

  /// Changes a kept channel before anything leaves by the change.
  ///
  /// - Throws: `.sessionGone` where it was forgotten.
  @discardableResult
  func change(_ channelID: Digest32, _ change: (inout KeptChannel) throws(AgentError) -> Void) throws(AgentError) -> KeptChannel {
    if let keeper {
      guard let channel = try keeper.change(channelID, change) else { throw .sessionGone }
      return channel
    }
    guard let index = channelsInMemory.firstIndex(where: { $0.channelID == channelID }) else { throw .sessionGone }
    var channel = channelsInMemory[index]
    let signed = channel.signed
    try change(&channel)
    channel.signed = max(channel.signed, signed)
    channelsInMemory[index] = channel
    return channel
  }

  func forget(_ channelID: Digest32) throws(AgentError) {
    if let keeper { return try keeper.forget(channelID) }
    channelsInMemory.removeAll { $0.channelID == channelID }
  }

  // MARK: - Fields

  /// The field that carries a payload for a challenge.
  func field(_ challenge: Challenge, _ payload: ChannelPayload, of payer: Address, chain: UInt64) -> AgentRequest.Field {
    field(
      challenge,
      Credential.object(challenge: challenge, source: "did:pkh:eip155:\(chain):\(payer.checksummed)", payload: payload.object(rules: .evm)))
  }

  /// The field that carries the highest voucher of a channel.
  func voucherField(_ challenge: Challenge, of channel: KeptChannel, by key: EthereumKey) -> AgentRequest.Field {
    let voucher = channel.voucher(channel.signed, by: key)
    return field(challenge, .voucher(voucher, descriptor: nil, topUp: nil), of: channel.payer, chain: channel.chain)
  }

  // MARK: - Vouchers beside a request

  /// A request that only shows a voucher: HEAD, or POST without content where the route sells POST; neither goes to the upstream.
  func carrier(method: String, address: WebAddress) throws(AgentError) -> AgentRequest {
    guard method == "POST" else { return try AgentRequest(method: "HEAD", address: address) }
    return try AgentRequest(method: "POST", address: address.with(target: address.path))
  }

  /// Shows the highest voucher of a channel, and learns where the channel stands; nothing is bought.
  ///
  /// - Returns: the channel as it is now.
  /// - Throws: `.sessionGone` where the server does not know it, `.rejected`.
  func show(_ channel: KeptChannel, _ challenge: Challenge, to address: WebAddress, method: String) throws(AgentError) -> KeptChannel {
    guard let key = accountKey?.key, key.address == channel.payer else { throw .noAccountKey }
    let (head, octets) = try askRepeatedly(
      try carrier(method: method, address: address), extra: [voucherField(challenge, of: channel, by: key)])
    try refuseVoucher(head, octets, from: address)
    switch ChannelReceiptCheck(channel).check(head.first("payment-receipt")) {
    case .success(let receipt): return try change(channel.channelID) { $0.learn(told: receipt.spent) }
    case .failure(let problem): throw .receipt(problem.fault)
    }
  }

  /// Throws what stands against a voucher that was shown by itself.
  private func refuseVoucher(_ head: ReceivedHead, _ octets: [UInt8], from address: WebAddress) throws(AgentError) {
    guard !(200..<300).contains(head.status) else { return }
    if head.status == 410 { throw .sessionGone }
    let problem = ProblemDocument(octets, from: address)
    throw .rejected(status: head.status, problem: problem?.name ?? "payment-rejected", detail: problem?.detail ?? "")
  }

  // MARK: - Deposits

  /// Shows the deposit of a channel whose fate is not known until it is.
  ///
  /// - Returns: the channel as it is now; nil where it was never opened, and is forgotten.
  /// - Throws: `.paymentPending` where its fate stays unknown.
  func settled(_ channel: KeptChannel) throws(AgentError) -> KeptChannel? {
    guard let deposit = channel.underWay else { return channel }
    guard let route = channel.routes.last else { throw .sessionGone }
    let address = try WebAddress(channel.origin).with(target: route.path)
    do throws(AgentError) {
      return try conclude(channel, deposit, by: try carrier(method: route.method, address: address)).channel
    } catch {
      // What was signed can not be submitted any more; whether it was, the server has not said.
      guard case .paymentPending = error, Timestamp.now() > deposit.expires + Self.forgottenAfter else { throw error }
      return channel.state == .open ? channel : nil
    }
  }

  /// The time after a deposit's end from which on a channel of which the server says nothing is not waited for any more.
  private static let forgottenAfter = Duration.seconds(600)

  /// What became of a deposit.
  struct Concluded {
    /// The channel as it is now; nil where it was never opened.
    var channel: KeptChannel?
    /// What refused the deposit; nil where it stands.
    var refusal: AgentError?
  }

  /// Shows a deposit, again and again while its fate is open, and writes down what became of it.
  func conclude(_ channel: KeptChannel, _ deposit: KeptChannel.Deposit, by request: AgentRequest) throws(AgentError) -> Concluded {
    let pending = AgentError.paymentPending(expires: deposit.expires)
    var repeats = 0
    while true {
      do throws(AgentError) {
        let (head, octets) = try ask(request, extra: [deposit.field])
        let problem = ProblemDocument(octets, from: request.address)
        if (200..<300).contains(head.status) { return Concluded(channel: try stands(channel, deposit, head)) }
        // Our server says of an open channel never 402, and of a deposit under way neither 402 nor 410.
        if head.status == 402 || head.status == 410 || head.status == 403 || problem?.problem == .sessionTransactionReverted {
          let refusal = AgentError.rejected(status: head.status, problem: problem?.name ?? "payment-rejected", detail: problem?.detail ?? "")
          return Concluded(channel: try refused(channel, deposit), refusal: refusal)
        }
        guard head.status == 503 || head.status == 409, repeats < PaymentProgress.chainRepeatLimit else { throw pending }
        repeats += 1
        try wait(repeats, head)
      } catch {
        guard error.isLoss else { throw error }
        guard repeats < PaymentProgress.chainRepeatLimit else { throw pending }
        repeats += 1
        try client.pause(for: Pause.duration(repeats))
      }
    }
  }

  private func wait(_ repeats: Int, _ head: ReceivedHead) throws(AgentError) {
    let asked = head.first("retry-after").flatMap { Int64($0) } ?? 0
    try client.pause(for: max(Pause.duration(repeats), .seconds(min(max(0, asked), Self.retryAfterLimit))))
  }

  /// The most seconds that a server may have a repetition wait.
  private static let retryAfterLimit: Int64 = 10

  private func stands(_ channel: KeptChannel, _ deposit: KeptChannel.Deposit, _ head: ReceivedHead) throws(AgentError) -> KeptChannel {
    let receipt = try? ChannelReceiptCheck(channel).check(head.first("payment-receipt")).get()
    return try change(channel.channelID) { kept in
      guard kept.underWay == deposit else { return }
      if kept.state == .open { kept.deposit = Self.sum(kept.deposit, deposit.amount) }
      kept.state = .open
      kept.underWay = nil
      if let receipt { kept.learn(told: receipt.spent) }
    }
  }

  private func refused(_ channel: KeptChannel, _ deposit: KeptChannel.Deposit) throws(AgentError) -> KeptChannel? {
    let isOpening = channel.state == .opening
    let changed = try change(channel.channelID) { $0.refuse(deposit, at: .now()) }
    return isOpening ? nil : changed
  }

  static func sum(_ left: UInt128, _ right: UInt128) -> UInt128 {
    let (sum, overflows) = left.addingReportingOverflow(right)
    return overflows ? .max : sum
  }

  /// Adds to a channel's deposit: a fresh challenge is asked for and checked, the authorization is signed, written down, and shown.
  ///
  /// - Throws: `.rejected` where it was refused, `.paymentPending` where its fate is not known.
  func topUp(_ channel: KeptChannel, by amount: UInt128, request: AgentRequest) throws(AgentError) -> KeptChannel {
    guard let key = accountKey?.key else { throw .noAccountKey }
    let probe = try AgentRequest(method: request.method == "HEAD" ? "GET" : request.method, address: request.address)
    let offer = try freshOffer(for: channel, probe: probe, request: request)
    let topUp: ChannelTopUp
    do throws(ChannelError) {
      switch offer.means {
      case .authorization:
        topUp = try offer.session.topUpByAuthorization(
          channel.channelID, additionalDeposit: amount, salt: Random.digest32(), by: key, token: offer.token.token, until: offer.expires)
      case .permit2:
        topUp = try offer.session.topUpByPermit(
          channel.channelID, additionalDeposit: amount, by: key, token: offer.token.token, nonce: Word256(Random.digest32()),
          until: offer.expires)
      }
    } catch {
      throw .signing(error.charge)
    }
    let deposit = KeptChannel.Deposit(
      amount: amount, expires: offer.expires, field: field(offer.challenge, .topUp(topUp), of: channel.payer, chain: channel.chain))
    try change(channel.channelID) { $0.underWay = deposit }
    let concluded = try conclude(channel, deposit, by: probe)
    if let refusal = concluded.refusal { throw refusal }
    guard let channel = concluded.channel else { throw .sessionGone }
    return channel
  }

  /// Asks for a challenge, without content first; where the content decides the price, with it.
  private func freshOffer(for channel: KeptChannel, probe: AgentRequest, request: AgentRequest) throws(AgentError) -> ChannelOffer {
    var asked = probe
    var (head, octets) = try ask(probe)
    if head.status != 402, !request.content.isEmpty, !request.has("authorization") {
      asked = request
      (head, octets) = try ask(request)
    }
    guard head.status == 402 else { throw .unexpectedStatus(head.status, .topUp) }
    let offers = ChainOffers(head, body: octets, request: asked, options: options, now: Timestamp.now())
    guard let offer = offers.channels.first(where: { $0.fits(channel, origin: probe.address.origin) }) else { throw .noUsableOffer }
    return offer
  }

  // MARK: - Closing

  /// Closes a channel: the server settles what was spent on its chain, and what is left goes back to the payer.
  ///
  /// What is signed for the close is what was spent by the server's word and the agent's count. The channel is forgotten once the server has
  /// named the transaction that closed it; until then its deposit may lie in the escrow.
  public func close(_ channel: KeptChannel) throws(AgentError) -> ClosedChannel {
    guard let key = accountKey?.key, key.address == channel.payer else { throw .noAccountKey }
    guard let open = try settled(channel) else { return ClosedChannel(channel: channel, receipt: nil, problem: nil) }
    guard let route = open.routes.last else { throw .sessionGone }
    let address = try WebAddress(open.origin).with(target: route.path)
    let voucher = open.voucher(open.spent, by: key)
    var credential = field(route.challenge, .close(voucher, descriptor: nil), of: open.payer, chain: open.chain)
    // An answer to HEAD could not say what stands against the close.
    let request = try AgentRequest(method: route.method == "HEAD" ? "GET" : route.method, address: address)
    var repeats = 0
    var isRaised = false
    while true {
      let (head, octets) = try askRepeatedly(request, extra: [credential])
      let problem = ProblemDocument(octets, from: address)
      if (200..<300).contains(head.status) {
        let receipt = try? ChannelReceiptCheck(open).check(head.first("payment-receipt")).get()
        return try ended(ClosedChannel(channel: open, receipt: receipt, problem: nil))
      }
      if head.status == 410 { return try ended(ClosedChannel(channel: open, receipt: nil, problem: problem?.members)) }
      // What stands on the chain is everybody's to show: the server asks for a voucher that nobody else can have, for a base unit more.
      if head.status == 402, !isRaised, let more = problem?.members["requiredCumulative"]?.stringValue.flatMap({ DecimalUInt128.parse($0.utf8) }),
        more > open.spent, more <= Self.sum(open.signed, 1), more <= open.deposit
      {
        isRaised = true
        let kept = try change(open.channelID) { $0.signed = max($0.signed, more) }
        credential = field(route.challenge, .close(kept.voucher(more, by: key), descriptor: nil), of: open.payer, chain: open.chain)
        continue
      }
      guard head.status == 503 || head.status == 409, repeats < PaymentProgress.chainRepeatLimit else {
        throw .rejected(status: head.status, problem: problem?.name ?? "payment-rejected", detail: problem?.detail ?? "")
      }
      repeats += 1
      try wait(repeats, head)
    }
  }
}

extension Agent {
  /// Forgets a channel that is closed by a transaction that the server names; another one is kept, for its payer to look after his deposit.
  private func ended(_ closed: ClosedChannel) throws(AgentError) -> ClosedChannel {
    if closed.transaction != nil { try forget(closed.channel.channelID) } else { try change(closed.channel.channelID) { $0.leave(at: .now()) } }
    return closed
  }
}

/// What closing a channel came to.
public struct ClosedChannel: Sendable {
  /// The channel as it was kept.
  public let channel: KeptChannel
  /// What the server says of the close; nil where it had closed the channel before, or what it says does not hold.
  public let receipt: ChannelReceipt?

  /// What the channel cost by the server's word, in base units; nil where it says nothing that holds.
  public let spent: UInt128?
  /// What went back to the payer by the server's word, in base units; nil where it says nothing. That the chain agrees is for a node to tell.
  public let refunded: UInt128?
  /// The transaction that closed the channel by the server's word.
  public let transaction: Digest32?

  /// Reads a receipt, or what a server says of a channel that it has closed before.
  init(channel: KeptChannel, receipt: ChannelReceipt?, problem: JSONObject?) {
    self.channel = channel
    self.receipt = receipt
    func units(_ name: String) -> UInt128? { problem?[name]?.stringValue.flatMap { DecimalUInt128.parse($0.utf8) } }
    spent = receipt?.spent ?? units("spent")
    refunded = receipt.map { channel.deposit > $0.acceptedCumulative ? channel.deposit - $0.acceptedCumulative : 0 } ?? units("refunded")
    transaction = receipt?.transaction ?? problem?["txHash"]?.stringValue.flatMap { HexData.digest($0) }
  }
}

extension ChannelError {
  /// The rule of charges that a deposit breaks; whatever else it is, the offer cannot be signed.
  var charge: ChainChargeError {
    if case .payment(let error) = self { return error }
    return .unknownType
  }
}
