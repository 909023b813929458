import ArgumentParser
import Bytes
import Configuration
import Crypto
import Encoding
import Foundation
import Glibc
import Ledger
import Proxy

/// `farebox audit …`: what happened.
struct AuditCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "audit", abstract: "Read and verify the log of everything that happened.", subcommands: [AuditTail.self, AuditVerify.self])
}

struct AuditTail: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tail", abstract: "Show the audit log's last events, and go on with -f.",
    discussion: """
      Checkpoints are left out unless --all asks for them. With --json the lines come as they stand in the file: one canonical \
      JSON object each.
      """)

  @Option(name: [.customShort("n"), .customLong("lines")], help: ArgumentHelp("How many events.", valueName: "count")) var count = 10
  @Flag(name: [.customShort("f"), .customLong("follow")], help: "Go on showing events as they happen.") var follows = false
  @Flag(help: "Show checkpoints too.") var all = false
  @Option(help: ArgumentHelp("Only events of one session; its first digits are enough.", valueName: "session")) var session: String?
  @Option(help: ArgumentHelp("Only events of one wallet.", valueName: "did:key:…")) var wallet: String?
  @Option(help: ArgumentHelp("The log's file, in place of the configured one.", valueName: "file")) var file: String?
  @OptionGroup var options: OperatorOptions

  func validate() throws {
    guard (0...10_000_000).contains(count) else { throw ValidationError("-n needs a number from 0 to 10000000.") }
  }

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      let path = file ?? settings.audit.path
      guard access(path, R_OK) == 0 else {
        throw CommandFailure(
          errno == EACCES ? .notPermitted : .noInput, "no-audit-log", "the audit log cannot be read: \(path): \(SystemText.of(errno))",
          advice: "it is made when the proxy first starts; --config and --state say where to look")
      }
      let text = AuditText(settings, hasColours: Output.hasColours)
      let follower = follows ? AuditFollower(path: path) : nil
      var last: [String] = []
      var lines = AuditLines(path: path)
      while last.count < count, let line = lines.next() { if matches(line) { last.append(line) } }
      if !options.json, count > 0 { Output.line(text.header) }
      for line in last.reversed() { show(line, text) }
      // The follower began before the last lines were read, so that none is missed; those that came in between are not shown twice.
      let shown = Set(last)
      follower?.run { if matches($0), !shown.contains($0) { show($0, text) } }
    }
  }

  private func show(_ line: String, _ text: AuditText) { Output.line(options.json ? line : text.line(line)) }

  private func matches(_ line: String) -> Bool {
    // JCS sorts the members, and no member of a checkpoint sorts before its event.
    guard all || !line.hasPrefix("{\"event\":\"checkpoint\"") else { return false }
    guard session != nil || wallet != nil else { return true }
    guard let object = try? JSON.parse(line) else { return false }
    if let session, object["session"]?.stringValue?.hasPrefix(session.lowercased()) != true { return false }
    if let wallet, object["wallet"]?.stringValue != wallet { return false }
    return true
  }
}

struct AuditVerify: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify", abstract: "Verify the audit log offline: chain, signatures, tree and totals.",
    discussion: """
      Names the first line that was altered, removed or reordered; exit status 2 then. A log that was cut off at its end is \
      only noticed against something kept elsewhere: give a checkpoint's note or a receipt with --pin.

      Without --key, the checkpoint key is read from the proxy's keys folder. Elsewhere, --file, --name and --key verify a copy: \
      `farebox keys list` prints the verifier.
      """)

  @Option(help: ArgumentHelp("A checkpoint or receipt kept elsewhere: a file, or the text itself.", valueName: "pin")) var pin: String?
  @Option(help: ArgumentHelp("The log's file, in place of the configured one.", valueName: "file")) var file: String?
  @Option(help: ArgumentHelp("The verifier key (name+hash+key), in place of the keys folder's.", valueName: "verifier")) var key: String?
  @Flag(help: "The oldest files are kept elsewhere: chain and signatures are verified then, tree and totals cannot be.")
  var beginsLater = false
  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let (name, keys, path) = try sources()
      var report = try verify(name, keys, path)
      // A line that is being written this moment looks like one that was cut short.
      if report.defect?.fault == .partial {
        usleep(300_000)
        report = try verify(name, keys, path)
      }
      options.show(AuditReportText.json(report)) { AuditReportText.lines(report) }
      if let defect = report.defect {
        throw CommandFailure(.faulty, "audit-\(AuditReportText.code(defect.fault))", "the audit log does not verify: \(AuditReportText.words(defect))")
      }
    }
  }

  private func verify(_ name: String, _ keys: [Ed25519.PublicKey], _ path: String) throws(CommandFailure) -> AuditReport {
    do {
      var verifier = AuditVerifier(realm: name, keys: keys, pin: try parsedPin(), mayBeginLater: beginsLater)
      return try verifier.verify(path: path)
    } catch let failure as CommandFailure {
      throw failure
    } catch LedgerError.file(_, let code) {
      throw CommandFailure(
        code == EACCES ? .notPermitted : .noInput, "no-audit-log", "the audit log cannot be read: \(path): \(SystemText.of(code))",
        advice: "it is made when the proxy first starts; --config and --state say where to look")
    } catch {
      throw CommandFailure(.ioError, "audit-log", "the audit log cannot be read: \(path)")
    }
  }

  /// The log's name, the keys that may have signed, and the file.
  private func sources() throws(CommandFailure) -> (String, [Ed25519.PublicKey], String) {
    if let key {
      let (name, publicKey) = try Self.parse(verifier: key)
      if let file { return (name, [publicKey], file) }
      return (name, [publicKey], try options.settings().audit.path)
    }
    let settings = try options.settings()
    guard access(settings.keys.directory, F_OK) == 0 else {
      throw CommandFailure(
        .noInput, "no-keys", "there are no keys in \(settings.keys.directory)",
        advice: "--config and --state say where to look; --key VERIFIER verifies without the folder")
    }
    do {
      let ring = try KeyRing.open(settings.keys.directory, at: .now())
      return (settings.ledger.name, [ring.checkpointKey.publicKey], file ?? settings.audit.path)
    } catch {
      throw CommandFailure(error)
    }
  }

  /// Reads `name/audit+hash+base64(0x01 key)`.
  private static func parse(verifier: String) throws(CommandFailure) -> (String, Ed25519.PublicKey) {
    let parts = verifier.split(separator: "+", maxSplits: 2).map { String($0) }
    guard parts.count == 3, parts[0].hasSuffix("/audit"), let octets = Base64.decode(parts[2]), octets.first == 0x01,
      let key = Ed25519.PublicKey(bytes: octets.dropFirst()), SignedNote.verifierKey(name: parts[0], key: key) == verifier
    else {
      throw CommandFailure(.usage, "malformed-verifier", "--key is no verifier key", advice: "`farebox keys list` prints it: NAME/audit+HASH+KEY")
    }
    return (String(parts[0].dropLast("/audit".count)), key)
  }

  private func parsedPin() throws(CommandFailure) -> AuditPin? {
    guard let pin else { return nil }
    let octets = FileManager.default.contents(atPath: pin).map { [UInt8]($0) } ?? Array(pin.utf8)
    guard let parsed = AuditPin(parsing: octets) else {
      throw CommandFailure(
        .usage, "malformed-pin", "--pin is neither a checkpoint nor a receipt with logSize and logRoot",
        advice: "a checkpoint is the member `note` of a checkpoint's line; a receipt is the value of Payment-Receipt")
    }
    return parsed
  }
}

