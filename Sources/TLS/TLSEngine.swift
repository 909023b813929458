public import Bytes
internal import CLibSSL
internal import Encoding
internal import Glibc

/// One TLS connection in memory: octets of the network go in and come out, and so does what they protect.
///
/// It is used by one thread at a time. After an error was thrown, what `output` holds (an alert, mostly) is worth sending, and
/// then the connection is over: every later call throws the same error.
public struct TLSEngine: ~Copyable {
  /// How much more room for plaintext than octets received ``receive(_:into:output:)`` needs: a record that was begun before may end now.
  public static let slack = 17 << 10
  /// Octets that a record of at most 16 KiB adds to what it protects, at most.
  private static let recordOverhead = 64
  private static let recordCount = 16 << 10

  private enum State {
    case handshaking
    case established
    case failed(TLSError)
  }

  let session: OpaquePointer
  private let passage: UnsafeMutablePointer<RecordPassage>
  /// Keep what libssl's callbacks refer to.
  private let server: TLSServerContext?
  private let client: TLSClientContext?
  private var state = State.handshaking
  private var isOutputEnded = false

  /// Whether the peer has ended its direction by close_notify; a connection that ends without was cut (RFC 8446, section 6.1).
  public private(set) var isEnded = false

  /// Begins a connection that a client opened.
  public init(server: TLSServerContext) throws(TLSError) {
    (session, passage) = try Self.open(server.pointer)
    self.server = server
    client = nil
    SSL_set_accept_state(session)
  }

  /// Begins a connection to a server; ``start(output:)`` gives the first octets.
  ///
  /// - Parameters:
  ///   - client: what the connection has in common with others.
  ///   - serverName: a DNS name, which is told to the server and verified, or an IP address, which is verified only. May be nil
  ///     only where nothing is verified.
  ///   - protocols: what can be spoken inside this one, the most wanted first; nil: what the context says.
  public init(client: TLSClientContext, serverName: String?, protocols: [TLSApplicationProtocol]? = nil) throws(TLSError) {
    let (session, passage) = try Self.open(client.pointer)
    guard Self.prepare(session, client, serverName) else {
      Self.close(session, passage)
      throw .serverNameInvalid
    }
    if let protocols {
      let list = TLSApplicationProtocol.list(protocols)
      guard SSL_set_alpn_protos(session, list, UInt32(list.count)) == 0 else {
        Self.close(session, passage)
        throw .resourcesExhausted
      }
    }
    passage.pointee.shelf = client.sessions
    passage.pointee.serverName = serverName ?? ""
    if let kept = client.sessions.take(for: serverName ?? "") { SSL_set_session(session, kept.pointer) }
    self.session = session
    self.passage = passage
    server = nil
    self.client = client
  }

  private static func open(_ context: OpaquePointer) throws(TLSError) -> (OpaquePointer, UnsafeMutablePointer<RecordPassage>) {
    LibraryErrors.clear()
    guard let session = SSL_new(context) else {
      LibraryErrors.clear()
      throw .resourcesExhausted
    }
    guard let functions = RecordPassage.Functions.shared.pointer, let bio = BIO_new(functions) else {
      LibraryErrors.clear()
      SSL_free(session)
      throw .resourcesExhausted
    }
    let passage = UnsafeMutablePointer<RecordPassage>.allocate(capacity: 1)
    passage.initialize(to: RecordPassage())
    BIO_set_data(bio, passage)
    BIO_set_init(bio, 1)
    SSL_set_bio(session, bio, bio)
    _ = libssl_set_index_data(session, passage)
    return (session, passage)
  }

  private static func close(_ session: OpaquePointer, _ passage: UnsafeMutablePointer<RecordPassage>) {
    // Safe because: the caller is the only owner; libssl frees the BIO with the session, and then nobody knows the passage.
    SSL_free(session)
    passage.deinitialize(count: 1)
    passage.deallocate()
  }

  deinit {
    // Without word of an end, libssl would take the connection for broken and forbid that its session is resumed.
    if case .established = state { SSL_set_shutdown(session, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN) }
    Self.close(session, passage)
  }

  /// Makes a session a client's; false where what the server must prove to be cannot be said.
  private static func prepare(_ session: OpaquePointer, _ client: TLSClientContext, _ serverName: String?) -> Bool {
    SSL_set_connect_state(session)
    guard let serverName else { return !client.isVerifying }
    return expect(serverName, session)
  }

