import Gateway
import Glibc
import HTTP

// What concerns the process that serves: its user, sockets' permissions, the access log, and the pages that may call.
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

  /// Reads `user`, `group` and `pid-file`.
  mutating func readProcess(_ table: TableReader, _ state: StateDirectory) {
    let form = "the name of a user or group of this machine"
    func name(_ key: String) -> String? {
      table.string(key, expected: form) { (1...64).contains($0.utf8.count) && $0.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != 0x3A } }
    }
    settings.process.user = name("user")
    settings.process.group = name("group")
    if settings.process.group != nil, !table.has("user") {
      table.report(.conflict, "group", expected: "a user as well: a group alone is not changed")
    }
    warnOfUnknown(table, "user", settings.process.user) { getpwnam($0) != nil }
    warnOfUnknown(table, "group", settings.process.group) { getgrnam($0) != nil }
    if let path = table.string("pid-file", expected: "a file such as \"/run/farebox.pid\"", where: { !$0.isEmpty }) {
      settings.process.pidFile = state.resolve(path)
    }
  }

  /// The configuration may be checked on another machine than the one that it is for.
  private func warnOfUnknown(_ table: TableReader, _ key: String, _ name: String?, isKnown: (String) -> Bool) {
    guard let name, !isKnown(name) else { return }
    table.report(
      .unknownName, key, severity: .warning, expected: "a \(key) of this machine: the proxy would not start here", advice: "\(key)add --system \(name)")
  }

  /// Reads `[cors]`.
  mutating func readSharing(_ table: TableReader?) {
    guard let table else { return }
    let form = "an origin such as \"https://app.example.com\", or \"*\""
    for (text, node) in table.strings("origins", expected: form) ?? [] {
      if text == "*" || Self.isOrigin(text) {
        settings.cors.origins.append(text)
      } else {
        table.report(.invalidValue, "origins", node: node, expected: form)
      }
    }
    if settings.cors.origins.count > 1, settings.cors.origins.contains("*") {
      table.report(.conflict, "origins", expected: "\"*\" alone, or origins by name")
    }
    let fieldForm = "the name of a field such as \"X-Total-Count\""
    for (name, node) in table.strings("expose", expected: fieldForm) ?? [] {
      if Self.known(name) != nil {
        settings.cors.exposedFields.append(name)
      } else {
        table.report(.invalidValue, "expose", node: node, expected: fieldForm)
      }
    }
    table.finish()
  }

  /// Reads a rate such as `100/s burst 200`.
  static func rate(_ table: TableReader, _ key: String) -> RateLimit? {
    let expected = "a rate such as \"100/s burst 200\", \"60/min\" or \"1000/h\""
    guard let text = table.string(key, expected: expected) else { return nil }
    guard let limit = RateLimit(text) else {
      table.report(.invalidValue, key, expected: expected)
      return nil
    }
    return limit
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

  /// Reads a route's rate, its limit of content, and the fields that are added and removed.
  static func readOperation(_ table: TableReader, _ route: inout Settings.Route) {
    route.rate = rate(table, "rate")
    route.bodyLimit = table.size("body-limit", in: 0...(1 << 50))
    route.addedRequestFields = addedFields(table, "add-request-headers", isAllowed: isInjectable)
    route.removedRequestFields = removedFields(table, "remove-request-headers", isAllowed: isInjectable)
    route.addedResponseFields = addedFields(table, "add-response-headers", isAllowed: mayChangeInResponse)
    route.removedResponseFields = removedFields(table, "remove-response-headers", isAllowed: mayChangeInResponse)
    for field in route.addedRequestFields where route.injectedFields.contains(where: { $0.name.lowercased() == field.name.lowercased() }) {
      table.report(.conflict, "add-request-headers", expected: "fields that inject does not set: \(field.name) is there already")
    }
  }

  private static func mayChangeInResponse(_ name: String) -> Bool { known(name).map(ResponseFields.mayChange) ?? false }

  private static func known(_ name: String) -> FieldName? {
    var name = name
    return name.withUTF8 { FieldName(bytes: UnsafeRawBufferPointer($0)) }
  }

  /// Whether a name is one of payment, whatever dialect may come to use it.
  private static func isPayment(_ name: String) -> Bool {
    let folded = name.lowercased().replacing("_", with: "-")
    return folded.hasPrefix("payment") || folded.hasPrefix("x-payment") || folded.hasPrefix("prepaid-")
  }

  private static func addedFields(_ table: TableReader, _ key: String, isAllowed: (String) -> Bool) -> [Settings.AddedField] {
    let expected = "a field such as \"X-Environment: production\", that the proxy does not write itself"
    var fields: [Settings.AddedField] = []
    for (text, node) in table.strings(key, expected: expected) ?? [] {
      let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      let value = parts.count == 2 ? String(parts[1].drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) : ""
      guard !value.isEmpty, value.utf8.count <= 4096, value.utf8.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x09 }), isAllowed(name), !isPayment(name) else {
        table.report(.invalidValue, key, node: node, expected: expected)
        continue
      }
      fields.append(Settings.AddedField(name: name, value: value))
    }
    return fields
  }

  private static func removedFields(_ table: TableReader, _ key: String, isAllowed: (String) -> Bool) -> [String] {
    let expected = "the name of a field such as \"X-Powered-By\", that the proxy does not write itself"
    var names: [String] = []
    for (name, node) in table.strings(key, expected: expected) ?? [] {
      guard isAllowed(name), !isPayment(name) else {
        table.report(.invalidValue, key, node: node, expected: expected)
        continue
      }
      names.append(name)
    }
    return names
  }
}
