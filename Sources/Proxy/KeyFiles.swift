import Bytes
import Crypto
import Encoding
import Glibc

/// Reads and writes the files of a key ring.
///
/// Each file is text: a line with its kind and version, then one line a key of its base64url and the time it was made.
struct KeyFiles: Sendable {
  /// A key and when it was made.
  struct Dated<Value: Sendable>: Sendable {
    let value: Value
    let created: Timestamp

    init(_ value: Value, created: Timestamp) {
      self.value = value
      self.created = created
    }
  }

  /// What the files hold.
  struct Contents: Sendable {
    /// Newest first; at least one.
    var challenge: [Dated<SecretBytes>]
    var receipt: Dated<SecretBytes>
    /// Newest first.
    var retired: [Dated<Ed25519.PublicKey>]
    var checkpoint: Dated<SecretBytes>
    /// Challenge secrets from before this instant are not paid with any more: the ledger was restored from a backup then.
    var fence: Timestamp?
  }

  static let challengeName = "challenge.secret"
  static let receiptName = "receipt.key"
  static let retiredName = "receipt.retired"
  static let checkpointName = "checkpoint.key"
  static let fenceName = "challenge.fence"
  /// Stands in the folder while the files are made for the first time, so that a first start that was killed may begin again.
  static let unfinishedName = "creating"

  /// The longest file in octets, and the most lines.
  private static let byteLimit = 1 << 20

  let directory: String

  private func path(_ name: String) -> String { directory + "/" + name }

  // MARK: Loading

  func loadOrCreate(at now: Timestamp) throws(KeyRingError) -> Contents {
    let secrets = [Self.challengeName, Self.receiptName, Self.checkpointName]
    let present = secrets.filter { access(path($0), F_OK) == 0 }
    let isUnfinished = access(path(Self.unfinishedName), F_OK) == 0
    if present.isEmpty || isUnfinished { return try create(at: now) }
    for name in secrets where !present.contains(name) { throw .missing(file: path(name)) }
    return try load()
  }

  private func load() throws(KeyRingError) -> Contents {
    let challenge = try secrets(Self.challengeName)
    let receipt = try secrets(Self.receiptName)
    let checkpoint = try secrets(Self.checkpointName)
    var retired: [Dated<Ed25519.PublicKey>] = []
    if access(path(Self.retiredName), F_OK) == 0 {
      for (number, line) in try lines(Self.retiredName).enumerated() {
        guard let key = Ed25519.PublicKey(bytes: line.octets) else { throw .malformed(file: path(Self.retiredName), line: number + 2) }
        retired.append(Dated(key, created: line.created))
      }
    }
    var fence: Timestamp?
    if access(path(Self.fenceName), F_OK) == 0 {
      // The line has the form of a key's; what stands for the key says nothing.
      guard let line = try lines(Self.fenceName).first else { throw .malformed(file: path(Self.fenceName), line: 2) }
      fence = line.created
    }
    return Contents(challenge: challenge, receipt: receipt[0], retired: retired, checkpoint: checkpoint[0], fence: fence)
  }

  private func secrets(_ name: String) throws(KeyRingError) -> [Dated<SecretBytes>] {
    let lines = try lines(name)
    guard !lines.isEmpty else { throw .malformed(file: path(name), line: 2) }
    var secrets: [Dated<SecretBytes>] = []
    for (number, line) in lines.enumerated() {
      guard line.octets.count == Digest32.count else { throw .malformed(file: path(name), line: number + 2) }
      secrets.append(Dated(SecretBytes(line.octets), created: line.created))
    }
    return secrets
  }

  private func lines(_ name: String) throws(KeyRingError) -> [(octets: [UInt8], created: Timestamp)] {
    let text = try read(name)
    let lines = text.split(separator: "\n", omittingEmptySubsequences: true)
    guard lines.first == Substring(Self.heading(name)) else { throw .malformed(file: path(name), line: 1) }
    var result: [(octets: [UInt8], created: Timestamp)] = []
    for (number, line) in lines.dropFirst().enumerated() {
      let words = line.split(separator: " ")
      guard words.count == 2, let octets = Base64URL.decode(String(words[0])), let created = Timestamp(rfc3339: String(words[1])) else {
        throw .malformed(file: path(name), line: number + 2)
      }
      result.append((octets, created))
    }
    return result
  }

  /// Says what an errno means.
  static func reason(_ number: Int32) -> String {
    guard let text = strerror(number) else { return "error \(number)" }
    return String(cString: text)
  }

  private static func heading(_ name: String) -> String { "farebox \(name) v1" }

  /// Reads a file, refusing one that anybody else may touch.
  private func read(_ name: String) throws(KeyRingError) -> String {
    let file = path(name)
    let descriptor = open(file, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .failed(file: file, call: "open", errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .failed(file: file, call: "fstat", errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .malformed(file: file, line: 1) }
    guard status.st_mode & 0o077 == 0 else { throw .exposed(file: file, mode: status.st_mode & 0o777) }
    guard status.st_uid == geteuid() || geteuid() == 0 else { throw .foreign(file: file) }
    guard status.st_size <= Self.byteLimit else { throw .malformed(file: file, line: 1) }
    var octets: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw .failed(file: file, call: "read", errno: errno) }
      guard count > 0, octets.count <= Self.byteLimit else { return String(decoding: octets, as: UTF8.self) }
      octets += chunk[..<count]
    }
  }

