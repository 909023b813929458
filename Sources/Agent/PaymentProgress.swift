/// Decides what happens next with one request, so that it is paid for at most once.
///
/// The machine sees only what came back, never a socket or a clock. Its rules: a credential whose fate is unknown is
/// presented again as it is, never replaced by a new payment; a 402 after a payment ends the request; a bearer request,
/// which the server cannot tell from a second one, is repeated only where the session shows that it cost nothing or where
/// an `Idempotency-Key` makes the server tell.
struct PaymentProgress: Equatable, Sendable {
  /// How often one credential is presented again.
  static let repeatLimit = 6
  /// How often a payment on a chain is presented again: blocks take longer than a ledger's commit.
  static let chainRepeatLimit = 8

  /// What money moves with the credential.
  enum Instrument: Equatable, Sendable { case charge, open, chain, channel }

  /// Why a bearer credential is presented.
  enum Bearing: Equatable, Sendable {
    /// By a session kept from before, with the challenge kept for this method and path.
    case kept
    /// By a session kept from before, with a challenge that was just received.
    case renewed
    /// After the budget was raised for this request.
    case toppedUp
    /// By the session that this request opened, its answer lost.
    case opened
  }

  enum Stop: Equatable, Sendable {
    case unpayable, rejected, denied, settled, answerLost, network, unavailable
  }

  enum State: Equatable, Sendable {
    case asking(repeats: Int)
    case bearing(Bearing, repeats: Int)
    case toppingUp
    case inspecting(Bearing, repeats: Int)
    case paying(Instrument, repeats: Int)
    case delivered
    case stopped(Stop)
  }

  enum Event: Equatable, Sendable, CaseIterable {
    /// A 402 whose offer of this kind passed every check and the caller's limit.
    case chargeOffered, openOffered, bearerOffered, chainOffered, channelOffered
    /// A 402 with nothing that can be paid.
    case nothingOffered
    /// A 402 that says the session's budget is too small, and a top-up is within the limit.
    case budgetShort
    case toppedUp
    /// Any answer that is not about the payment.
    case answered
    /// 409: the same credential or idempotency key is being served.
    case inFlight
    /// 409 `already-open`: the session exists.
    case alreadyOpen
    /// 403: the charge was settled before.
    case settledBefore
    /// 403 `policy-denied`.
    case denied
    /// 410: the server does not know the session, or has closed it.
    case sessionGone
    /// Another problem with the credential.
    case refused
    /// The payment was refused, and by the server's words no money has moved, nor can by it.
    case refusedUnmoved
    /// 503.
    case unavailable
    /// No answer came: the request may have been served or not.
    case lost
    /// The session's spending is as it was before the request.
    case untouched
    /// The session's spending has changed, or cannot be learnt.
    case touched
  }

  enum Action: Equatable, Sendable {
    case ask
    case pay(Instrument)
    case bear
    case repeatAfterPause(repeats: Int)
    case inspect
    case topUp
    case deliver
    case stop(Stop)
  }

  private(set) var state: State
  /// Whether the request carries an `Idempotency-Key`.
  let isKeyed: Bool
  /// Whether the method may be asked twice by its definition.
  let isSafe: Bool
  /// How many new payments may still be made after one that was refused.
  private(set) var refusalRetries: Int

  init(isKeyed: Bool, isSafe: Bool, bearsKeptSession: Bool, refusalRetries: Int = 0) {
    self.init(
      isKeyed: isKeyed, isSafe: isSafe, state: bearsKeptSession ? .bearing(.kept, repeats: 0) : .asking(repeats: 0),
      refusalRetries: refusalRetries)
  }

  init(isKeyed: Bool, isSafe: Bool, state: State, refusalRetries: Int = 0) {
    self.isKeyed = isKeyed
    self.isSafe = isSafe
    self.state = state
    self.refusalRetries = refusalRetries
  }

  mutating func receive(_ event: Event) -> Action {
    switch state {
    case .asking(let repeats): asking(event, repeats)
    case .bearing(let bearing, let repeats): self.bearing(event, bearing, repeats)
    case .toppingUp: toppingUp(event)
    case .inspecting(let bearing, let repeats): inspecting(event, bearing, repeats)
    case .paying(let instrument, let repeats): paying(event, instrument, repeats)
    case .delivered: .deliver
    case .stopped(let stop): .stop(stop)
    }
  }

  private mutating func stop(_ stop: Stop) -> Action {
    state = .stopped(stop)
    return .stop(stop)
  }

  private mutating func deliver() -> Action {
    state = .delivered
    return .deliver
  }

  private mutating func pay(_ instrument: Instrument) -> Action {
    state = .paying(instrument, repeats: 0)
    return .pay(instrument)
  }

  private mutating func bear(_ bearing: Bearing) -> Action {
    state = .bearing(bearing, repeats: 0)
    return .bear
  }

