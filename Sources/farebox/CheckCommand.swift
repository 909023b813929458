import ArgumentParser
import Configuration
import Encoding
import Foundation

/// `farebox check`: says what a configuration does, or what is wrong with it.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "Validate a configuration, and explain what it does.",
    discussion: """
      Every error is shown at once, with file, line and column, the value, what was expected, and the nearest known name. \
      Secrets are read, and never shown. Nothing is changed or created.
      """)

  @Argument(help: ArgumentHelp("The configuration file.", valueName: "file")) var file: String?
  @OptionGroup var options: OperatorOptions

  func run() throws {
    var status = ExitStatus.success
    try options.perform { () throws(CommandFailure) in
      let path = try OperatorOptions.path(file ?? options.config)
      let outcome = Configuration.inspect(path, state: options.state)
      let explanation = Explanation(outcome)
      options.show(explanation.json) { [explanation.text] }
      if outcome.settings == nil { status = outcome.diagnostics.contains { $0.rule == .unreadable } ? .noInput : .configuration }
    }
    guard status == .success else { throw ExitCode(status.rawValue) }
  }
}
