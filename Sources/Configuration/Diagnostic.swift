/// A place in a file: both count from 1, columns in Unicode scalars.
public struct Position: Sendable, Hashable, Comparable {
  /// The line.
  public var line: Int
  /// The column within it.
  public var column: Int

  /// Makes a place.
  public init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }

  /// Orders places as they are read.
  public static func < (left: Position, right: Position) -> Bool {
    (left.line, left.column) < (right.line, right.column)
  }
}

/// One thing that is wrong, or doubtful, in a configuration, said so that it can be put right.
public struct Diagnostic: Sendable, Hashable {
  /// How bad it is.
  public enum Severity: String, Sendable {
    /// The proxy does not start.
    case error
    /// The proxy starts, and may not do what was meant.
    case warning
  }

  /// Names the rule that was broken.
  public enum Rule: String, Sendable {
    /// The file cannot be read.
    case unreadable
    /// The file is longer than `Document.byteLimit`.
    case tooLarge = "too-large"
    /// The file is no TOML.
    case syntax
    /// A key that means nothing here.
    case unknownKey = "unknown-key"
    /// A key that must be there is not.
    case missingKey = "missing-key"
    /// A value of another type than the key takes.
    case wrongType = "wrong-type"
    /// A value that the key does not take.
    case invalidValue = "invalid-value"
    /// A number or time outside the key's range.
    case outOfRange = "out-of-range"
    /// A name that nothing in the file defines.
    case unknownName = "unknown-name"
    /// A name that the file defines twice.
    case duplicate
    /// Two routes that match the same requests.
    case overlap
    /// Two keys that exclude each other.
    case conflict
    /// Payments over a connection that others can read.
    case insecure
    /// A way to pay that cannot be offered.
    case unpayable
    /// A file with a secret that others can read.
    case exposed
    /// A file that the configuration names is not there, or cannot be read.
    case missingFile = "missing-file"
    /// An environment variable that the configuration names is not set.
    case missingVariable = "missing-variable"
    /// A certificate or key cannot be used.
    case certificate
    /// A certificate ends within days.
    case expiresSoon = "expires-soon"
    /// Whoever answers is taken for the upstream.
    case unverified
    /// Something is defined and never used.
    case unused
    /// Nothing is sold or served.
    case nothingServed = "nothing-served"

    /// The rule in words, as it stands in a message.
    var summary: String {
      switch self {
      case .unreadable: "cannot be read"
      case .tooLarge: "is too large"
      case .syntax: "is not valid TOML"
      case .unknownKey: "unknown key"
      case .missingKey: "missing key"
      case .wrongType: "wrong type"
      case .invalidValue: "invalid value"
      case .outOfRange: "out of range"
      case .unknownName: "nothing has this name"
      case .duplicate: "is there twice"
      case .overlap: "matches the same requests as another route"
      case .conflict: "excludes another key"
      case .insecure: "payments would pass in plain text"
      case .unpayable: "nobody could pay this way"
      case .exposed: "others can read this file"
      case .missingFile: "file cannot be read"
      case .missingVariable: "environment variable is not set"
      case .certificate: "certificate or key cannot be used"
      case .expiresSoon: "the certificate ends soon"
      case .unverified: "whoever answers is taken for the upstream"
      case .unused: "is never used"
      case .nothingServed: "nothing is served"
      }
    }
  }

  /// How bad it is.
  public var severity: Severity
  /// The rule that was broken.
  public var rule: Rule
  /// Where it is; nil where no place in the file is to blame.
  public var position: Position?
  /// The table that it stands in, as a person would name it: `[[route]] "quotes"`; empty at the top level.
  public var place: String
  /// The key; nil where the whole table is meant.
  public var key: String?
  /// The offending value as the file spells it; nil for secrets, and where there is none.
  public var value: String?
  /// What would have been right.
  public var expected: String?
  /// The known key or name that is nearest to what was written.
  public var nearest: String?
  /// What to do about it.
  public var advice: String?

  /// Makes a diagnostic.
  public init(
    _ rule: Rule, severity: Severity = .error, at position: Position?, place: String, key: String? = nil, value: String? = nil,
    expected: String? = nil, nearest: String? = nil, advice: String? = nil
  ) {
    self.severity = severity
    self.rule = rule
    self.position = position
    self.place = place
    self.key = key
    self.value = value
    self.expected = expected
    self.nearest = nearest
    self.advice = advice
  }

  /// Writes the diagnostic the way compilers do, so that editors find the place: `file:line:column: error: …` and indented notes.
  public func text(file: String) -> String {
    var head = file
    if let position { head += ":\(position.line):\(position.column)" }
    var subject: [String] = []
    if !place.isEmpty { subject.append(place) }
    if let key { subject.append(value.map { "\(key) = \($0)" } ?? key) } else if let value { subject.append(value) }
    subject.append(rule.summary)
    var lines = ["\(head): \(severity.rawValue): \(subject.joined(separator: ": "))"]
    if let expected { lines.append("  expected: \(expected)") }
    if let nearest { lines.append("  did you mean: \(nearest)") }
    if let advice { lines.append("  advice: \(advice)") }
    return lines.joined(separator: "\n")
  }
}

/// Says why there are no settings: every error that was found, in the file's order.
public enum ConfigurationError: Error, Sendable {
  /// The file is wrong; warnings are among the diagnostics too.
  case invalid(file: String, [Diagnostic])

  /// What was found, in the file's order.
  public var diagnostics: [Diagnostic] {
    switch self {
    case .invalid(_, let diagnostics): diagnostics
    }
  }

  /// All diagnostics as text, one after the other.
  public var text: String {
    switch self {
    case .invalid(let file, let diagnostics): diagnostics.map { $0.text(file: file) }.joined(separator: "\n")
    }
  }
}
