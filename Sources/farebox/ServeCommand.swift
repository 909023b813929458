import ArgumentParser
import Configuration
import Crypto
import Encoding
import Foundation
import Glibc
import Ledger
import Proxy

/// `farebox serve`: runs the proxy.
struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve", abstract: "Run the proxy.",
    discussion: """
      Keys and the ledger are created on first start. SIGTERM or SIGINT drains: nothing more is accepted, exchanges in flight \
      finish within the configured time, the ledger is closed; a second one ends at once. SIGHUP reads the configuration anew, as \
      `farebox reload` does. SIGUSR2 starts the program anew and hands everything over to it, as `farebox upgrade` does. SIGUSR1 rotates the audit log and opens the access log anew.

      The start-up summary goes to standard output, the log to standard error. With --json both are JSON.
      """)

  @Argument(help: ArgumentHelp("The configuration file.", valueName: "file")) var file: String?
  @Option(help: "How the log is written: logfmt or json.") var logFormat: OperationalLog.Format?
  @Option(help: "The least level that is written: debug, info, notice, warning, error or critical.") var logLevel = OperationalLog.Level.info
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let source = ConfigurationSource(path: try OperatorOptions.path(file ?? options.config), state: options.state)
      let loaded: LoadedConfiguration
      do throws(ConfigurationError) { loaded = try source.load() } catch { throw CommandFailure(configuration: error) }
      let log = OperationalLog(format: logFormat ?? (options.json ? .json : .logfmt), least: logLevel)
      for warning in loaded.warnings { log.write(.warning, "configuration", ["diagnostic": warning]) }
      do throws(Service.Failure) {
        let output = LineStream(STDOUT_FILENO)
        try Service.run(loaded, load: source.reload) { event in report(event, loaded.settings, log, output) }
      } catch {
        throw CommandFailure(error, loaded.settings)
      }
      log.write(.notice, "stopped")
    }
  }

  // MARK: The log

  private func report(_ event: Service.Event, _ settings: Settings, _ log: OperationalLog, _ output: LineStream) {
    switch event {
    case .ledgerOpened(let availability):
      log.write(availability == .selling ? .info : .warning, "ledger open", ["folder": settings.ledger.directory, "state": "\(availability)"])
    case .running(let ports):
      for line in summary(settings, ports) { output.write(line) }
      log.write(.notice, "running", ["realm": settings.realm, "routes": "\(settings.routes.count)"])
    case .ledger(let notice): report(notice, log)
    case .relay(let notice): report(notice, log)
    case .checkpoint(let note):
      if !output.write(note) { log.write(.error, "a checkpoint is not shipped: nobody reads standard output") }
    case .rotating: log.write(.notice, "audit log is rotated, the access log is opened anew", ["signal": "SIGUSR1"])
    case .reloaded(let warnings):
      for warning in warnings { log.write(.warning, "configuration", ["diagnostic": warning]) }
      log.write(.notice, "configuration loaded")
    case .reloadFailed(let failure):
      log.write(
        .error, "the configuration is not used, nothing has changed",
        ["error": failure.code, "cause": failure.message, "advice": failure.advice ?? ""])
    case .socketsUnclaimed(let count):
      log.write(.warning, "sockets were passed to this process that no [[listen]] names: they are closed", ["count": "\(count)"])
    case .awaitingLedger: log.write(.notice, "ready: waiting for the former process to release the ledger")
    case .handingOver(let process): log.write(.notice, "the new program is ready: handing over", ["process": "\(process)"])
    case .handedOver(let process): log.write(.notice, "handed over: this process ends", ["process": "\(process)"])
    case .upgradeFailed(let failure):
      log.write(
        .error, "the program was not replaced", ["error": failure.code, "cause": failure.message, "advice": failure.advice ?? ""])
    case .draining: log.write(.notice, "draining: a second signal ends at once", ["limit": "\(settings.timeouts.drain)"])
    case .ending: log.write(.warning, "ending at once")
    case .closing: log.write(.info, "closing the ledger")
    }
  }

  private func report(_ notice: LedgerNotice, _ log: OperationalLog) {
    switch notice {
    case .commitFailed(let error):
      log.write(.critical, "a commit failed: paid routes answer 503 until the ledger is read back", ["error": "\(error)"])
    case .reopenFailed(let error): log.write(.error, "the ledger cannot be read back yet", ["error": "\(error)"])
    case .reopened(let availability): log.write(.notice, "the ledger is read back", ["state": "\(availability)"])
    case .availability(.selling): log.write(.notice, "selling again")
    case .availability(let availability):
      log.write(.error, "the disk is nearly full: nothing new is sold, closes and refunds go on", ["state": "\(availability)"])
    case .auditBehind(let error):
      log.write(.error, "the audit file cannot be written: its lines are kept in the ledger", ["error": "\(error)"])
    case .auditCaughtUp: log.write(.notice, "the audit file is complete again")
    case .auditRemoved(let files, let last): log.write(.notice, "files of the audit log were removed because of their age", ["files": "\(files)", "last-line": "\(last)"])
    case .restorationFinished: log.write(.warning, "a restoration that was cut off was carried through: the ledger is the backup's, and its sessions wait for `farebox session confirm`")
    case .maintenanceFailed(let error): log.write(.warning, "maintenance of the ledger failed, and is tried again", ["error": "\(error)"])
    }
  }

  private func report(_ notice: ServerNotice, _ log: OperationalLog) {
    switch notice {
    case .upstreamFails(let upstream, let fault):
      log.write(.error, "an upstream fails requests", ["upstream": upstream, "fault": fault.rawValue])
    case .upstreamServesAgain(let upstream): log.write(.notice, "an upstream serves again", ["upstream": upstream])
    case .serverDown(let upstream, let server):
      log.write(.error, "a server is down: its checks fail", ["upstream": upstream, "server": server])
    case .serverUp(let upstream, let server): log.write(.notice, "a server is up", ["upstream": upstream, "server": server])
    case .serverEjected(let upstream, let server, let milliseconds):
      log.write(.warning, "a server is left alone: it fails requests", ["upstream": upstream, "server": server, "milliseconds": "\(milliseconds)"])
    case .serverReturned(let upstream, let server):
      log.write(.notice, "a server gets requests again", ["upstream": upstream, "server": server])
    case .breakerOpened(let upstream):
      log.write(.error, "too much of an upstream fails: requests are answered 503 for a while", ["upstream": upstream])
    case .breakerClosed(let upstream): log.write(.notice, "an upstream gets requests again", ["upstream": upstream])
    case .pricerFails(let url): log.write(.error, "a pricer does not say what requests cost", ["pricer": url])
    case .chain(let chain, let notice): report(notice, of: chain, log)
    case .descriptorsExhausted:
      log.write(.error, "no descriptor is left: raise the limit of open files (ulimit -n)")
    case .usageMissing(let route):
      log.write(.warning, "a response of route \"\(route)\" reported no usage that could be read: it was billed by the estimate, and units not at all")
    case .accessLogDrops: log.write(.error, "lines of the access log are lost: its file cannot be written, or not fast enough")
    case .accessLogStays(let code):
      log.write(.error, "the access log cannot be opened anew: its lines go on into the former file", ["cause": SystemText.of(code)])
    case .certificatesRead(let place): log.write(.notice, "certificates are read anew", ["of": place])
    case .certificatesRefused(let place, let error):
      log.write(
        .error, "new certificates cannot be used, the former ones stay",
        ["of": place, "file": error.path, "expected": error.expected, "advice": error.advice ?? ""])
    case .certificateEnds(let place, let end): log.write(.warning, "a certificate must be renewed", ["of": place, "ends": "\(end)"])
    case .connectionsExhausted: log.write(.warning, "as many clients are connected as may be; more have to wait")
    }
  }

  private func report(_ notice: ChainNotice, of chain: String, _ log: OperationalLog) {
    switch notice {
    case .unusable(let cause):
      log.write(.error, "nothing can be settled on a chain: it is not offered", ["chain": chain, "cause": cause])
    case .usable: log.write(.notice, "a chain can be used again", ["chain": chain])
    case .gasMoneyLow(let signer, let payments):
      log.write(.warning, "a signer has little money for gas: fill it up", ["chain": chain, "signer": signer, "payments": "\(payments)"])
    case .transactionReplaced(let nonce, let transaction, let versions):
      log.write(
        .warning, "a stuck transaction is sent again with a higher fee",
        ["chain": chain, "nonce": "\(nonce)", "transaction": transaction, "versions": "\(versions)"])
    case .transactionStuck(let nonce, let transaction):
      log.write(
        .error, "a transaction is stuck: its fee cannot be raised",
        ["chain": chain, "nonce": "\(nonce)", "transaction": transaction, "advice": "raise gas-limit-price, or see whether the nodes are well"])
    case .nonceTaken(let nonce, let transaction):
      log.write(
        .error, "another program uses the signer's key: it has taken a nonce",
        ["chain": chain, "nonce": "\(nonce)", "transaction": transaction, "advice": "give each program a key of its own"])
    case .facilitatorFails: log.write(.error, "a facilitator does not answer with what can be read", ["chain": chain])
    case .paymentUnresolved(let payment):
      log.write(
        .error, "what became of a payment is not known, and its time is over",
        ["chain": chain, "payment": payment, "advice": "look for its transfer on the chain; farebox reload asks once more"])
    case .escrowFails(let escrow, let cause):
      log.write(.error, "no sessions are sold on a chain: its escrow cannot be used", ["chain": chain, "escrow": escrow, "cause": cause])
    case .channelForced(let channel):
      log.write(.warning, "a payer closes a channel by force: it is closed with what was signed", ["chain": chain, "channel": channel])
    case .channelStuck(let channel, let cause):
      log.write(.error, "a channel could not be settled or closed, and is tried again", ["chain": chain, "channel": channel, "cause": cause])
    case .channelVanished(let channel):
      log.write(.error, "the chain has taken the opening of a channel back: nothing is sold on it until it is there again", ["chain": chain, "channel": channel])
    case .channelUnreadable(let channel):
      log.write(.error, "a channel cannot be read though its chain can be asked: nothing is sold on it until it can be", ["chain": chain, "channel": channel])
    case .channelLost(let channel, let amount):
      log.write(.error, "a channel was closed with less than was spent", ["chain": chain, "channel": channel, "baseUnits": amount])
    }
  }

  /// Says on standard output what runs, so that whoever started it sees that it does.
  private func summary(_ settings: Settings, _ ports: [UInt16]) -> [String] {
    let listeners = zip(settings.listeners, ports).map { listener, port in
      guard case .address(let address, _) = listener.endpoint else { return listener.words }
      return (listener.tls == nil ? "http://" : "https://") + (address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)")
    }
    let paid = settings.routes.count(where: \.isPriced)
    let routes = "\(paid) paid and \(settings.routes.count - paid) free route\(settings.routes.count == 1 ? "" : "s")"
    let summary: JSONValue = [
      "listening": .array(listeners.map { .string($0) }), "realm": .string(settings.realm), "paidRoutes": .integer(paid),
      "routes": .integer(settings.routes.count), "ledger": .string(settings.ledger.directory), "audit": .string(settings.audit.path),
      "socket": .string(settings.admin.socketPath), "process": .integer(ProcessInfo.processInfo.processIdentifier),
    ]
    guard !options.json else { return [String(decoding: JSON.serialize(summary), as: UTF8.self)] }
    let rows = [
      ["realm", settings.realm], ["ledger", settings.ledger.directory], ["audit log", settings.audit.path], ["operators", settings.admin.socketPath],
    ]
    return ["farebox serves \(routes) on \(listeners.joined(separator: ", "))"] + Columns.lines(rows, indent: "  ")
  }
}

