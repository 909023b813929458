import Foundation

/// Reads the configuration file.
public enum Configuration {
  /// What reading a file gave: settings where there is no error, and whatever was found on the way.
  public struct Outcome: Sendable {
    /// The file's path as it was given.
    public let file: String
    /// The settings; nil where any diagnostic is an error.
    public let settings: Settings?
    /// What could be read of them all the same, good for nothing but to find a proxy that runs by a former file; nil where nothing could.
    public var readable: Settings?
    /// Errors and warnings in the file's order.
    public let diagnostics: [Diagnostic]
  }

  /// Reads settings from a TOML file, reading the secrets that it names as well.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - state: the folder for everything that the proxy writes, above what file and environment say.
  ///   - environment: variables; the process's own where nil.
  ///   - readsSecrets: whether injected fields are read; commands that forward nothing run where the secrets are not.
  /// - Throws: every error that was found at once.
  public static func load(
    _ path: String, state: String? = nil, environment: [String: String]? = nil, readsSecrets: Bool = true
  ) throws(ConfigurationError) -> Settings {
    let outcome = inspect(path, state: state, environment: environment, readsSecrets: readsSecrets)
    guard let settings = outcome.settings else { throw .invalid(file: path, outcome.diagnostics) }
    return settings
  }

  /// Reads a file for its diagnostics, warnings included.
  public static func inspect(
    _ path: String, state: String? = nil, environment: [String: String]? = nil, readsSecrets: Bool = true
  ) -> Outcome {
    let text: String
    switch contents(of: path) {
    case .success(let octets): text = octets
    case .failure(let failure): return Outcome(file: path, settings: nil, readable: nil, diagnostics: [failure.diagnostic])
    }
    return inspect(text: text, file: path, state: state, environment: environment, readsSecrets: readsSecrets)
  }

  /// Reads a file's text that is in memory already; relative paths count from the folder of `file`.
  public static func inspect(
    text: String, file: String, state: String? = nil, environment: [String: String]? = nil, readsSecrets: Bool = true
  ) -> Outcome {
    let document: Document
    do {
      document = try Document(text)
    } catch {
      let diagnostic = Diagnostic(.syntax, at: error.position, place: "", expected: error.expected, advice: error.advice)
      return Outcome(file: file, settings: nil, readable: nil, diagnostics: [diagnostic])
    }
    let workingDirectory = FileManager.default.currentDirectoryPath
    let absolute = StateDirectory.absolute(file, from: workingDirectory)
    let folder = String(absolute[..<(absolute.lastIndex(of: "/") ?? absolute.startIndex)])
    var reader = ConfigurationReader(
      document, environment: environment ?? ProcessInfo.processInfo.environment, stateOption: state,
      workingDirectory: workingDirectory, folder: folder.isEmpty ? "/" : folder, readsSecrets: readsSecrets)
    let settings = reader.read(source: absolute)
    return Outcome(file: file, settings: reader.log.hasErrors ? nil : settings, readable: settings, diagnostics: reader.log.sorted)
  }

  /// Carries a diagnostic out of `contents`.
  private struct ReadFailure: Error {
    let diagnostic: Diagnostic
  }

  private static func contents(of path: String) -> Result<String, ReadFailure> {
    let octets: [UInt8]
    do {
      octets = try SmallFile.read(path, limit: Document.byteLimit)
    } catch {
      let advice: String
      switch error {
      case .notFound: advice = "copy proxy.conf.example to this path, or name another file"
      case .notPermitted: advice = "make the file readable for the user that runs the proxy"
      case .isFolder: advice = "name the file, not its folder"
      case .tooLarge, .exposed, .failed: advice = "look at the file"
      }
      let rule: Diagnostic.Rule = error == .tooLarge ? .tooLarge : .unreadable
      return .failure(ReadFailure(diagnostic: Diagnostic(rule, at: nil, place: "", expected: error.reason, advice: advice)))
    }
    guard let text = String(validating: octets, as: UTF8.self) else {
      return .failure(ReadFailure(diagnostic: Diagnostic(.syntax, at: nil, place: "", expected: "text in UTF-8")))
    }
    return .success(text)
  }
}
