internal import Bytes
internal import CLibSSL
internal import Crypto
internal import Synchronization

/// Seals what a server must remember of a session into tickets that clients keep (RFC 5077, section 4).
///
/// Shared by all contexts and threads, so that a ticket of one resumes at any other, also after certificates were read
/// again. After ``rotate()`` new tickets are sealed by a new key; the ones before open until they have been pushed out.
public final class TLSTicketKeys: Sendable {
  /// How many keys open tickets: the newest, which seals as well, and those before it.
  public static let keptCount = 3
  /// How long a ticket may be used. Rotate at half of it, and every ticket opens for as long as it says.
  public static let ticketLifetime = Duration.seconds(7200)

  private let keys: Mutex<[TicketKey]>

  /// Draws a first key.
  public init() {
    keys = Mutex([TicketKey()])
  }

  /// Draws a new key, and forgets the oldest where there are too many.
  public func rotate() {
    let key = TicketKey()
    keys.withLock { keys in
      keys.insert(key, at: 0)
      if keys.count > Self.keptCount { keys.removeLast() }
    }
  }

  private var newest: TicketKey { keys.withLock { $0[0] } }

  /// The key of a name, and whether it is the newest.
  private func key(named name: UnsafeRawBufferPointer) -> (TicketKey, isNewest: Bool)? {
    keys.withLock { keys in
      for (index, key) in keys.enumerated() where key.isNamed(name) { return (key, index == 0) }
      return nil
    }
  }

  /// Answers libssl's question for keys, as SSL_CTX_set_tlsext_ticket_key_evp_cb(3) says: -1 error, 0 unknown, 1 known, 2 known and
  /// to be replaced by a new ticket, which is so where the key is old, or where clients use each ticket once.
  func prepare(
    name: UnsafeMutableRawBufferPointer, iv: UnsafeMutableRawBufferPointer, cipher: OpaquePointer, mac: OpaquePointer, sealing: Bool,
    isUsedOnce: Bool
  ) -> Int32 {
    if sealing {
      let key = newest
      name.copyBytes(from: key.name)
      Random.fill(iv)
      return key.start(cipher: cipher, mac: mac, iv: UnsafeRawBufferPointer(iv), sealing: true) ? 1 : -1
    }
    guard let (key, isNewest) = key(named: UnsafeRawBufferPointer(name)) else { return 0 }
    guard key.start(cipher: cipher, mac: mac, iv: UnsafeRawBufferPointer(iv), sealing: false) else { return -1 }
    return isNewest && !isUsedOnce ? 1 : 2
  }
}

/// One key: AES-256-CBC and HMAC-SHA256 under a public name.
private final class TicketKey: Sendable {
  static let nameCount = 16
  let name: [UInt8]
  private let secret: SecretBytes

  init() {
    name = Random.bytes(Self.nameCount)
    secret = Random.secret(64)
  }

  func isNamed(_ octets: UnsafeRawBufferPointer) -> Bool { octets.elementsEqual(name) }

  func start(cipher: OpaquePointer, mac: OpaquePointer, iv: UnsafeRawBufferPointer, sealing: Bool) -> Bool {
    secret.withUnsafeBytes { octets in
      guard let key = octets.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return false }
      // Safe because: the key has 32 octets for the cipher and 32 for the authenticator, which are copied and not written.
      return libssl_ticket_start(
        cipher, mac, TicketCipher.shared.pointer, key, UnsafeMutablePointer(mutating: key + 32),
        iv.baseAddress?.assumingMemoryBound(to: UInt8.self), sealing ? 1 : 0) == 1
    }
  }
}

/// The tickets' cipher, fetched once: each implicit fetch would take locks.
private struct TicketCipher: @unchecked Sendable {
  // Safe because: libcrypto's ciphers are read only; this one lives as long as the process.
  static let shared = TicketCipher()
  let pointer = EVP_CIPHER_fetch(nil, "AES-256-CBC", nil)
}
