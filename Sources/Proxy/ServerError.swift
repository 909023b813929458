import Configuration
import Gateway
import HTTP
import IO

/// Why a server cannot start.
public enum ServerError: Error, Equatable, Sendable {
  /// Two routes conflict, or a path is not canonical.
  case routesInvalid(GatewayError)
  /// A host or injected field of a route cannot be sent.
  case fieldsInvalid(route: Int, HTTPError)
  /// A route names an upstream that does not exist.
  case upstreamUnknown(route: Int)
  /// A listener's address is no numeric one.
  case addressInvalid(listener: Int)
  /// A listener cannot be opened (port in use, no permission, path too long).
  case cannotListen(listener: Int, IOError)
  /// Epoll, a thread or another part of the system is not to be had.
  case system(IOError)
  /// A price, realm or merchant cannot be put into a challenge.
  case offersInvalid
  /// The access log cannot be opened.
  case accessLog(IOError)
  /// The key that submits a chain's transactions cannot be read.
  case signer(chain: Int, KeyFileError)
  /// A certificate, key or authority cannot be used.
  case certificates(CertificateFileError)
}
