import HTTP

/// Collects diagnostics while a configuration is read.
final class DiagnosticLog {
  private(set) var diagnostics: [Diagnostic] = []

  /// The most diagnostics that one run reports.
  static let limit = 100

  func add(_ diagnostic: Diagnostic) {
    guard diagnostics.count < Self.limit else { return }
    diagnostics.append(diagnostic)
  }

  /// How many errors were found so far, to tell whether a part had any.
  var errorCount: Int { diagnostics.count { $0.severity == .error } }

  var hasErrors: Bool { diagnostics.contains { $0.severity == .error } }

  /// What was found, in the file's order; what has no place comes first.
  var sorted: [Diagnostic] {
    diagnostics.enumerated().sorted { left, right in
      let places = (left.element.position ?? Position(line: 0, column: 0), right.element.position ?? Position(line: 0, column: 0))
      return places.0 == places.1 ? left.offset < right.offset : places.0 < places.1
    }.map(\.element)
  }
}

/// Reads one table strictly: every key that is asked for is known, every other one is an error.
///
/// What is missing or wrong is reported to the log and read as nil, so that one run finds every error.
final class TableReader {
  /// The table as a person would name it: `[[route]] "quotes"`; empty at the top level.
  var place: String
  /// Where the table begins.
  let position: Position?
  let log: DiagnosticLog
  private let members: [String: Document.Node]
  private var asked: Set<String> = []

  init(_ members: [String: Document.Node], place: String, at position: Position?, log: DiagnosticLog) {
    self.members = members
    self.place = place
    self.position = position
    self.log = log
  }

  /// Returns a key's value as it stands, and makes the key known.
  func node(_ key: String) -> Document.Node? {
    asked.insert(key)
    return members[key]
  }

  /// The keys that are there, in the order of the file.
  var names: [String] {
    let first = Position(line: 0, column: 0)
    return members.sorted { left, right in
      let places = (left.value.key ?? left.value.position ?? first, right.value.key ?? right.value.position ?? first)
      return places.0 == places.1 ? left.key < right.key : places.0 < places.1
    }.map(\.key)
  }

  func has(_ key: String) -> Bool { members[key] != nil }

  /// Reports every key that nobody asked for.
  func finish() {
    for (key, node) in members where !asked.contains(key) {
      let nearest = Nearest.name(to: key, in: asked)
      log.add(
        Diagnostic(
          .unknownKey, at: node.key ?? node.position, place: place, key: key,
          expected: nearest == nil ? "one of \(asked.sorted().joined(separator: ", "))" : nil, nearest: nearest))
    }
  }

  /// Reports a key's value; the value is repeated unless it is secret.
  func report(
    _ rule: Diagnostic.Rule, _ key: String, severity: Diagnostic.Severity = .error, offset: Int = 0, expected: String? = nil,
    nearest: String? = nil, advice: String? = nil, isSecret: Bool = false
  ) {
    let node = members[key]
    report(
      rule, key, node: node, severity: severity, offset: offset, expected: expected, nearest: nearest, advice: advice, isSecret: isSecret)
  }

  /// Reports one value, which may be an element of the key's array.
  func report(
    _ rule: Diagnostic.Rule, _ key: String, node: Document.Node?, severity: Diagnostic.Severity = .error, offset: Int = 0,
    expected: String? = nil, nearest: String? = nil, advice: String? = nil, isSecret: Bool = false
  ) {
    var place = node?.position ?? node?.key ?? position
    place?.column += offset
    log.add(
      Diagnostic(
        rule, severity: severity, at: place, place: self.place, key: key, value: isSecret ? nil : node?.value.spelling,
        expected: expected, nearest: nearest, advice: advice))
  }

  /// Reports that a key that must be there is not.
  func reportMissing(_ key: String, expected: String? = nil, advice: String? = nil) {
    asked.insert(key)
    log.add(Diagnostic(.missingKey, at: position, place: place, key: key, expected: expected, advice: advice))
  }

  private func reportType(_ key: String, _ node: Document.Node, _ expected: String, isSecret: Bool = false) {
    report(.wrongType, key, node: node, expected: "\(expected), not \(node.value.typeName)", isSecret: isSecret)
  }

  // MARK: Values

