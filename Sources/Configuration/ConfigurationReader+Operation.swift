// What concerns the process that serves: sockets' permissions, the access log.
extension ConfigurationReader {
  /// Reads `[access-log]`; relative paths count from the state folder.
  mutating func readAccessLog(_ table: TableReader?, _ state: StateDirectory) {
    guard let table else { return }
    var log = Settings.AccessLog()
    if let path = table.string("file", expected: "a file, or \"-\" for standard output", where: { !$0.isEmpty }) {
      log.target = path == "-" ? .standardOutput : .file(path: state.resolve(path))
    } else if !table.has("file") {
      table.reportMissing("file", expected: "a file such as \"access.jsonl\", or \"-\" for standard output")
    }
    let names = Settings.AccessLog.Format.allCases.map(\.rawValue)
    if let word = table.string("format", expected: "\"json\" or \"combined\"") {
      if let format = Settings.AccessLog.Format(rawValue: word) {
        log.format = format
      } else {
        table.report(.invalidValue, "format", expected: "\"json\" or \"combined\"", nearest: Nearest.name(to: word, in: names))
      }
    }
    log.keepsQuery = table.boolean("query") ?? log.keepsQuery
    settings.accessLog = log
    table.finish()
  }

  /// Reads the permissions of a file, as octal digits in quotes.
  static func fileMode(_ table: TableReader, _ key: String = "mode") -> UInt32? {
    let expected = "permissions such as \"0660\", for a user and a group at least"
    guard let text = table.string(key, expected: expected) else { return nil }
    guard (3...4).contains(text.utf8.count), let mode = UInt32(text, radix: 8), mode <= 0o777, mode & 0o600 == 0o600 else {
      table.report(.invalidValue, key, expected: expected)
      return nil
    }
    return mode
  }
}
