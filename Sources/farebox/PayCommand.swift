import Agent
import ArgumentParser

/// `farebox pay`: asks for a URL as curl does, and pays for it where that is asked and allowed.
struct Pay: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pay",
    abstract: "Request a URL, and pay for it from a prepaid wallet or on a chain.",
    discussion: """
      Nothing is paid without --max (or --deposit, or --budget): then the price is shown, and the exit status is 80. With it, the server's \
      challenge and invoice are checked, the price is compared with --max, and the payment is made once; the answer goes \
      to standard output or to the file of -o. Redirects are not followed.

      A prepaid wallet pays where there is one and the server takes it. Else a payment is signed with the key of --evm-key, by the method evm of \
      MPP or by x402 (scheme exact), and submitted by the server: an authorization of the token, or a permit of Permit2, which holds for an hour \
      at most. Only tokens that are known here are paid with. While a payment's fate is unknown the same one is shown again, never a new one signed.

      A session on a chain (of the method evm) is a payment channel: its deposit goes by a signed authorization into a contract that --escrow \
      names, and each request signs for what it costs, a stream for what has come and a little more, never beyond what was delivered by this \
      agent's own count. --max bounds the deposit, --budget and --rate what is signed. --close has the server settle what was spent, and the \
      contract pays back the rest. What is signed is written down before it is sent.

      --limit-day, --limit-payment, --limit-session and --limit-recipient keep limits for all later calls on all rails. What is paid is counted \
      before it leaves, and what a payment's refusal or a session's end brings back is not given back to the day.

      A session that is open from an earlier call is used first, whatever --max says: its deposit has left the wallet \
      already. A session is opened where a stream is asked for ("Accept: text/event-stream", or "stream": true in JSON data) \
      and where what comes is metered; else a charge pays where one is offered. --session and --charge decide otherwise.

      Where a stream waits for money, the session is topped up: by what the rest costs where its length is known, else by \
      --step, or the suggested deposit and then twice as much each time. --max bounds what leaves the wallet, --budget what the \
      call may cost in all (a session that holds more is then left alone), --rate what any minute of it may cost: a top-up \
      waits until the minute allows it, and what no minute allows is not paid.

      Where the connection is lost in the middle, the rest is asked for if it costs nothing again (the answer is free, or paid by \
      what is delivered): of an event stream by Last-Event-ID after the time that its "retry" names, of a download by Range where the \
      server has a strong entity tag. Event streams are then written event by event. A POST is sent again only with an \
      Idempotency-Key, which is made up where there is none, so that the server can tell.

      Keys, open sessions and the servers' keys are kept in $XDG_CONFIG_HOME/farebox (by default ~/.config/farebox).

      Exit status:
      \(PayExit.table)
      """)

  @OptionGroup(title: "Request") var request: RequestOptions
  @OptionGroup(title: "Output") var output: OutputOptions
  @OptionGroup(title: "Payment") var payment: PaymentOptions
  @OptionGroup(title: "Rails") var chain: ChainOptions
  @OptionGroup(title: "Instead of a request") var action: ActionOptions
  @OptionGroup(title: "Limits of all calls, instead of a request") var limits: LimitOptions

  @Argument(help: ArgumentHelp("The address to ask.", valueName: "URL"))
  var url: String?

  func validate() throws {
    let actions = [action.quote, action.wallet, action.close, action.sessions, action.newKey, action.forget, limits.isAsked].count { $0 }
    guard actions <= 1 else { throw ValidationError("--quote, --wallet, --close, --sessions, --new-key, --forget and limits exclude each other.") }
    guard url == nil || !limits.isAsked else { throw ValidationError("Limits are kept for all calls: set them without a URL, before it is asked.") }
    guard url != nil || action.close || action.sessions || action.newKey || limits.isAsked else { throw ValidationError("Missing expected argument '<URL>'.") }
    guard !(payment.session && payment.charge) else { throw ValidationError("--session and --charge exclude each other.") }
    guard !(request.head && !request.content.isEmpty) else { throw ValidationError("--head sends no data.") }
    try payment.check()
    try chain.check()
    try limits.check()
    if let seconds = request.maxTime, !(seconds > 0 && seconds < 1_000_000) {
      throw ValidationError("--max-time needs a number of seconds above 0.")
    }
  }

  func run() throws {
    do throws(PayFailure) {
      if limits.isAsked { return try PayLimits(options: self).run() }
      if action.newKey { return try PayWallet(options: self).makeKey() }
      if action.wallet { return try PayWallet(options: self).report() }
      if action.close { return try PayWallet(options: self).close() }
      if action.sessions { return try PaySessions(options: self).run() }
      if action.forget { return try PayWallet(options: self).forget() }
      if action.quote { return try PayQuote(options: self).run() }
      try PayFetch(options: self).run()
    } catch {
      throw error.report()
    }
  }

  /// The agent that the options describe.
  func agent() throws(PayFailure) -> Agent {
    var options = AgentOptions()
    options.allowsPlaintext = request.plaintext
    options.maximum = payment.max.flatMap { SpendingLimit($0) }
    options.deposit = payment.deposit.flatMap { SpendingLimit($0) }
    options.budget = payment.budget.flatMap { SpendingLimit($0) }
    options.rate = payment.rate.flatMap { SpendingLimit(perMinute: $0) }
    options.step = payment.step.flatMap { SpendingLimit($0) }
    options.preference = payment.charge ? .charge : payment.session ? .session : .offered
    options.limits.whole = request.maxTime.map { .milliseconds(Int64($0 * 1000)) }
    chain.apply(to: &options)
    return try failing { () throws(AgentError) in
      let keeper = try Keeper.standard()
      return Agent(options: options, keeper: keeper, walletKey: try walletKey(keeper), accountKey: try chain.accountKey())
    }
  }

  private func walletKey(_ keeper: Keeper) throws(AgentError) -> WalletKey? {
    guard let path = payment.key else { return try keeper.walletKey() }
    guard let key = try WalletKey.load(path: path) else { throw .keeper(.unreadable(path: path, code: 2)) }
    return key
  }

  /// The address of the argument.
  func address() throws(PayFailure) -> WebAddress {
    try failing { () throws(AgentError) in try WebAddress(url ?? "") }
  }
}

