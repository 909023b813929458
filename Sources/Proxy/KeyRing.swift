import Bytes
import Crypto
import Encoding
import Glibc
import Payments
import Synchronization

/// Holds the proxy's own keys: challenge secrets, the key that signs receipts and invoices, and the one that signs the audit
/// log's checkpoints. They are three, so that none can ever be used in another's place.
///
/// The keys live in a folder, one file each with mode 0600, created together on first start. A rotation keeps what
/// older documents need: previous challenge secrets, so that open sessions go on, and retired public keys, for ever.
public final class KeyRing: Sendable {
  /// The keys as they are at one moment; the data path keeps a copy and asks `generation` whether it is still the newest.
  public struct Keys: Sendable {
    /// Authenticates challenges: the current secret and previous ones.
    public let challengeSecrets: ChallengeSecrets
    /// Signs receipts and invoices.
    public let signer: DocumentSigner
    /// Every public key that signed receipts and invoices, the current one first.
    public let publicKeys: [Ed25519.PublicKey]
    /// Signs checkpoints of the audit log; it is never rotated, since it is the log's identity.
    public let checkpointKey: Ed25519.SigningKey
  }

  /// What can be rotated.
  public enum Kind: String, Sendable, CaseIterable {
    /// The challenge secret.
    case challenge
    /// The key of receipts and invoices.
    case receipt
  }

  /// One key, as a list for people shows it; nothing in it is secret.
  public struct Entry: Sendable, Hashable {
    /// `challenge`, `receipt` or `checkpoint`.
    public let kind: String
    /// The RFC 7638 thumbprint of a signing key; nil for challenge secrets.
    public let kid: String?
    /// The public key in base64url; nil for challenge secrets.
    public let publicKey: String?
    /// When the key was made.
    public let created: Timestamp
    /// Whether the key is used for new documents.
    public let isCurrent: Bool
  }

  private struct State {
    var files: KeyFiles.Contents
    var keys: Keys
  }

  private let files: KeyFiles
  private let state: Mutex<State>
  private let counter = Atomic<UInt64>(1)

  private init(_ files: KeyFiles, _ contents: KeyFiles.Contents) throws(KeyRingError) {
    self.files = files
    state = Mutex(State(files: contents, keys: try KeyRing.keys(contents, in: files)))
  }

  /// Opens the folder; on first start makes it and every key in it.
  ///
  /// - Throws: `missing` where some files are there and others are not, `exposed` where others may read one.
  public static func open(_ directory: String, at now: Timestamp) throws(KeyRingError) -> KeyRing {
    let files = KeyFiles(directory: directory)
    return try KeyRing(files, try files.loadOrCreate(at: now))
  }

  /// Counts rotations: a copy of `keys` made at another number is old.
  public var generation: UInt64 { counter.load(ordering: .acquiring) }

  /// The keys of this moment.
  public var keys: Keys { state.withLock { $0.keys } }

  /// Authenticates challenges.
  public var challengeSecrets: ChallengeSecrets { keys.challengeSecrets }

  /// Signs receipts and invoices.
  public var signer: DocumentSigner { keys.signer }

  /// Every public key that signed receipts and invoices, the current one first.
  public var publicKeys: [Ed25519.PublicKey] { keys.publicKeys }

  /// Signs checkpoints of the audit log.
  public var checkpointKey: Ed25519.SigningKey { keys.checkpointKey }

  /// Makes a new key of the kind and retires the current one; durable when it returns.
  public func rotate(_ kind: Kind, at now: Timestamp) throws(KeyRingError) {
    try state.withLock { (state) throws(KeyRingError) in
      var contents = state.files
      switch kind {
      case .challenge:
        contents.challenge.insert(KeyFiles.Dated(Random.secret(ChallengeSecrets.minimumByteCount), created: now), at: 0)
        contents.challenge = Array(contents.challenge.prefix(ChallengeSecrets.limit))
      case .receipt:
        guard let key = Ed25519.SigningKey(seed: contents.receipt.value) else { throw .malformed(file: KeyFiles.receiptName, line: 2) }
        contents.retired.insert(KeyFiles.Dated(key.publicKey, created: contents.receipt.created), at: 0)
        contents.receipt = KeyFiles.Dated(Ed25519.SigningKey.generate().seed, created: now)
      }
      let keys = try KeyRing.keys(contents, in: files)
      try files.save(contents, kind)
      state = State(files: contents, keys: keys)
    }
    counter.add(1, ordering: .releasing)
  }