  /// Reads a string; a NUL octet in it is refused.
  func string(_ key: String, isSecret: Bool = false, expected: String = "a string in quotes") -> String? {
    guard let node = node(key) else { return nil }
    guard case .string(let text) = node.value else {
      reportType(key, node, expected, isSecret: isSecret)
      return nil
    }
    return text
  }

  /// Reads a string that is not empty and passes `isValid`.
  func string(_ key: String, expected: String, where isValid: (String) -> Bool) -> String? {
    guard let text = string(key, expected: expected) else { return nil }
    guard isValid(text) else {
      report(.invalidValue, key, expected: expected)
      return nil
    }
    return text
  }

  func boolean(_ key: String) -> Bool? {
    guard let node = node(key) else { return nil }
    guard case .boolean(let flag) = node.value else {
      reportType(key, node, "true or false")
      return nil
    }
    return flag
  }

  /// Reads a whole number of a range.
  func integer(_ key: String, in range: ClosedRange<Int>) -> Int? {
    guard let node = node(key) else { return nil }
    let expected = "a whole number from \(range.lowerBound) to \(range.upperBound)"
    guard case .integer(let number) = node.value else {
      reportType(key, node, expected)
      return nil
    }
    guard range.contains(number) else {
      report(.outOfRange, key, expected: expected)
      return nil
    }
    return number
  }

  /// Reads a time such as `30 s`.
  func duration(_ key: String, in range: ClosedRange<Duration>) -> Duration? {
    guard let node = node(key) else { return nil }
    let expected = "a time such as \"30 s\", \"5 min\" or \"1 h\""
    guard case .string(let text) = node.value else {
      reportType(key, node, expected)
      return nil
    }
    guard let duration = Quantity.duration(text) else {
      report(.invalidValue, key, expected: expected)
      return nil
    }
    guard range.contains(duration) else {
      report(.outOfRange, key, expected: "a time from \(Quantity.words(range.lowerBound)) to \(Quantity.words(range.upperBound))")
      return nil
    }
    return duration
  }

  /// Reads a size such as `64 KiB`; a bare whole number counts octets.
  func size(_ key: String, in range: ClosedRange<UInt64>) -> UInt64? {
    guard let node = node(key) else { return nil }
    let expected = "a size such as \"64 KiB\" or \"10 MB\""
    let size: UInt64?
    switch node.value {
    case .integer(let number): size = UInt64(exactly: number)
    case .string(let text): size = Quantity.size(text)
    case .double, .boolean, .array, .table, .date:
      reportType(key, node, expected)
      return nil
    }
    guard let size else {
      report(.invalidValue, key, expected: expected)
      return nil
    }
    guard range.contains(size) else {
      report(.outOfRange, key, expected: "a size from \(Quantity.words(range.lowerBound)) to \(Quantity.words(range.upperBound))")
      return nil
    }
    return size
  }

  /// Reads an array of strings; one string alone is an array of one.
  func strings(_ key: String, expected: String) -> [(text: String, node: Document.Node)]? {
    guard let node = node(key) else { return nil }
    switch node.value {
    case .string(let text): return [(text, node)]
    case .array(let nodes):
      var result: [(text: String, node: Document.Node)] = []
      for element in nodes {
        guard case .string(let text) = element.value else {
          reportType(key, element, expected)
          continue
        }
        result.append((text, element))
      }
      return result
    case .integer, .double, .boolean, .table, .date:
      reportType(key, node, "an array: \(expected)")
      return nil
    }
  }

  /// Reads a table; nil where it is not there.
  func table(_ key: String) -> TableReader? {
    guard let node = node(key) else { return nil }
    guard case .table(let members) = node.value else {
      reportType(key, node, "a table: [\(key)]")
      return nil
    }
    return TableReader(members, place: "[\(key)]", at: node.position, log: log)
  }

  /// Reads an array of tables; each is named by its number until the caller knows better.
  func tables(_ key: String) -> [TableReader] {
    guard let node = node(key) else { return [] }
    guard case .array(let nodes) = node.value else {
      reportType(key, node, "an array of tables: [[\(key)]]")
      return []
    }
    var readers: [TableReader] = []
    for (number, element) in nodes.enumerated() {
      guard case .table(let members) = element.value else {
        reportType(key, element, "a table: [[\(key)]]")
        continue
      }
      readers.append(TableReader(members, place: "[[\(key)]] number \(number + 1)", at: element.position, log: log))
    }
    return readers
  }
}
