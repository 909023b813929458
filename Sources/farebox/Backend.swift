import Configuration
import Crypto
import Encoding
import Foundation
import Glibc
import Ledger
import Proxy

/// Carries out commands: by the running proxy over its socket, or on the ledger itself where none runs.
final class Backend {
  let settings: Settings
  private let client: AdministrationClient
  /// The ledger, once it was opened here.
  private var opened: (ledger: Ledger, administration: Administration)?

  /// How often the socket is asked again when a process has the ledger but does not answer yet (it is just starting).
  private static let attempts = 20
  private static let pause: UInt32 = 100_000
  /// How often a socket that is not there is looked for again.
  private static let socketLooks = 5

  init(_ settings: Settings) {
    self.settings = settings
    client = AdministrationClient(socketPath: settings.admin.socketPath)
  }

  deinit { opened?.ledger.close() }

  /// Carries a command out, and returns its answer.
  func run(_ command: Administration.Command, _ arguments: JSONObject = [:]) throws(CommandFailure) -> JSONValue {
    if let opened { return try direct(opened.administration, command, arguments) }
    var attempt = 0
    while true {
      if let answer = try posted(command, arguments) { return answer }
      switch try open() {
      case .success(let administration): return try direct(administration, command, arguments)
      case .failure(let error):
        guard case .locked = error, attempt < Self.attempts else { throw failure(error) }
        attempt += 1
        usleep(Self.pause)
      }
    }
  }

  /// Reads a page that only a running proxy has; nil where none runs.
  func page(_ path: String) throws(CommandFailure) -> [UInt8]? {
    do throws(AdministrationClient.Failure) {
      let answer = try client.get(path)
      guard answer.status == 200 else { throw .malformedAnswer }
      return answer.content
    } catch {
      guard error != .notRunning else { return nil }
      throw failure(error)
    }
  }

  /// Collects a list page by page.
  func list(_ command: Administration.Command, _ name: String, _ arguments: JSONObject = [:]) throws(CommandFailure) -> [JSONValue] {
    var all: [JSONValue] = []
    while true {
      var page = arguments
      page.set("offset", .integer(all.count))
      page.set("limit", .integer(Administration.pageLimit))
      let items = try run(command, page)[name]?.arrayValue ?? []
      all += items
      guard items.count == Administration.pageLimit else { return all }
    }
  }

  /// Asks the running proxy for something that only it can do. The socket may be changing hands just now, so it is looked for again.
  func operate(_ operation: AdministrationServer.Source.Operation) throws(CommandFailure) -> JSONValue {
    var found = try asked(operation)
    for _ in 0..<Self.socketLooks where found == nil {
      usleep(Self.pause)
      found = try asked(operation)
    }
    guard let answer = found else {
      throw CommandFailure(
        .unavailable, "not-running", "no proxy listens on \(settings.admin.socketPath)",
        advice: "start one with `farebox serve`, or name its configuration with --config")
    }
    return answer
  }

  // MARK: Over the socket

  /// The answer of a process that has one; nil where none listens, or it ended before it could look at what was asked.
  private func asked(_ operation: AdministrationServer.Source.Operation) throws(CommandFailure) -> JSONValue? {
    do throws(CommandFailure) { return try posted(operation.rawValue, [:]) } catch {
      guard error.code == "malformed-answer" || error.code == "socket" else { throw error }
      return nil
    }
  }

  private func posted(_ command: Administration.Command, _ arguments: JSONObject) throws(CommandFailure) -> JSONValue? {
    try posted(command.rawValue, arguments)
  }

  private func posted(_ name: String, _ arguments: JSONObject) throws(CommandFailure) -> JSONValue? {
    let answer: AdministrationClient.Answer
    do {
      answer = try client.post(name, arguments)
    } catch {
      guard error != .notRunning else { return nil }
      throw failure(error)
    }
    guard let value = try? JSON.parse(answer.content) else { throw failure(.malformedAnswer) }
    guard answer.status == 200 else { throw Self.failure(answer.status, value) }
    return value
  }