/// Shows what a verification found.
enum AuditReportText {
  static func lines(_ report: AuditReport) -> [String] {
    var lines: [String] = []
    if report.defect == nil {
      let range = report.lineCount == 0 ? "" : " (\(report.firstSequence) to \(report.lastSequence))"
      lines.append("\(report.lineCount) lines\(range), \(report.checkpointCount) checkpoints: chain and signatures hold\(report.isProven ? ", tree and totals too" : "")")
    }
    if report.isBased { lines.append("lines before \(report.firstSequence) were removed because of their age; what they came to is proved by the checkpoints that follow") }
    if !report.isProven { lines.append("older files are kept elsewhere: tree and totals could not be computed from line \(report.firstSequence) on") }
    if let checkpoint = report.checkpoint { lines.append("last checkpoint: size \(checkpoint.size), root \(checkpoint.root.hex)") }
    if report.uncoveredCount > 0 { lines.append("\(report.uncoveredCount) lines behind it are chained, and not signed yet") }
    if report.isPinned { lines.append("the log holds what the pin names") }
    if report.mayBeCut, report.defect == nil {
      lines.append("whether lines are missing at the end cannot be told without --pin: a checkpoint or receipt kept elsewhere")
    }
    return lines
  }

  static func json(_ report: AuditReport) -> JSONValue {
    var object: JSONObject = [
      "valid": .bool(report.isValid), "lines": .integer(report.lineCount), "first": .integer(report.firstSequence),
      "last": .integer(report.lastSequence), "checkpoints": .integer(report.checkpointCount), "unsigned": .integer(report.uncoveredCount),
      "proven": .bool(report.isProven), "pinned": .bool(report.isPinned), "mayBeCut": .bool(report.mayBeCut),
    ]
    if let checkpoint = report.checkpoint {
      object.set("checkpoint", ["size": .integer(checkpoint.size), "root": .string(checkpoint.root.hex)])
    }
    if let defect = report.defect {
      object.set(
        "defect",
        [
          "fault": .string(code(defect.fault)), "file": .string(defect.place.file), "line": .integer(defect.place.line),
          "sequence": .integer(defect.place.sequence), "message": .string(words(defect)),
        ])
    }
    return .object(object)
  }

  static func code(_ fault: AuditReport.Fault) -> String {
    switch fault {
    case .altered: "altered"
    case .removed: "removed"
    case .reordered: "reordered"
    case .partial: "partial"
    case .signature: "signature"
    case .root: "root"
    case .totals: "totals"
    case .pin: "pin"
    case .cut: "cut"
    }
  }

  static func words(_ defect: AuditReport.Defect) -> String {
    let place = "\(defect.place.file), line \(defect.place.line) (sequence \(defect.place.sequence))"
    switch defect.fault {
    case .altered: return "\(place) was altered"
    case .removed: return "\(place): one or more lines before it are gone"
    case .reordered: return "\(place) stands at another line's place, or twice"
    case .partial: return "\(place) has no end: a write that was cut short, which the next start repairs"
    case .signature: return "\(place): the checkpoint is not signed by the log's key, or does not fit its note"
    case .root(let from): return "\(place): the signed root is another: lines from sequence \(from) on were rewritten"
    case .totals: return "\(place): the signed totals are others than the lines'"
    case .pin: return "\(place): up to here the log is another than the pin's"
    case .cut(let expected): return "\(place): the log ends here, but the pin names \(expected) lines: the end was cut off"
    }
  }
}
