public import TLS

extension Settings {
  /// The files that prove an identity. Paths are absolute.
  public struct Certificate: Sendable, Hashable {
    /// The chain in PEM, the own certificate first.
    public var chain: String
    /// The private key in PEM.
    public var key: String

    /// Names the two files, which may be one.
    public init(chain: String, key: String) {
      self.chain = chain
      self.key = key
    }
  }
}

extension Settings.Listener {
  /// How a listener speaks TLS.
  public struct TLS: Sendable, Hashable {
    /// What the listener proves to be; at least one, the first for clients that ask for no name that is known.
    public var certificates: [Settings.Certificate]
    /// The oldest version that is spoken.
    public var minimum = TLSVersion.tls12
    /// Whether clients show certificates; nil where they are not asked for any.
    public var clients: Clients?

    /// Makes TLS without certificates of clients.
    public init(certificates: [Settings.Certificate]) {
      self.certificates = certificates
    }

    /// How clients prove who they are.
    public struct Clients: Sendable, Hashable {
      /// The file of the authorities that vouch for them, in PEM.
      public var authorities: String
      /// Whether a client without a certificate is refused.
      public var isRequired = true
      /// The field in which the upstream is told the subject of the client's certificate. A client cannot send it itself.
      public var subjectField = "X-Client-Subject"

      /// Makes the default: every client needs a certificate.
      public init(authorities: String) {
        self.authorities = authorities
      }
    }

    /// The most certificates of one listener.
    public static let certificateLimit = 256
  }
}

extension Settings.Upstream {
  /// How TLS is spoken to an upstream.
  public struct TLS: Sendable, Hashable {
    /// The file of the authorities that vouch for it, in PEM; nil: those of the system.
    public var authorities: String?
    /// What is shown to it where it asks.
    public var certificate: Settings.Certificate?
    /// The name that its certificate must prove, and that it is asked for; nil: the host of the server's URL.
    public var serverName: String?
    /// Whether whoever answers is taken for the upstream, by the operator's explicit word.
    public var isInsecure = false
    /// The oldest version that is spoken.
    public var minimum = TLSVersion.tls12

    /// Makes the default: the system's authorities, the URL's host.
    public init() {}
  }
}
