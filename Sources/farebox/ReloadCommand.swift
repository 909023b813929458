import ArgumentParser
import Configuration
import Encoding
import Proxy

/// `farebox reload`: has the running proxy read its configuration anew.
struct ReloadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload", abstract: "Have the running proxy read its configuration anew.",
    discussion: """
      The same as SIGHUP, but this waits and tells what came of it. The new configuration is checked whole before anything \
      changes, listeners included; a bad one changes nothing, and the exit status is 78.

      Requests in flight, sessions and connections go on with what they began with; challenges that were issued before can be \
      paid at their price until they expire. What the proxy holds open (ledger, keys, audit log, workers, realm) cannot change: \
      `farebox upgrade` starts the program anew without losing a connection.
      """)

  @OptionGroup var options: OperatorOptions

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      let answer = try Backend(settings).operate(.reload)
      options.show(answer) {
        (answer["warnings"]?.arrayValue ?? []).compactMap(\.stringValue) + ["the proxy uses the configuration from now on"]
      }
    }
  }
}
