public import Encoding

/// Stops asking an upstream that fails too much of what it is asked, and tries it again after a while with a few requests.
public struct CircuitBreaker: Sendable {
  /// When it opens, and how it closes again.
  public struct Rules: Sendable, Hashable {
    /// Failed requests that open it, in percent of all in the window.
    public var share: Int
    /// Requests in the window before the share counts.
    public var requests: Int
    /// Nanoseconds that are looked back on.
    public var window: Int64
    /// Nanoseconds that it stays open.
    public var open: Int64
    /// Requests that are let through then; when so many have succeeded it closes.
    public var probes: Int

    public init(share: Int, requests: Int, window: Int64, open: Int64, probes: Int) {
      self.share = min(max(1, share), 100)
      self.requests = max(1, requests)
      self.window = max(Int64(CircuitBreaker.sliceCount), window)
      self.open = max(1, open)
      self.probes = max(1, probes)
    }
  }

  /// Whether requests are let through.
  public enum State: Equatable, Sendable {
    /// All are.
    case closed
    /// None is before then.
    case open(until: Instant)
    /// Some are: so many may still begin, and so many have succeeded. When `renewed` passes without enough outcomes (the
    /// clients of the probes left), as many begin anew.
    case halfOpen(left: Int, succeeded: Int, renewed: Instant)
  }

  /// Says whether a request may be sent.
  public enum Decision: Equatable, Sendable {
    case admitted
    /// Not now; perhaps in so many seconds (Retry-After), at least 1.
    case refused(retryAfter: UInt32)
  }

  /// What an outcome has changed.
  public enum Change: Equatable, Sendable {
    case opened
    case closed
  }

  private struct Slice {
    var requests = 0
    var failures = 0
  }

  /// Parts of the window that are forgotten one after the other.
  public static let sliceCount = 10

  private let rules: Rules
  public private(set) var state = State.closed
  private var slices: [Slice]
  /// The number of the newest slice, counted from the clock's start.
  private var newest = Int64.min

  /// Makes a closed one.
  public init(_ rules: Rules) {
    self.rules = rules
    slices = Array(repeating: Slice(), count: Self.sliceCount)
  }

  /// Says whether a request could be sent now, and counts nothing.
  public func decision(at now: Instant) -> Decision {
    switch state {
    case .closed: return .admitted
    case .open(let until): return until <= now ? .admitted : .refused(retryAfter: Self.seconds(from: now, to: until))
    case .halfOpen(let left, _, let renewed):
      return left > 0 || renewed <= now ? .admitted : .refused(retryAfter: Self.seconds(from: now, to: renewed))
    }
  }

  /// Decides whether a request is sent now; where only some are, it is counted among them.
  public mutating func admit(at now: Instant) -> Decision {
    let decision = decision(at: now)
    guard decision == .admitted else { return decision }
    switch state {
    case .closed: break
    case .open: state = .halfOpen(left: rules.probes - 1, succeeded: 0, renewed: now.advanced(nanoseconds: rules.open))
    case .halfOpen(let left, let succeeded, let renewed):
      state =
        left > 0
        ? .halfOpen(left: left - 1, succeeded: succeeded, renewed: renewed)
        : .halfOpen(left: rules.probes - 1, succeeded: succeeded, renewed: now.advanced(nanoseconds: rules.open))
    }
    return .admitted
  }

  /// Takes the outcome of a request that was sent.
  public mutating func record(failed: Bool, at now: Instant) -> Change? {
    switch state {
    case .closed: return count(failed, at: now)
    // A request that was sent before it opened.
    case .open: return nil
    case .halfOpen(let left, let succeeded, let renewed):
      if failed {
        trip(at: now)
        return .opened
      }
      guard succeeded + 1 >= rules.probes else {
        state = .halfOpen(left: left, succeeded: succeeded + 1, renewed: renewed)
        return nil
      }
      state = .closed
      return .closed
    }
  }

  private mutating func count(_ failed: Bool, at now: Instant) -> Change? {
    let slice = now.nanoseconds / (rules.window / Int64(Self.sliceCount))
    if newest == .min { newest = slice }
    // What lies further back than the window is forgotten whole.
    for _ in 0..<min(max(0, slice - newest), Int64(Self.sliceCount)) {
      newest += 1
      slices[place(newest)] = Slice()
    }
    newest = max(newest, slice)
    slices[place(newest)].requests += 1
    guard failed else { return nil }
    slices[place(newest)].failures += 1
    let requests = slices.reduce(0) { $0 + $1.requests }
    let failures = slices.reduce(0) { $0 + $1.failures }
    guard requests >= rules.requests, failures * 100 >= requests * rules.share else { return nil }
    trip(at: now)
    return .opened
  }

  private func place(_ slice: Int64) -> Int {
    let rest = Int(slice % Int64(Self.sliceCount))
    return rest < 0 ? rest + Self.sliceCount : rest
  }

  private mutating func trip(at now: Instant) {
    state = .open(until: now.advanced(nanoseconds: rules.open))
    for index in slices.indices { slices[index] = Slice() }
    newest = .min
  }

  private static func seconds(from now: Instant, to then: Instant) -> UInt32 {
    let wait = max(0, then.nanoseconds(since: now))
    return UInt32(clamping: max(1, wait / 1_000_000_000 + (wait % 1_000_000_000 > 0 ? 1 : 0)))
  }
}
