import ArgumentParser
import Encoding
import Foundation
import Glibc

/// Writes the process's log to standard error: a time, a level, a message and named values a line, in logfmt or JSON.
final class OperationalLog: Sendable {
  /// How lines are spelled.
  enum Format: String, ExpressibleByArgument, CaseIterable {
    case logfmt, json
  }

  /// The levels of swift-log that are used here.
  enum Level: String, ExpressibleByArgument, CaseIterable {
    case debug, info, notice, warning, error, critical

    fileprivate var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
  }

  private let format: Format
  private let least: Level
  private let stream = LineStream(STDERR_FILENO)

  init(format: Format, least: Level) {
    self.format = format
    self.least = least
  }

  /// Writes a line; values are never secrets.
  func write(_ level: Level, _ message: String, _ values: KeyValuePairs<String, String> = [:]) {
    guard level.rank >= least.rank else { return }
    stream.write(spell(level, message, values)) { lost in
      spell(.error, "lines of this log are lost: nobody read them", ["count": "\(lost)"])
    }
  }

  private func spell(_ level: Level, _ message: String, _ values: KeyValuePairs<String, String>) -> String {
    let time = Timestamp.now().rfc3339Milliseconds
    switch format {
    case .logfmt:
      var line = "time=\(time) level=\(level.rawValue) label=farebox msg=\(Self.quoted(message))"
      for (name, value) in values { line += " \(name)=\(Self.quoted(value))" }
      return line
    case .json:
      var object: JSONObject = ["time": .string(time), "level": .string(level.rawValue), "label": "farebox", "msg": .string(message)]
      for (name, value) in values { object.set(name, .string(value)) }
      return String(decoding: JSON.serialize(.object(object)), as: UTF8.self)
    }
  }

  /// Quotes a value where it would not be one word.
  private static func quoted(_ text: String) -> String {
    let isWord = !text.isEmpty && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "=") }
    return isWord ? text : String(decoding: JSON.serialize(.string(text)), as: UTF8.self)
  }
}