  /// Says what the server must prove to be; false where it is neither a name nor an address.
  private static func expect(_ name: String, _ session: OpaquePointer) -> Bool {
    guard let rules = SSL_get0_param(session), !name.isEmpty, name.utf8.count <= 253, !name.utf8.contains(0) else { return false }
    defer { LibraryErrors.clear() }
    if X509_VERIFY_PARAM_set1_ip_asc(rules, name) == 1 { return true }
    guard isHostName(name) else { return false }
    X509_VERIFY_PARAM_set_hostflags(rules, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
    return X509_VERIFY_PARAM_set1_host(rules, name, name.utf8.count) == 1 && libssl_set_server_name(session, name) == 1
  }

  private static func isHostName(_ name: String) -> Bool {
    name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
      (1...63).contains(label.count)
        && label.allSatisfy { octet in
          switch octet {
          case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
            UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
          default: false
          }
        }
    }
  }

  // MARK: The network's side

  /// Begins the handshake of a client: its first octets are appended.
  public mutating func start(output: inout ByteBuffer) throws(TLSError) {
    var nothing: UInt8 = 0
    _ = try withUnsafeMutableBytes(of: &nothing) { (nothing) throws(TLSError) in
      try exchange(UnsafeRawBufferPointer(start: nil, count: 0), nothing, &output)
    }
  }

  /// Takes all octets that came from the network and gives what they protect.
  ///
  /// - Parameters:
  ///   - ciphertext: octets as they came, cut anywhere.
  ///   - plaintext: where to put content; room for `ciphertext.count + TLSEngine.slack` octets.
  ///   - output: what is to be sent is appended: answers of the handshake, tickets, alerts.
  /// - Returns: the octets written to `plaintext`. Look at ``isEstablished`` and ``isEnded`` afterwards.
  /// - Precondition: there is as much room as said.
  public mutating func receive(
    _ ciphertext: UnsafeRawBufferPointer, into plaintext: UnsafeMutableRawBufferPointer, output: inout ByteBuffer
  ) throws(TLSError) -> Int {
    precondition(plaintext.count - ciphertext.count >= Self.slack)
    return try exchange(ciphertext, plaintext, &output)
  }

  private mutating func exchange(
    _ ciphertext: UnsafeRawBufferPointer, _ plaintext: UnsafeMutableRawBufferPointer, _ output: inout ByteBuffer
  ) throws(TLSError) -> Int {
    if case .failed(let error) = state { throw error }
    LibraryErrors.clear()
    passage.pointee.input = ciphertext.baseAddress
    passage.pointee.inputCount = ciphertext.count
    passage.pointee.receivedCount &+= UInt64(ciphertext.count)
    defer {
      passage.pointee.input = nil
      passage.pointee.inputCount = 0
    }
    if case .handshaking = state {
      let isDone = try withOutput(&output) { (engine) throws(TLSError) in try engine.shakeHands() }
      // Nothing that is protected can have come while the handshake goes on.
      if !isDone || passage.pointee.inputCount == 0 { return 0 }
    }
    return try withOutput(&output) { (engine) throws(TLSError) in try engine.read(into: plaintext) }
  }

  /// Lends the caller's buffer to libssl for the time of `body`.
  @inline(__always)
  private mutating func withOutput<R>(
    _ output: inout ByteBuffer, _ body: (inout TLSEngine) throws(TLSError) -> R
  ) throws(TLSError) -> R {
    try withUnsafeMutablePointer(to: &output) { (output) throws(TLSError) in
      // Safe because: libssl writes during `body` only, and nobody else touches the buffer meanwhile.
      passage.pointee.output = output
      defer { passage.pointee.output = nil }
      return try body(&self)
    }
  }

  /// Goes on with the handshake; whether it is done.
  private mutating func shakeHands() throws(TLSError) -> Bool {
    let result = SSL_do_handshake(session)
    guard result == 1 else {
      guard SSL_get_error(session, result) == SSL_ERROR_WANT_READ else { throw fail() }
      return false
    }
    if let server, server.asksForCertificate, SSL_session_reused(session) == 1 { try checkResumedClient() }
    state = .established
    passage.pointee.isEstablished = true
    return true
  }

  /// A resumed session proves by what was seen when it began; a certificate may have ended since.
  private mutating func checkResumedClient() throws(TLSError) {
    guard let certificate = TLSPeerCertificate(of: session) else { return }
    guard Timestamp.now() <= certificate.expires else {
      state = .failed(.peerCertificate(.expired))
      throw .peerCertificate(.expired)
    }
  }

