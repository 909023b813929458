import ArgumentParser
import Configuration
import Encoding
import Foundation
import Glibc
import Proxy

/// Spells what the system said.
enum SystemText {
  static func of(_ number: Int32) -> String {
    guard number != 0, let text = strerror(number) else { return "error \(number)" }
    return String(cString: text)
  }
}

/// Where the configuration is found, and how results are written; shared by every operators' command.
struct OperatorOptions: ParsableArguments {
  @Option(help: ArgumentHelp("The configuration file.", discussion: "", valueName: "file"))
  var config: String?

  @Option(help: ArgumentHelp("The folder of ledger, keys, audit log and socket, in place of the configured one.", valueName: "dir"))
  var state: String?

  @Flag(help: "Write JSON.")
  var json = false

  /// The files that are tried where no option and no variable names one.
  static let standardPaths = ["proxy.conf", "/etc/farebox/proxy.conf"]

  /// The configuration file: the option, `FAREBOX_CONFIG`, or the first standard path that exists.
  static func path(_ option: String?) throws(CommandFailure) -> String {
    if let option { return option }
    if let variable = ProcessInfo.processInfo.environment["FAREBOX_CONFIG"], !variable.isEmpty { return variable }
    for path in standardPaths where access(path, R_OK) == 0 { return path }
    throw CommandFailure(
      .noInput, "no-configuration", "no configuration: neither ./proxy.conf nor /etc/farebox/proxy.conf is there",
      advice: "name one with --config or FAREBOX_CONFIG; proxy.conf.example is a good start")
  }

  /// Reads the settings without the secrets that only `serve` needs.
  ///
  /// A wallet must be frozen also while the file is wrong: then a proxy that runs by its former content is found by what can be read.
  func settings() throws(CommandFailure) -> Settings {
    let path = try Self.path(config)
    let outcome = Configuration.inspect(path, state: state, readsSecrets: false)
    if let settings = outcome.settings { return settings }
    // Where the socket itself may be meant by what is wrong, another proxy could be found.
    let isCertain = !outcome.diagnostics.contains { $0.severity == .error && ($0.place.isEmpty || $0.place == "[admin]") }
    if isCertain, let readable = outcome.readable, AdministrationClient(socketPath: readable.admin.socketPath).answers {
      StandardError.write("farebox: \(path) is wrong (`farebox check` says where); the running proxy goes by what it read before\n")
      return readable
    }
    throw CommandFailure(configuration: .invalid(file: path, outcome.diagnostics))
  }

  /// Runs a command's body, and turns its failure into a message and an exit status.
  ///
  /// Whatever it makes (keys, ledger, audit log, sockets and their folders) is this user's alone from its first instant.
  func perform(_ body: () throws(CommandFailure) -> Void) throws {
    umask(0o077)
    do throws(CommandFailure) {
      try body()
    } catch {
      throw error.report(isJSON: json)
    }
  }

  /// Writes a result: the value itself as JSON, or lines for a person.
  func show(_ value: JSONValue, _ lines: () -> [String]) {
    if json {
      Output.line(String(decoding: JSON.serialize(value, pretty: true), as: UTF8.self))
    } else {
      for line in lines() { Output.line(line) }
    }
  }
}

extension CommandFailure {
  init(configuration error: ConfigurationError) {
    let isMissing = error.diagnostics.contains { $0.rule == .unreadable }
    self.init(isMissing ? .noInput : .configuration, "configuration", "the configuration is wrong\n\(error.text)")
  }
}

/// Writes to standard output without buffering.
enum Output {
  static func line(_ text: String) { _ = Descriptor.write(Array((text + "\n").utf8), to: STDOUT_FILENO) }

  /// Whether colours make sense: a terminal, and nobody asked for none (no-color.org).
  static var hasColours: Bool {
    isatty(STDOUT_FILENO) == 1 && ProcessInfo.processInfo.environment["NO_COLOR"] == nil && ProcessInfo.processInfo.environment["TERM"] != "dumb"
  }
}

/// Lays rows out in columns.
enum Columns {
  /// Pads every column but the last to its widest cell; a row with fewer cells ends early.
  static func lines(_ rows: [[String]], indent: String = "") -> [String] {
    let count = rows.map(\.count).max() ?? 0
    let widths = (0..<count).map { column in rows.map { $0.count > column + 1 ? $0[column].count : 0 }.max() ?? 0 }
    return rows.map { row in
      indent
        + row.enumerated().map { column, cell in
          column == row.count - 1 ? cell : cell + String(repeating: " ", count: max(0, widths[column] - cell.count) + 2)
        }.joined()
    }
  }
}
