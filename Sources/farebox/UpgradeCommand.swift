import ArgumentParser
import Configuration
import Encoding
import Foundation
import Proxy

/// `farebox upgrade`: has the running proxy replaced by the program that its file holds now.
struct UpgradeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "upgrade", abstract: "Replace the running proxy by the program that stands in its file now, without losing a connection.",
    discussion: """
      The same as SIGUSR2, but this waits and tells what came of it. The new program is started with the listening sockets and the \
      same arguments, and reads its configuration; if it does not come so far, nothing has changed. Then the running one accepts \
      nothing more, passes idle connections on, finishes what is in flight (for [timeouts] drain at most; longer streams are cut, and \
      cost what was delivered), closes the ledger and ends. Meanwhile new connections wait. Connections over TLS or HTTP/2 are not \
      passed on but ended in order.
      """)

  @OptionGroup var options: OperatorOptions

  /// How often the new process is asked for, and the pause in between, in microseconds.
  private static let pause: UInt32 = 50_000

  func run() throws {
    try options.perform { () throws(CommandFailure) in
      let settings = try options.settings()
      let backend = Backend(settings)
      guard let process = try backend.operate(.upgrade)["process"]?.intValue else {
        throw CommandFailure(.unavailable, "malformed-answer", "the proxy did not name the new process")
      }
      let limit = Date().addingTimeInterval(Double(settings.timeouts.drain.components.seconds) + 90)
      while Date() < limit {
        usleep(Self.pause)
        guard let answer = try? backend.operate(.process) else { continue }
        if answer["process"]?.intValue == process, answer["state"]?.stringValue == "serving" {
          return options.show(["process": .integer(process)]) { ["process \(process) serves"] }
        }
        if answer["process"]?.intValue != process, answer["state"]?.stringValue == "serving" {
          throw CommandFailure(.unavailable, "not-serving", "the new program did not serve; the former one goes on", advice: "its words stand in the log")
        }
      }
      throw CommandFailure(.unavailable, "timeout", "process \(process) does not answer yet", advice: "look into the log")
    }
  }
}