  // MARK: Saving

  private func create(at now: Timestamp) throws(KeyRingError) -> Contents {
    try makeDirectory()
    try write(Self.unfinishedName, [])
    let contents = Contents(
      challenge: [Dated(Random.secret(Digest32.count), created: now)], receipt: Dated(Random.secret(Ed25519.seedCount), created: now),
      retired: [], checkpoint: Dated(Random.secret(Ed25519.seedCount), created: now), fence: nil)
    try writeSecrets(Self.challengeName, contents.challenge)
    try writeSecrets(Self.receiptName, [contents.receipt])
    try writeSecrets(Self.checkpointName, [contents.checkpoint])
    guard unlink(path(Self.unfinishedName)) == 0 else { throw .failed(file: path(Self.unfinishedName), call: "unlink", errno: errno) }
    try syncDirectory()
    return contents
  }

  /// Saves what a rotation changed; retired keys first, so that none is lost when the second write fails.
  func save(_ contents: Contents, _ kind: KeyRing.Kind) throws(KeyRingError) {
    switch kind {
    case .challenge: try writeSecrets(Self.challengeName, contents.challenge)
    case .receipt:
      try write(
        Self.retiredName,
        [Self.heading(Self.retiredName)] + contents.retired.map { "\(Base64URL.encode($0.value.octets)) \($0.created.rfc3339)" })
      try writeSecrets(Self.receiptName, [contents.receipt])
    }
  }

  /// Saves a rotation after which nothing from before it is paid with. The fence comes last: without a new secret it would shut everybody out.
  func saveFence(_ contents: Contents) throws(KeyRingError) {
    try writeSecrets(Self.challengeName, contents.challenge)
    guard let fence = contents.fence else { return }
    try write(Self.fenceName, [Self.heading(Self.fenceName), "from \(fence.rfc3339)"])
  }

  /// Puts keys of a backup into the folder, where it has none, and makes what a backup does not hold.
  func adopt(from folder: String, at now: Timestamp) throws(KeyRingError) {
    try makeDirectory()
    // Cut off here, it begins again.
    try write(Self.unfinishedName, [])
    let source = KeyFiles(directory: folder)
    for name in [Self.retiredName, Self.receiptName, Self.checkpointName] where access(source.path(name), F_OK) == 0 {
      try write(name, try source.read(name).split(separator: "\n").map { String($0) })
    }
    try writeSecrets(Self.challengeName, [Dated(Random.secret(Digest32.count), created: now)])
    guard unlink(path(Self.unfinishedName)) == 0 else { throw .failed(file: path(Self.unfinishedName), call: "unlink", errno: errno) }
    try syncDirectory()
  }

  /// Whether the folder holds none of the keys, or such as were never finished.
  var isEmpty: Bool {
    access(path(Self.unfinishedName), F_OK) == 0 || [Self.challengeName, Self.receiptName, Self.checkpointName].allSatisfy { access(path($0), F_OK) != 0 }
  }

  private func writeSecrets(_ name: String, _ secrets: [Dated<SecretBytes>]) throws(KeyRingError) {
    try write(
      name,
      [Self.heading(name)] + secrets.map { secret in "\(secret.value.withUnsafeBytes { Base64URL.encode($0) }) \(secret.created.rfc3339)" })
  }

  /// Writes a file beside its place, syncs it, and moves it there: at every instant the old or the new one is whole.
  private func write(_ name: String, _ lines: [String]) throws(KeyRingError) {
    let file = path(name)
    let temporary = file + ".new"
    unlink(temporary)
    let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .failed(file: file, call: "open", errno: errno) }
    var octets = Array(lines.joined(separator: "\n").utf8)
    if !octets.isEmpty { octets.append(UInt8(ascii: "\n")) }
    let failure = Self.fill(descriptor, octets)
    close(descriptor)
    if let failure {
      unlink(temporary)
      throw .failed(file: file, call: "write", errno: failure)
    }
    guard rename(temporary, file) == 0 else { throw .failed(file: file, call: "rename", errno: errno) }
    try syncDirectory()
  }

  private static func fill(_ descriptor: Int32, _ octets: [UInt8]) -> Int32? {
    var start = 0
    while start < octets.count {
      let count = octets[start...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return errno }
      start += count
    }
    return fsync(descriptor) == 0 ? nil : errno
  }

  private func syncDirectory() throws(KeyRingError) {
    let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { throw .failed(file: directory, call: "open", errno: errno) }
    defer { close(descriptor) }
    guard fsync(descriptor) == 0 else { throw .failed(file: directory, call: "fsync", errno: errno) }
  }

  private func makeDirectory() throws(KeyRingError) {
    var made = directory.hasPrefix("/") ? "" : "."
    for part in directory.split(separator: "/") {
      made += "/" + part
      if mkdir(made, 0o700) != 0, errno != EEXIST { throw .failed(file: made, call: "mkdir", errno: errno) }
    }
  }
}