extension CommandFailure {
  /// Why the proxy did not start.
  init(_ failure: Service.Failure, _ settings: Settings) {
    switch failure {
    case .keys(let error): self.init(error)
    case .ledger(let error): self.init(error, settings)
    case .server(let error): self.init(error, settings)
    case .socket(let error):
      let path = settings.admin.socketPath
      switch error {
      case .cannotBind(let code) where code == EADDRINUSE:
        self.init(.unavailable, "socket-in-use", "another proxy answers on the operators' socket \(path)", advice: "give this one its own --state")
      default:
        self.init(
          .cannotCreate, "socket", "the operators' socket \(path) cannot be made: \(SystemText.of(error.code))",
          advice: "its folder must be writable for this user: [admin] socket, or --state")
      }
    case .privileges(let error):
      let user = settings.process.user ?? ""
      self.init(
        .notPermitted, "privileges", "this process cannot go on as \(user)\(settings.process.group.map { ":\($0)" } ?? ""): \(SystemText.of(error.code))",
        advice: "correct user and group in the configuration")
    case .notRoot:
      self.init(
        .notPermitted, "not-root", "only root can go on as another user: \(settings.process.user ?? "")",
        advice: "start as root, or as that user, or remove user from the configuration")
    case .folderNotOwned(let path):
      self.init(
        .notPermitted, "folder-not-owned", "the folder \(path) does not belong to \(settings.process.user ?? "")",
        advice: "give it to that user with everything in it: chown -R")
    case .unreadable(let failure):
      self.init(
        .notPermitted, "unreadable", "as \(settings.process.user ?? "another user") this proxy could not read its configuration anew: \(failure.message)",
        advice: "make the files readable for that user: reloads and upgrades are done without root's rights")
    case .pidFile(let error):
      self.init(
        .cannotCreate, "pid-file", "the PID file \(settings.process.pidFile ?? "") cannot be written: \(SystemText.of(error.code))")
    case .signals(let error): self.init(.systemError, "thread", "no thread can be started: \(SystemText.of(error.code))")
    }
  }

