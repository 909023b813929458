import Agent
import ArgumentParser
import Glibc

/// What pays on chains, and by which rail.
struct ChainOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp("Pay by this rail only: prepaid, evm (of MPP) or x402; the latter two also of one chain, such as evm:base or x402:8453.", valueName: "rail"))
  var rail: String?

  @Option(
    name: .customLong("evm-key"),
    help: ArgumentHelp("The key of an account on EVM chains, in a file of mode 0600; else $FAREBOX_EVM_KEY_FILE names it.", valueName: "file"))
  var evmKey: String?

  @Option(
    name: .customLong("token"),
    help: ArgumentHelp(
      "A token that is paid with beside USDC on Base and Polygon: chain, contract, currency and decimals, and where it takes authorizations "
        + "its EIP-712 name and version, such as eip155:8453:0x…=eurc:6:EURC:2.",
      valueName: "token"))
  var tokens: [String] = []

  @Option(
    name: .customLong("escrow"),
    help: ArgumentHelp(
      "A contract that may hold deposits of sessions on a chain, such as eip155:8453:0x…: whoever wrote it can keep them, and none is trusted "
        + "that is not named.",
      valueName: "contract"))
  var escrows: [String] = []

  @Option(
    name: .customLong("retry-refused"),
    help: ArgumentHelp("Sign up to this many new payments where one was refused and nothing moved, all within --max.", valueName: "count"))
  var retryRefused: Int = 0

  func check() throws {
    if let rail, Self.rail(rail) == nil {
      throw ValidationError(
        "'\(rail)' is no rail: \(Rail.allCases.map(\.rawValue).joined(separator: ", ")), or one of the latter two and a chain, such as evm:base.")
    }
    for words in escrows where TrustedEscrow(words) == nil {
      throw ValidationError(
        "'\(words)' is no contract: it needs a chain and an address, such as eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e; "
          + "the address's case is its checksum.")
    }
    for words in tokens where TrustedToken(words) == nil {
      throw ValidationError(
        "'\(words)' is no token: it needs chain, contract, currency and decimals, such as eip155:84532:0x036CbD53842c5426634e7929541eC2318f3dCF7e=usdc:6 "
          + "(and :USDC:2 behind it where it takes authorizations); the address's case is its checksum.")
    }
    guard (0...10).contains(retryRefused) else { throw ValidationError("--retry-refused needs a number from 0 to 10.") }
  }

  /// The key that the options or the environment name; nil where neither does.
  func accountKey() throws(AgentError) -> AccountKey? {
    if let evmKey { return try AccountKey.load(path: evmKey) }
    // Safe because: getenv's string is copied at once, and nothing here changes the environment.
    guard let path = getenv("FAREBOX_EVM_KEY_FILE").map({ String(cString: $0) }), !path.isEmpty else { return nil }
    return try AccountKey.load(path: path)
  }

  /// Reads a rail, and the chain behind it.
  private static func rail(_ words: String) -> (rail: Rail, chain: UInt64?)? {
    let parts = words.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard let rail = Rail(rawValue: parts[0]) else { return nil }
    guard parts.count > 1 else { return (rail, nil) }
    guard rail != .prepaid, let chain = TrustedToken.chain(named: parts[1]) else { return nil }
    return (rail, chain)
  }

  /// Writes the choices into an agent's options. A token that was named stands in the place of a known one.
  func apply(to options: inout AgentOptions) {
    options.rail = rail.flatMap { Self.rail($0)?.rail }
    options.chain = rail.flatMap { Self.rail($0)?.chain }
    options.escrows = escrows.compactMap { TrustedEscrow($0) }
    options.tokens = tokens.compactMap { TrustedToken($0) } + TrustedToken.known
    options.refusalRetries = retryRefused
  }
}

/// The limits that are kept for all calls.
struct LimitOptions: ParsableArguments {
  @Flag(help: "Show the limits of all calls on all rails, and what was spent today.")
  var limits = false

  @Option(
    name: .customLong("limit-day"),
    help: ArgumentHelp("Keep a limit for each day (UTC), such as \"5 USDC\"; \"none USDC\" takes it away.", valueName: "amount"))
  var day: [String] = []

  @Option(name: .customLong("limit-payment"), help: ArgumentHelp("Keep a limit for each charge, deposit and top-up.", valueName: "amount"))
  var payment: [String] = []

  @Option(name: .customLong("limit-session"), help: ArgumentHelp("Keep a limit for each session.", valueName: "amount"))
  var session: [String] = []

  @Option(
    name: .customLong("limit-recipient"),
    help: ArgumentHelp("Keep who alone may be paid: addresses on chains, merchants of ledgers; \"any\": everybody.", valueName: "recipient"))
  var recipients: [String] = []

  /// Whether limits are shown or changed in place of a request.
  var isAsked: Bool { limits || !day.isEmpty || !payment.isEmpty || !session.isEmpty || !recipients.isEmpty }

  private var changes: [(PaymentLimits.Span, String)] {
    day.map { (.day, $0) } + payment.map { (.payment, $0) } + session.map { (.session, $0) }
  }

  func check() throws {
    for (span, words) in changes where Self.removal(words) == nil && SpendingLimit(words) == nil {
      throw ValidationError("'\(words)' is no amount for --limit-\(span.rawValue): it needs a number and a currency, such as \"5 USDC\".")
    }
    guard recipients.allSatisfy({ !$0.isEmpty }) else { throw ValidationError("--limit-recipient needs a name.") }
  }

  /// The currency code of words such as `none USDC`.
  private static func removal(_ words: String) -> String? {
    let parts = words.split(separator: " ")
    return parts.count == 2 && parts[0] == "none" ? parts[1].lowercased() : nil
  }

  /// Writes the changes into the kept limits.
  func apply(to limits: inout PaymentLimits) {
    for (span, words) in changes {
      if let code = Self.removal(words) { limits.remove(code, for: span) } else if let limit = SpendingLimit(words) { limits.set(limit, for: span) }
    }
    guard !recipients.isEmpty else { return }
    limits.setRecipients(recipients == ["any"] ? [] : recipients)
  }
}