  private mutating func read(into plaintext: UnsafeMutableRawBufferPointer) throws(TLSError) -> Int {
    let count = try readRecords(into: plaintext)
    guard !passage.pointee.isFlooded else {
      let error = TLSError.protocolBroken(reason: SSL_R_TOO_MANY_KEY_UPDATES)
      state = .failed(error)
      throw error
    }
    return count
  }

  private mutating func readRecords(into plaintext: UnsafeMutableRawBufferPointer) throws(TLSError) -> Int {
    var written = 0
    while !isEnded {
      let room = UnsafeMutableRawBufferPointer(rebasing: plaintext[written...])
      let count = SSL_read(session, room.baseAddress, Int32(clamping: room.count))
      guard count > 0 else {
        switch SSL_get_error(session, count) {
        case SSL_ERROR_WANT_READ: return written
        case SSL_ERROR_ZERO_RETURN: isEnded = true
        default: throw fail()
        }
        break
      }
      written &+= Int(count)
      // A record is read whole, so nothing is left inside; asking once more would only make libssl get and give back a buffer.
      if passage.pointee.inputCount == 0 && SSL_pending(session) == 0 { return written }
    }
    return written
  }

  /// Remembers why libssl refused, and gives it.
  private mutating func fail() -> TLSError {
    let error = TLSError(reason: LibraryErrors.takeReason(), verification: SSL_get_verify_result(session))
    state = .failed(error)
    return error
  }

  // MARK: The content's side

  /// Protects all of `plaintext` and appends the records.
  public mutating func send(_ plaintext: UnsafeRawBufferPointer, output: inout ByteBuffer) throws(TLSError) {
    switch state {
    case .established: break
    case .handshaking: throw .notEstablished
    case .failed(let error): throw error
    }
    guard !isOutputEnded else { throw .notEstablished }
    guard plaintext.count > 0 else { return }
    LibraryErrors.clear()
    output.reserve(plaintext.count + (plaintext.count / Self.recordCount + 1) * Self.recordOverhead)
    try withOutput(&output) { (engine) throws(TLSError) in
      var count = 0
      // The passage takes everything, so libssl has no reason to stop in the middle.
      guard SSL_write_ex(engine.session, plaintext.baseAddress, plaintext.count, &count) == 1, count == plaintext.count else {
        throw engine.fail()
      }
    }
  }

  /// Ends our direction: appends close_notify, once. What the peer still sends can be received.
  public mutating func end(output: inout ByteBuffer) {
    guard case .established = state, !isOutputEnded else { return }
    isOutputEnded = true
    LibraryErrors.clear()
    withUnsafeMutablePointer(to: &output) { output in
      // Safe because: libssl writes during this call only.
      passage.pointee.output = output
      if SSL_shutdown(session) < 0 { LibraryErrors.clear() }
      passage.pointee.output = nil
    }
  }

  // MARK: What was agreed

  /// Whether the handshake is finished, so that content can be sent.
  public var isEstablished: Bool {
    if case .established = state { true } else { false }
  }

  /// What is spoken inside; nil where the peer did not say, or before it is known.
  public var applicationProtocol: TLSApplicationProtocol? {
    var octets: UnsafePointer<UInt8>?
    var count: UInt32 = 0
    SSL_get0_alpn_selected(session, &octets, &count)
    let name = UnsafeRawBufferPointer(start: octets, count: Int(count))
    return TLSApplicationProtocol.allCases.first { $0.isNamed(by: name) }
  }

  /// The version that was agreed on; nil before.
  public var version: TLSVersion? { TLSVersion(number: SSL_version(session)) }

  /// The cipher that was agreed on, as libssl names it; nil before.
  public var cipher: String? { SSL_get_current_cipher(session).flatMap(SSL_CIPHER_get_name).map { String(cString: $0) } }

  /// The server's name that the client asked for; nil where it did not.
  public var serverNameAsked: String? {
    SSL_get_servername(session, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) }
  }

  /// Whether an earlier session went on.
  public var isResumed: Bool { SSL_session_reused(session) == 1 }

  /// What the peer has shown; nil where it has shown nothing. Reading it takes microseconds: keep it.
  public var peerCertificate: TLSPeerCertificate? { TLSPeerCertificate(of: session) }
}

// Safe because: the engine is the only owner of its session and passage, and what it shares with others is Sendable.
extension TLSEngine: @unchecked Sendable {}