  /// Makes a new challenge secret, and has nothing paid any more by challenges of the former ones: for a ledger that is restored from a backup,
  /// which does not know what was paid with them. Sessions that were opened by them go on; durable when it returns.
  public func fence(at now: Timestamp) throws(KeyRingError) {
    try state.withLock { (state) throws(KeyRingError) in
      var contents = state.files
      contents.challenge.insert(KeyFiles.Dated(Random.secret(ChallengeSecrets.minimumByteCount), created: now), at: 0)
      contents.challenge = Array(contents.challenge.prefix(ChallengeSecrets.limit))
      contents.fence = now
      let keys = try KeyRing.keys(contents, in: files)
      try files.saveFence(contents)
      state = State(files: contents, keys: keys)
    }
    counter.add(1, ordering: .releasing)
  }

  /// Whether a folder holds no keys.
  public static func isEmpty(_ directory: String) -> Bool { KeyFiles(directory: directory).isEmpty }

  /// Puts the keys of a backup into a folder that holds none, with a challenge secret of its own.
  public static func adopt(from backup: String, into directory: String, at now: Timestamp) throws(KeyRingError) {
    try KeyFiles(directory: directory).adopt(from: backup, at: now)
  }

  /// The files of a keys' folder that a backup may hold.
  public static func files(of directory: String) -> [String] {
    [KeyFiles.receiptName, KeyFiles.retiredName, KeyFiles.checkpointName].map { "\(directory)/\($0)" }.filter { access($0, F_OK) == 0 }
  }

  /// Lists every key, the current ones first within their kind.
  public var entries: [Entry] {
    let (contents, keys) = state.withLock { ($0.files, $0.keys) }
    var entries = contents.challenge.enumerated().map { number, secret in
      Entry(kind: "challenge", kid: nil, publicKey: nil, created: secret.created, isCurrent: number == 0)
    }
    entries.append(Self.entry("receipt", keys.signer.key.publicKey, contents.receipt.created, isCurrent: true))
    entries += contents.retired.map { Self.entry("receipt", $0.value, $0.created, isCurrent: false) }
    entries.append(Self.entry("checkpoint", keys.checkpointKey.publicKey, contents.checkpoint.created, isCurrent: true))
    return entries
  }

  private static func entry(_ kind: String, _ key: Ed25519.PublicKey, _ created: Timestamp, isCurrent: Bool) -> Entry {
    Entry(kind: kind, kid: JWK.thumbprint(key), publicKey: Base64URL.encode(key.octets), created: created, isCurrent: isCurrent)
  }

  private static func keys(_ contents: KeyFiles.Contents, in files: KeyFiles) throws(KeyRingError) -> Keys {
    guard let receipt = Ed25519.SigningKey(seed: contents.receipt.value) else { throw .malformed(file: KeyFiles.receiptName, line: 2) }
    guard let checkpoint = Ed25519.SigningKey(seed: contents.checkpoint.value) else {
      throw .malformed(file: KeyFiles.checkpointName, line: 2)
    }
    let secrets: ChallengeSecrets
    do {
      let previous = contents.challenge.dropFirst()
      secrets = try ChallengeSecrets(
        current: contents.challenge[0].value, previous: previous.map(\.value),
        payingCount: contents.fence.map { fence in previous.prefix { $0.created >= fence }.count } ?? .max)
    } catch {
      throw .malformed(file: KeyFiles.challengeName, line: 2)
    }
    // A rotation that was cut off between its two files leaves the current key among the retired ones.
    let retired = contents.retired.map(\.value).filter { $0 != receipt.publicKey }
    return Keys(challengeSecrets: secrets, signer: DocumentSigner(receipt), publicKeys: [receipt.publicKey] + retired, checkpointKey: checkpoint)
  }
}

/// Names why the keys cannot be used, and the file.
public enum KeyRingError: Error, Sendable, Equatable {
  /// Some of the files are there, and this one is not.
  case missing(file: String)
  /// Others than the owner may read or write the file.
  case exposed(file: String, mode: UInt32)
  /// The file belongs to another user.
  case foreign(file: String)
  /// The file is no key file of a version that is known.
  case malformed(file: String, line: Int)
  /// A system call failed.
  case failed(file: String, call: String, errno: Int32)
}

extension KeyRingError {
  /// What happened, in a sentence for people.
  public var message: String {
    switch self {
    case .missing(let file): "a key file is missing: \(file)"
    case .exposed(let file, let mode): "other users may touch a key file: \(file) has mode 0\(String(mode, radix: 8))"
    case .foreign(let file): "a key file belongs to another user: \(file)"
    case .malformed(let file, let line): "a key file is damaged, or of a newer version: \(file), line \(line)"
    case .failed(let file, let call, let number): "\(call) \(file): \(KeyFiles.reason(number))"
    }
  }

  /// What to do about it.
  public var advice: String? {
    switch self {
    case .missing: "restore it from a backup; without it, documents that it made cannot be verified any more"
    case .exposed(let file, _): "chmod 600 \(file), and rotate the keys if others may have read it"
    case .foreign: "run as the user that owns the keys, or chown the file"
    case .malformed: "restore it from a backup"
    case .failed: "the folder must be writable for the user that runs the proxy: see --state"
    }
  }
}