/// Turns an agent's error into what a person reads.
func failing<R>(_ body: () throws(AgentError) -> R) throws(PayFailure) -> R {
  do throws(AgentError) { return try body() } catch { throw PayFailure(error) }
}

struct RequestOptions: ParsableArguments {
  @Option(name: [.customShort("X"), .customLong("request")], help: ArgumentHelp("The method.", valueName: "method"))
  var method: String?

  @Option(name: [.customShort("H"), .customLong("header")], help: ArgumentHelp("A header field, such as 'Accept: text/plain'.", valueName: "field"))
  var headers: [String] = []

  @Option(
    name: [.customShort("d"), .customLong("data")], parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Data to send, by POST; @file reads a file, @- standard input. Line ends of files are left out.", valueName: "data"))
  var data: [String] = []

  @Option(
    name: .customLong("data-binary"), parsing: .unconditionalSingleValue,
    help: ArgumentHelp("Data to send as it is, by POST; @file, @-.", valueName: "data"))
  var dataBinary: [String] = []

  @Flag(name: [.customShort("I"), .customLong("head")], help: "Ask for the head only.")
  var head = false

  @Option(name: .customLong("max-time"), help: ArgumentHelp("The most seconds that everything may take.", valueName: "seconds"))
  var maxTime: Double?

  @Flag(help: "Allow plain HTTP to other machines. Whoever is on the way can read the payment.")
  var plaintext = false

  var content: [String] { data + dataBinary }
}

struct OutputOptions: ParsableArguments {
  @Option(name: [.customShort("o"), .customLong("output")], help: ArgumentHelp("Write the body to a file.", valueName: "file"))
  var output: String?

  @Flag(name: [.customShort("i"), .customLong("include")], help: "Write the head of the answer before its body.")
  var include = false

  @Flag(name: [.customShort("s"), .customLong("silent")], help: "Show no progress and no notes; errors are still told.")
  var silent = false

  @Flag(name: [.customShort("v"), .customLong("verbose")], help: "Tell the challenge, the check of its invoice, and the receipt.")
  var verbose = false

  @Flag(help: "Print what was paid as JSON: on standard output where -o takes the body, else on standard error.")
  var json = false
}

struct PaymentOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The most that may leave the wallet for this call, such as \"0.05 USDC\".", valueName: "amount"))
  var max: String?

  @Option(help: ArgumentHelp("The most that this call may cost in all, what an open session holds included.", valueName: "amount"))
  var budget: String?

  @Option(help: ArgumentHelp("The most that this call may cost within any minute, such as \"0.01 USDC/min\".", valueName: "amount/min"))
  var rate: String?

  @Option(help: ArgumentHelp("What one top-up adds, in place of growing steps.", valueName: "amount"))
  var step: String?

  @Flag(help: "Pay by a session, opening one if need be.")
  var session = false

  @Flag(help: "Pay by a single charge.")
  var charge = false

  @Option(help: ArgumentHelp("The deposit of a new session, in place of the server's suggestion.", valueName: "amount"))
  var deposit: String?

  @Option(help: ArgumentHelp("The wallet's key, in place of the kept one.", valueName: "file"))
  var key: String?

  /// Throws where an amount is none, or where two of them are of different currencies.
  func check() throws {
    var codes: Set<String> = []
    for (name, words) in [("--max", max), ("--deposit", deposit), ("--budget", budget), ("--step", step)] {
      guard let words else { continue }
      guard let limit = SpendingLimit(words) else {
        throw ValidationError("'\(words)' is no amount for \(name): it needs a number and a currency, such as \"0.05 USDC\".")
      }
      codes.insert(limit.code)
    }
    if let rate {
      guard let limit = SpendingLimit(perMinute: rate) else {
        throw ValidationError("'\(rate)' is no amount for --rate: it needs a number, a currency and \"/min\", such as \"0.01 USDC/min\".")
      }
      codes.insert(limit.code)
    }
    guard codes.count <= 1 else { throw ValidationError("The amounts must be of one currency.") }
  }
}

struct ActionOptions: ParsableArguments {
  @Flag(
    name: [.customLong("quote"), .customLong("dry-run")],
    help: "Show what the URL costs: its offers on all rails, and its invoice, verified. Nothing is paid.")
  var quote = false

  @Flag(help: "Show the wallet at the URL's ledger: balance, limits and what is left of them, open sessions.")
  var wallet = false

  @Flag(help: "Close the kept sessions at the URL's server (all of them without a URL), those on chains included; what is left is refunded.")
  var close = false

  @Flag(help: "List the kept sessions with the URL's server (all of them without a URL), those on chains included. Nobody is asked.")
  var sessions = false

  @Flag(name: .customLong("new-key"), help: "Make a wallet key (at --key, or the kept one) and print the wallet's id.")
  var newKey = false

  @Flag(help: "Forget the keys that the URL's server had before.")
  var forget = false
}
