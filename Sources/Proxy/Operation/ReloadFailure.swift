public import Configuration
import Encoding
import Glibc
import IO

/// A configuration that was read and found good.
public struct LoadedConfiguration: Sendable {
  /// What it says.
  public var settings: Settings
  /// Names it in the audit log.
  public var digest: String
  /// What `farebox check` would warn of, a line each.
  public var warnings: [String]

  /// Gathers what was read.
  public init(settings: Settings, digest: String, warnings: [String]) {
    self.settings = settings
    self.digest = digest
    self.warnings = warnings
  }
}

/// Says to operators why an operation, such as reading the configuration anew, did nothing.
public struct ReloadFailure: Error, Sendable, Equatable {
  /// The failure's name for programs.
  public var code: String
  /// What is wrong; several lines where several things are.
  public var message: String
  /// What to do about it.
  public var advice: String?
  /// The HTTP status that the operators' socket answers with.
  public var status: UInt16

  /// The proxy is ending, and nothing is begun any more.
  static var ending: ReloadFailure { ReloadFailure("ending", "the proxy is ending", status: 503) }

  /// Describes a failure.
  public init(_ code: String, _ message: String, advice: String? = nil, status: UInt16 = 409) {
    self.code = code
    self.message = message
    self.advice = advice
    self.status = status
  }

  /// Describes why settings were not gone over to.
  public init(_ error: ReloadError, _ settings: Settings) {
    switch error {
    case .fixed(let keys):
      self.init(
        "fixed-settings", "\(keys.joined(separator: ", ")) cannot change while the proxy runs",
        advice: "put the former value back, or let `farebox upgrade` start the program anew")
    case .server(let error): self.init(error, settings)
    case .tooManyRoutes:
      self.init(
        "too-many-routes", "requests in flight still use too many former routes or upstreams",
        advice: "try again when they have ended, or let `farebox upgrade` start the program anew")
    case .ending: self = .ending
    }
  }

  private init(_ error: ServerError, _ settings: Settings) {
    switch error {
    case .cannotListen(let number, let cause):
      let words = settings.listeners.indices.contains(number) ? settings.listeners[number].words : "a listener"
      self.init("cannot-listen", "\(words) cannot be listened on: \(Self.text(cause))", advice: "correct [[listen]]")
    case .system(let cause):
      self.init("system", "the system refused a descriptor: \(Self.text(cause))", status: 503)
    case .certificates(let cause): self.init("certificates", "\(cause.path) cannot be used: expected \(cause.expected)", advice: cause.advice)
    case .signer(let chain, let cause):
      self.init("signer", "the signer's key of [[chain]] number \(chain + 1) cannot be used: expected \(cause.expected)", advice: "correct `signer`")
    case .accessLog(let cause): self.init("access-log", "the access log cannot be opened: \(Self.text(cause))", advice: "correct [access-log]")
    case .routesInvalid, .fieldsInvalid, .upstreamUnknown, .addressInvalid, .offersInvalid:
      self.init("settings", "the configuration cannot be served: \(error)", advice: "`farebox check` says more")
    }
  }

  static func text(_ error: IOError) -> String {
    guard error.code != 0, let text = strerror(error.code) else { return "\(error)" }
    return String(cString: text)
  }

  var json: JSONValue {
    var object: JSONObject = ["error": .string(code), "message": .string(message)]
    if let advice { object.set("advice", .string(advice)) }
    return .object(object)
  }
}
