extension Settings {
  /// Where a line about each request is written.
  public struct AccessLog: Sendable, Hashable {
    /// How a line is spelled.
    public enum Format: String, Sendable, Hashable, CaseIterable {
      /// A JSON object.
      case json
      /// Apache's combined log format.
      case combined
    }

    /// Where the lines go.
    public enum Target: Sendable, Hashable {
      /// Nowhere.
      case none
      /// Standard output.
      case standardOutput
      /// A file at an absolute path.
      case file(path: String)
    }

    /// Where the lines go.
    public var target = Target.none
    /// How a line is spelled.
    public var format = Format.json
    /// Whether the path is written with its query, which may carry secrets of the upstream's.
    public var keepsQuery = false

    /// Makes the default: none is written.
    public init() {}
  }

  /// A field that is no secret.
  public struct AddedField: Sendable, Hashable {
    /// The name as it is sent.
    public var name: String
    /// The value as it is sent.
    public var value: String

    /// Makes a field.
    public init(name: String, value: String) {
      self.name = name
      self.value = value
    }
  }

  /// What the process is.
  public struct Process: Sendable, Hashable {
    /// The user that a process that was started by root goes on as; nil: the one that started it.
    public var user: String?
    /// The group; nil: the user's own.
    public var group: String?
    /// The absolute path of the file with the process's number; nil: none.
    public var pidFile: String?

    /// Makes the default.
    public init() {}
  }
}
