internal import CLibSSL
internal import Synchronization

/// Keeps a bounded number of sessions that can be resumed, by the server's name.
final class SessionShelf: Sendable {
  /// Most sessions of one name: TLS 1.3 uses each one once (RFC 8446, appendix C.4).
  static let sessionsPerName = 8
  /// Most names; beyond them nothing is kept.
  static let nameLimit = 256

  private let sessions = Mutex<[String: [KeptSession]]>([:])

  /// Takes over a session; false where it was not taken.
  func put(_ session: OpaquePointer, for name: String) -> Bool {
    guard SSL_SESSION_is_resumable(session) == 1 else { return false }
    let kept = KeptSession(pointer: session)
    return sessions.withLock { sessions in
      guard sessions[name] != nil || sessions.count < Self.nameLimit else {
        kept.disown()
        return false
      }
      sessions[name, default: []].append(kept)
      if sessions[name, default: []].count > Self.sessionsPerName { sessions[name]?.removeFirst() }
      return true
    }
  }

  /// Gives the newest session of a name; one of TLS 1.3 is given once only.
  func take(for name: String) -> KeptSession? {
    sessions.withLock { sessions in
      guard let newest = sessions[name]?.last else { return nil }
      if SSL_SESSION_get_protocol_version(newest.pointer) == TLSVersion.tls13.number { sessions[name]?.removeLast() }
      return newest
    }
  }
}

/// Owns one SSL_SESSION.
final class KeptSession: @unchecked Sendable {
  // Safe because: libssl counts a session's owners atomically and locks what it changes.
  let pointer: OpaquePointer
  private let isOwner = Atomic(true)

  init(pointer: OpaquePointer) {
    self.pointer = pointer
  }

  /// Leaves the session to whoever offered it.
  func disown() { isOwner.store(false, ordering: .relaxed) }

  deinit {
    if isOwner.load(ordering: .relaxed) { SSL_SESSION_free(pointer) }
  }
}
