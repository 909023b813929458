import ArgumentParser
import Configuration
import Encoding
import Ledger
import Proxy

/// Numbers the ways in which an operators' command can end; from 64 on they are those of sysexits.h.
enum ExitStatus: Int32, CaseIterable {
  case success = 0
  case refused = 1
  case faulty = 2
  case usage = 64
  case malformedData = 65
  case noInput = 66
  case unavailable = 69
  case systemError = 71
  case cannotCreate = 73
  case ioError = 74
  case notPermitted = 77
  case configuration = 78

  /// What the number means, for `--help`.
  var meaning: String {
    switch self {
    case .success: "done"
    case .refused: "the ledger refused, and nothing has changed; or `chain status` found what needs an operator: the message says which"
    case .faulty: "a verification found a fault"
    case .usage: "the command line is wrong"
    case .malformedData: "a file is damaged, or was written by a newer version"
    case .noInput: "a file is missing"
    case .unavailable: "the proxy or its ledger cannot be reached, or a port is in use"
    case .systemError: "the system refused something"
    case .cannotCreate: "a file or folder cannot be written"
    case .ioError: "reading or writing failed"
    case .notPermitted: "this user may not do that"
    case .configuration: "the configuration is wrong"
    }
  }

  static var table: String {
    allCases.map { status in
      let number = String(status.rawValue)
      return String(repeating: " ", count: 4 - number.count) + number + "  " + status.meaning
    }.joined(separator: "\n")
  }
}

/// Says to a person, or to a program, why a command did nothing.
struct CommandFailure: Error {
  let status: ExitStatus
  /// The error's name for programs.
  let code: String
  let message: String
  var advice: String?

  init(_ status: ExitStatus, _ code: String, _ message: String, advice: String? = nil) {
    self.status = status
    self.code = code
    self.message = message
    self.advice = advice
  }

  /// Writes the failure to standard error, and ends the command with its number.
  func report(isJSON: Bool) -> ExitCode {
    if isJSON {
      var object: JSONObject = ["error": .string(code), "message": .string(message)]
      if let advice { object.set("advice", .string(advice)) }
      StandardError.write(String(decoding: JSON.serialize(.object(object)), as: UTF8.self) + "\n")
    } else {
      // Only the lines of a message are ours; what stands in them may be a file's or a server's.
      let lines = message.split(separator: "\n", omittingEmptySubsequences: false).map { PayText.printable(String($0)) }
      StandardError.write("farebox: \(lines.joined(separator: "\n"))\n" + (advice.map { "  advice: \($0)\n" } ?? ""))
    }
    return ExitCode(status.rawValue)
  }
}

extension CommandFailure {
  init(_ error: KeyRingError) {
    let status: ExitStatus
    switch error {
    case .missing: status = .noInput
    case .exposed, .foreign: status = .notPermitted
    case .malformed: status = .malformedData
    case .failed: status = .cannotCreate
    }
    self.init(status, "keys", error.message, advice: error.advice)
  }

  init(_ error: AdministrationError) {
    switch error {
    case .unknownMember, .missingMember, .malformedMember, .unknownCommand:
      self.init(.usage, error.code, error.message, advice: error.advice)
    case .refused(.unavailable), .notDurable, .noLedger, .noDesk: self.init(.unavailable, error.code, error.message, advice: error.advice)
    case .refused, .tooLittle, .stillClosing, .noEscrow, .unresolved, .copying: self.init(.refused, error.code, error.message, advice: error.advice)
    case .keys(let error): self.init(error)
    }
  }

  /// What the ledger in `directory` failed with when it was opened.
  init(_ error: LedgerError, _ settings: Settings) {
    let folder = settings.ledger.directory
    switch error {
    case .locked(let process):
      self.init(
        .unavailable, "ledger-locked",
        "the ledger in \(folder) is in use by \(process.map { "process \($0)" } ?? "another process")",
        advice: "only one proxy may keep a ledger: stop the other one, or give this one its own --state")
    case .folderNotWritable(let code):
      self.init(
        .cannotCreate, "folder-not-writable", "the folder \(folder) cannot be written: \(SystemText.of(code))",
        advice: "make it writable for this user, or choose another with --state DIR")
    case .file(let file, let code):
      self.init(
        .ioError, "ledger-file", "the ledger's \(file.rawValue) file cannot be used (\(folder)): \(SystemText.of(code))",
        advice: "see whether the folder is writable and the disk has room")
    case .notALedger:
      self.init(
        .malformedData, "not-a-ledger", "\(folder)/ledger.db is a database, but no ledger", advice: "choose another folder, or move the file away")
    case .newerVersion(let found, let supported, let build):
      self.init(
        .malformedData, "newer-ledger",
        "the ledger in \(folder) has version \(found)\(build.map { ", written by farebox \($0)" } ?? ""); this program (farebox \(ProgramVersion.text)) knows versions up to \(supported)",
        advice: "run \(build.map { "farebox \($0)" } ?? "the newer farebox that wrote it") or a newer one; nothing has been changed")
    case .backup(let fault): self.init(fault, settings)
    case .malformed, .unbalanced:
      self.init(
        .malformedData, "damaged-ledger", "the ledger in \(folder) does not read back as it was written (\(error))",
        advice: "keep the files as they are, and restore a backup beside them")
    case .auditAhead(let file, let ledger):
      self.init(
        .malformedData, "audit-ahead", "the audit log \(settings.audit.path) has \(file) lines, its ledger knows \(ledger)",
        advice: "they belong to different ledgers, or the ledger is an old copy: put the right pair together")
    case .auditUnverified(let file):
      self.init(.faulty, "audit-unverified", "a file of the audit log does not verify, so it is not removed: \(file)", advice: "`farebox audit verify` says where")
    case .malformedRealm: self.init(.configuration, "malformed-name", "the ledger's name cannot stand in checkpoints")
    case .full:
      self.init(.cannotCreate, "disk-full", "the disk is full: \(folder)", advice: "make room; nothing is lost")
    // SQLITE_BUSY: the lock file keeps other proxies out, so it is a person's tool.
    case .store(code: 5):
      self.init(.unavailable, "store-in-use", "another program has the ledger's database in \(folder) open", advice: "close it: a database tool, a backup")
    case .store(let code):
      self.init(.ioError, "store", "the ledger's database in \(folder) failed with SQLite's code \(code)", advice: "see whether the disk is well")
    case .thread(let code): self.init(.systemError, "thread", "no thread can be started: \(SystemText.of(code))")
    }
  }
}