  private static func failure(_ status: UInt16, _ value: JSONValue) -> CommandFailure {
    let exit: ExitStatus
    switch status {
    case 400: exit = .usage
    case 404, 409: exit = .refused
    case 422: exit = .configuration
    case 503: exit = .unavailable
    default: exit = .systemError
    }
    return CommandFailure(
      exit, value["error"]?.stringValue ?? "unknown", value["message"]?.stringValue ?? "the proxy answered with status \(status)",
      advice: value["advice"]?.stringValue)
  }

  private func failure(_ failure: AdministrationClient.Failure) -> CommandFailure {
    let path = settings.admin.socketPath
    switch failure {
    case .notRunning: return CommandFailure(.unavailable, "not-running", "no proxy listens on \(path)")
    case .notPermitted:
      return CommandFailure(
        .notPermitted, "socket-not-permitted", "the proxy's socket \(path) belongs to another user", advice: "run the command as that user")
    case .pathTooLong: return CommandFailure(.configuration, "socket-path-too-long", "the path of the socket is too long: \(path)")
    case .timeout:
      return CommandFailure(
        .unavailable, "timeout", "the proxy did not answer on \(path) in time",
        advice: "what was asked for may have happened: look before repeating it, or repeat it with the same --reference")
    case .malformedAnswer: return CommandFailure(.unavailable, "malformed-answer", "what listens on \(path) is no farebox")
    case .failed(let number):
      return CommandFailure(.systemError, "socket", "the proxy's socket \(path) cannot be used: \(SystemText.of(number))")
    }
  }

  // MARK: On the ledger itself

  private func open() throws(CommandFailure) -> Result<Administration, LedgerError> {
    try requireLedger()
    let keys: KeyRing
    do { keys = try KeyRing.open(settings.keys.directory, at: .now()) } catch { throw CommandFailure(error) }
    var options = LedgerOptions(settings, checkpointKey: keys.checkpointKey)
    options.recordsLifecycle = false
    let ledger: Ledger
    do { ledger = try Ledger.open(options, at: .now()) } catch { return .failure(error) }
    let administration = Administration(settings: settings, ledger: ledger, keys: keys)
    opened = (ledger, administration)
    return .success(administration)
  }

  /// Only `farebox serve` makes a ledger: a command that looks in the wrong place must not find a new, empty one there, and say that all is done.
  private func requireLedger() throws(CommandFailure) {
    let file = settings.ledger.directory + "/ledger.db"
    guard access(file, F_OK) != 0 else { return }
    let number = errno
    // A restoration that was cut off is carried through by whoever opens the ledger next.
    if access(settings.ledger.directory + "/ledger.restore", F_OK) == 0 { return }
    guard number == ENOENT || number == ENOTDIR else {
      throw CommandFailure(
        .notPermitted, "folder-not-permitted", "the ledger in \(settings.ledger.directory) cannot be looked at: \(SystemText.of(number))",
        advice: "run the command as the user of the proxy")
    }
    let service = "/var/lib/farebox"
    let isElsewhere = !settings.ledger.directory.hasPrefix(service + "/") && access(service, F_OK) == 0
    throw CommandFailure(
      .noInput, "no-ledger", "no proxy listens on \(settings.admin.socketPath), and there is no ledger in \(settings.ledger.directory)",
      advice: isElsewhere
        ? "the state of a systemd service stands in \(service): name it with --state, FAREBOX_STATE or the configuration's state"
        : "`farebox serve` makes one when it first starts; --config and --state say where to look")
  }

  private func direct(
    _ administration: Administration, _ command: Administration.Command, _ arguments: JSONObject
  ) throws(CommandFailure) -> JSONValue {
    do throws(AdministrationError) {
      return try administration.run(command.rawValue, arguments, at: .now())
    } catch {
      throw CommandFailure(error)
    }
  }

  private func failure(_ error: LedgerError) -> CommandFailure {
    var failure = CommandFailure(error, settings)
    if case .locked = error {
      failure.advice = "that process does not answer on \(settings.admin.socketPath): see whether both use the same configuration and --state"
    }
    return failure
  }
}