  private init(_ error: ServerError, _ settings: Settings) {
    switch error {
    case .cannotListen(let number, let io):
      let words = settings.listeners.indices.contains(number) ? settings.listeners[number].words : "a listener"
      switch io.code {
      case EADDRINUSE:
        self.init(.unavailable, "address-in-use", "\(words) is in use by another program", advice: "stop it, or choose another address in [[listen]]")
      case EACCES, EPERM:
        self.init(
          .notPermitted, "address-not-permitted", "this user may not listen on \(words)",
          advice: "choose a port from 1024 on, or give the program CAP_NET_BIND_SERVICE")
      case EADDRNOTAVAIL:
        self.init(.configuration, "address-not-available", "\(words) is no address of this machine", advice: "correct [[listen]] in the configuration")
      default: self.init(.systemError, "cannot-listen", "\(words) cannot be listened on: \(SystemText.of(io.code))")
      }
    case .accessLog(let io):
      self.init(.cannotCreate, "access-log", "the access log cannot be opened: \(SystemText.of(io.code))", advice: "correct [access-log] in the configuration")
    case .certificates(let error):
      self.init(.configuration, "certificates", "\(error.path) cannot be used: expected \(error.expected)", advice: error.advice ?? "`farebox check` says more")
    case .signer(let chain, let error):
      self.init(
        .configuration, "signer", "the signer's key of [[chain]] number \(chain + 1) cannot be used: expected \(error.expected)",
        advice: "correct `signer`, or the file that it names")
    case .system(let io): self.init(.systemError, "system", "the system refused a thread or descriptor: \(SystemText.of(io.code))")
    case .routesInvalid, .fieldsInvalid, .upstreamUnknown, .addressInvalid, .offersInvalid:
      self.init(.configuration, "settings", "the configuration cannot be served: \(error)", advice: "`farebox check` says more")
    }
  }
}
