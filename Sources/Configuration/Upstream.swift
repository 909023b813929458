extension Settings {
  /// A server that answers.
  public struct Upstream: Sendable, Hashable {
    /// Where the server listens.
    public enum Endpoint: Sendable, Hashable {
      /// A host name or numeric address (without brackets) and a port.
      case host(String, port: UInt16)
      /// A Unix socket at an absolute path.
      case unix(path: String)
    }

    /// What the `Host` field of a forwarded request says.
    public enum HostField: Sendable, Hashable {
      /// The upstream's own authority.
      case upstream
      /// What the client sent.
      case client
      /// Always this.
      case fixed(String)
    }

    /// The name that routes refer to.
    public var name: String
    /// Where the server listens.
    public var endpoint: Endpoint
    /// What the `Host` field says.
    public var hostField: HostField = .upstream
    /// Most connections of one worker at once; requests beyond wait.
    public var maxConnections = 512
    /// Most idle connections that one worker keeps.
    public var maxIdle = 64

    /// Makes an upstream.
    public init(name: String, endpoint: Endpoint) {
      self.name = name
      self.endpoint = endpoint
    }

    /// The authority of the upstream's URL, as a `Host` field carries it.
    public var authority: String {
      switch endpoint {
      case .host(let host, let port):
        let name = host.contains(":") ? "[\(host)]" : host
        return port == 80 ? name : "\(name):\(port)"
      case .unix: return "localhost"
      }
    }
  }
}
