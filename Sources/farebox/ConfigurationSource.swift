import Configuration
import Crypto
import Foundation
import Proxy

/// The file that a proxy was started with, to be read again and again.
struct ConfigurationSource: Sendable {
  let path: String
  let state: String?

  /// Reads the file, with the secrets that it names.
  func load() throws(ConfigurationError) -> LoadedConfiguration {
    let octets = FileManager.default.contents(atPath: path).map { [UInt8]($0) } ?? []
    let outcome = Configuration.inspect(path, state: state)
    guard let settings = outcome.settings else { throw .invalid(file: path, outcome.diagnostics) }
    return LoadedConfiguration(
      settings: settings, digest: "sha256:\(SHA256.hash(octets).hex)", warnings: outcome.diagnostics.map { $0.text(file: path) })
  }

  /// Reads the file anew for a proxy that runs.
  func reload() -> Result<LoadedConfiguration, ReloadFailure> {
    do throws(ConfigurationError) {
      return .success(try load())
    } catch {
      return .failure(
        ReloadFailure("configuration", "the configuration is wrong\n\(error.text)", advice: "nothing has changed; `farebox check` shows the same", status: 422))
    }
  }
}