  /// Nothing was paid: whatever is not an offer is an answer like any other.
  private mutating func asking(_ event: Event, _ repeats: Int) -> Action {
    switch event {
    case .chargeOffered: return pay(.charge)
    case .openOffered: return pay(.open)
    case .chainOffered: return pay(.chain)
    case .channelOffered: return pay(.channel)
    case .bearerOffered: return bear(.renewed)
    case .nothingOffered, .budgetShort: return stop(.unpayable)
    case .lost:
      guard isSafe, repeats == 0 else { return stop(.network) }
      state = .asking(repeats: 1)
      return .repeatAfterPause(repeats: 1)
    case .answered, .inFlight, .alreadyOpen, .settledBefore, .denied, .sessionGone, .refused, .refusedUnmoved, .unavailable,
      .toppedUp, .untouched, .touched:
      return deliver()
    }
  }

  private mutating func bearing(_ event: Event, _ bearing: Bearing, _ repeats: Int) -> Action {
    switch event {
    case .answered, .unavailable: return deliver()
    case .chargeOffered: return bearing == .kept ? pay(.charge) : stop(.rejected)
    case .openOffered: return bearing == .kept ? pay(.open) : stop(.rejected)
    case .chainOffered: return bearing == .kept ? pay(.chain) : stop(.rejected)
    case .channelOffered: return bearing == .kept ? pay(.channel) : stop(.rejected)
    case .bearerOffered: return bearing == .kept ? bear(.renewed) : stop(.rejected)
    case .nothingOffered: return stop(.unpayable)
    case .budgetShort:
      guard bearing != .toppedUp else { return stop(.rejected) }
      state = .toppingUp
      return .topUp
    case .sessionGone:
      // What another call left behind is forgotten; the session of this request is not.
      guard bearing == .kept || bearing == .renewed else { return stop(.rejected) }
      state = .asking(repeats: 0)
      return .ask
    case .denied: return stop(.denied)
    case .inFlight: return again(.bearing(bearing, repeats: repeats + 1), repeats, otherwise: .answerLost)
    case .alreadyOpen, .settledBefore, .refused, .refusedUnmoved, .toppedUp, .untouched, .touched: return stop(.rejected)
    case .lost:
      if isKeyed { return again(.bearing(bearing, repeats: repeats + 1), repeats, otherwise: .answerLost) }
      state = .inspecting(bearing, repeats: repeats)
      return .inspect
    }
  }

  private mutating func toppingUp(_ event: Event) -> Action {
    switch event {
    case .toppedUp: return bear(.toppedUp)
    case .denied: return stop(.denied)
    case .lost: return stop(.answerLost)
    case .nothingOffered: return stop(.unpayable)
    case .chargeOffered, .openOffered, .bearerOffered, .chainOffered, .channelOffered, .budgetShort, .answered, .inFlight, .alreadyOpen, .settledBefore,
      .sessionGone, .refused, .refusedUnmoved, .unavailable, .untouched, .touched:
      return stop(.rejected)
    }
  }

  private mutating func inspecting(_ event: Event, _ bearing: Bearing, _ repeats: Int) -> Action {
    switch event {
    case .untouched: return again(.bearing(bearing, repeats: repeats + 1), repeats, otherwise: .network)
    case .touched, .chargeOffered, .openOffered, .bearerOffered, .chainOffered, .channelOffered, .nothingOffered, .budgetShort, .toppedUp, .answered,
      .inFlight, .alreadyOpen, .settledBefore, .denied, .sessionGone, .refused, .refusedUnmoved, .unavailable, .lost:
      return stop(.answerLost)
    }
  }

  /// Money may have left: from here on nothing but the same credential is sent.
  private mutating func paying(_ event: Event, _ instrument: Instrument, _ repeats: Int) -> Action {
    switch event {
    case .answered: return deliver()
    case .lost, .inFlight:
      return again(.paying(instrument, repeats: repeats + 1), repeats, of: limit(instrument), otherwise: .answerLost)
    case .unavailable:
      return again(.paying(instrument, repeats: repeats + 1), repeats, of: limit(instrument), otherwise: .unavailable)
    case .alreadyOpen:
      guard instrument == .open || instrument == .channel else { return stop(.rejected) }
      if isKeyed { return bear(.opened) }
      state = .inspecting(.opened, repeats: repeats)
      return .inspect
    case .settledBefore: return stop(instrument == .open || instrument == .channel ? .rejected : .settled)
    case .denied: return stop(.denied)
    case .refusedUnmoved:
      // After a repetition an earlier presentation may be under way, whatever this one was told.
      guard instrument == .chain, repeats == 0, refusalRetries > 0 else { return stop(.rejected) }
      refusalRetries -= 1
      state = .asking(repeats: 0)
      return .ask
    case .chargeOffered, .openOffered, .bearerOffered, .chainOffered, .channelOffered, .nothingOffered, .budgetShort, .toppedUp, .sessionGone, .refused,
      .untouched, .touched:
      return stop(.rejected)
    }
  }

  private func limit(_ instrument: Instrument) -> Int {
    switch instrument {
    case .charge, .open: Self.repeatLimit
    case .chain, .channel: Self.chainRepeatLimit
    }
  }

  private mutating func again(_ next: State, _ repeats: Int, of limit: Int = repeatLimit, otherwise stopped: Stop) -> Action {
    guard repeats < limit else { return stop(stopped) }
    state = next
    return .repeatAfterPause(repeats: repeats + 1)
  }
}
