import Crypto
import Encoding
import Glibc
import Payments
import Testing

@testable import Proxy

/// A folder that is removed when the test ends.
private final class Folder {
  let path: String

  init() {
    var template = Array("/tmp/farebox-keys-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!) == nil ? "" : String(cString: $0.baseAddress!) }
  }

  deinit {
    for name in names { unlink(path + "/keys/" + name) }
    rmdir(path + "/keys")
    rmdir(path)
  }

  var keys: String { path + "/keys" }

  var names: [String] {
    guard let stream = opendir(keys) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  func mode(_ name: String) -> UInt32 {
    var status = stat()
    return stat(keys + "/" + name, &status) == 0 ? status.st_mode & 0o777 : 0
  }
}

private let now = Timestamp(seconds: 1_800_000_000)
private let message = Array("resource".utf8)

@Suite struct KeyRingTests {
  @Test func firstStartMakesPrivateFilesThatStay() throws {
    let folder = Folder()
    let ring = try KeyRing.open(folder.keys, at: now)
    #expect(folder.names == ["challenge.secret", "checkpoint.key", "receipt.key"])
    for name in folder.names { #expect(folder.mode(name) == 0o600) }
    var status = stat()
    #expect(stat(folder.keys, &status) == 0 && status.st_mode & 0o777 == 0o700)
    let again = try KeyRing.open(folder.keys, at: now + .seconds(1))
    #expect(again.publicKeys == ring.publicKeys)
    #expect(again.checkpointKey.publicKey == ring.checkpointKey.publicKey)
    #expect(again.challengeSecrets.current.authenticate(message) == ring.challengeSecrets.current.authenticate(message))
    #expect(ring.checkpointKey.publicKey != ring.publicKeys[0])
    #expect(again.entries == ring.entries)
  }

  @Test func rotationKeepsWhatOldDocumentsNeed() throws {
    let folder = Folder()
    let ring = try KeyRing.open(folder.keys, at: now)
    let before = ring.keys
    let tag = before.challengeSecrets.current.authenticate(message)
    let generation = ring.generation
    try ring.rotate(.challenge, at: now + .seconds(10))
    try ring.rotate(.receipt, at: now + .seconds(20))
    #expect(ring.generation == generation + 2)
    for ring in [ring, try KeyRing.open(folder.keys, at: now)] {
      #expect(ring.challengeSecrets.current.authenticate(message) != tag)
      message.withUnsafeBytes { octets in #expect(ring.challengeSecrets.isValid(tag, octets)) }
      #expect(ring.publicKeys.count == 2)
      #expect(ring.publicKeys[0] != before.signer.key.publicKey)
      #expect(ring.publicKeys[1] == before.signer.key.publicKey)
      #expect(ring.checkpointKey.publicKey == before.checkpointKey.publicKey)
      #expect(ring.entries.map(\.kind) == ["challenge", "challenge", "receipt", "receipt", "checkpoint"])
      #expect(ring.entries.map(\.isCurrent) == [true, false, true, false, true])
      #expect(ring.entries[0].created == now + .seconds(10))
      #expect(ring.entries[3].created == now)
    }
    #expect(folder.mode("receipt.retired") == 0o600)
  }

  /// After a restoration sessions go on with challenges of before, and nothing is paid by them.
  @Test func aFenceShutsOutWhatIsPaidByFormerSecrets() throws {
    let folder = Folder()
    let ring = try KeyRing.open(folder.keys, at: now)
    #expect(ring.challengeSecrets.paying == nil)
    try ring.rotate(.challenge, at: now)
    let before = ring.challengeSecrets.current.authenticate(message)
    try ring.fence(at: now + .seconds(10))
    let fenced = ring.challengeSecrets.current.authenticate(message)
    try ring.rotate(.challenge, at: now + .seconds(20))
    let after = ring.challengeSecrets.current.authenticate(message)
    for ring in [ring, try KeyRing.open(folder.keys, at: now)] {
      let secrets = ring.challengeSecrets
      let paying = try #require(secrets.paying)
      message.withUnsafeBytes { octets in
        #expect(secrets.isValid(before, octets) && secrets.isValid(fenced, octets) && secrets.isValid(after, octets))
        #expect(!paying.isValid(before, octets) && paying.isValid(fenced, octets) && paying.isValid(after, octets))
      }
      #expect(secrets.previous.count == 3 && paying.previous.count == 1)
    }
    #expect(folder.mode("challenge.fence") == 0o600)
  }

  @Test func keysOfABackupAreAdoptedWhereThereAreNone() throws {
    let (folder, other) = (Folder(), Folder())
    let ring = try KeyRing.open(folder.keys, at: now)
    try ring.rotate(.receipt, at: now)
    #expect(KeyRing.isEmpty(other.keys) && !KeyRing.isEmpty(folder.keys))
    #expect(KeyRing.files(of: folder.keys).count == 3)
    try KeyRing.adopt(from: folder.keys, into: other.keys, at: now)
    let adopted = try KeyRing.open(other.keys, at: now)
    #expect(adopted.publicKeys == ring.publicKeys && adopted.checkpointKey.publicKey == ring.checkpointKey.publicKey)
    #expect(adopted.challengeSecrets.current.authenticate(message) != ring.challengeSecrets.current.authenticate(message))
    #expect(!KeyRing.isEmpty(other.keys))
  }

  @Test func previousSecretsAreBounded() throws {
    let folder = Folder()
    let ring = try KeyRing.open(folder.keys, at: now)
    let first = ring.challengeSecrets.current.authenticate(message)
    for _ in 0..<ChallengeSecrets.limit { try ring.rotate(.challenge, at: now) }
    message.withUnsafeBytes { octets in #expect(!ring.challengeSecrets.isValid(first, octets)) }
    #expect(ring.entries.count { $0.kind == "challenge" } == ChallengeSecrets.limit)
    for _ in 0..<20 { try ring.rotate(.receipt, at: now) }
    #expect(ring.publicKeys.count == 21)
  }

  @Test(arguments: ["challenge.secret", "receipt.key", "checkpoint.key"])
  func filesOfOthersAreRefused(_ name: String) throws {
    let folder = Folder()
    _ = try KeyRing.open(folder.keys, at: now)
    let file = folder.keys + "/" + name
    chmod(file, 0o640)
    #expect(throws: KeyRingError.exposed(file: file, mode: 0o640)) { try KeyRing.open(folder.keys, at: now) }
    chmod(file, 0o604)
    #expect(throws: KeyRingError.exposed(file: file, mode: 0o604)) { try KeyRing.open(folder.keys, at: now) }
    chmod(file, 0o600)
    unlink(file)
    #expect(throws: KeyRingError.missing(file: file)) { try KeyRing.open(folder.keys, at: now) }
  }

  @Test func damagedFilesAreNamed() throws {
    let folder = Folder()
    _ = try KeyRing.open(folder.keys, at: now)
    let file = folder.keys + "/challenge.secret"
    func put(_ text: String) {
      let descriptor = open(file, O_WRONLY | O_TRUNC)
      _ = Array(text.utf8).withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      close(descriptor)
    }
    put("something else\n")
    #expect(throws: KeyRingError.malformed(file: file, line: 1)) { try KeyRing.open(folder.keys, at: now) }
    put("farebox challenge.secret v2\n")
    #expect(throws: KeyRingError.malformed(file: file, line: 1)) { try KeyRing.open(folder.keys, at: now) }
    put("farebox challenge.secret v1\n")
    #expect(throws: KeyRingError.malformed(file: file, line: 2)) { try KeyRing.open(folder.keys, at: now) }
    put("farebox challenge.secret v1\nAAAA 2026-01-01T00:00:00Z\n")
    #expect(throws: KeyRingError.malformed(file: file, line: 2)) { try KeyRing.open(folder.keys, at: now) }
  }

  @Test func interruptedFirstStartBeginsAgain() throws {
    let folder = Folder()
    _ = try KeyRing.open(folder.keys, at: now)
    unlink(folder.keys + "/checkpoint.key")
    close(open(folder.keys + "/creating", O_CREAT | O_WRONLY, 0o600))
    _ = try KeyRing.open(folder.keys, at: now)
    #expect(folder.names == ["challenge.secret", "checkpoint.key", "receipt.key"])
  }

  @Test func unwritableFolderNamesCallAndFile() {
    #expect(throws: KeyRingError.failed(file: "/proc/keys-of-farebox", call: "mkdir", errno: ENOENT)) {
      try KeyRing.open("/proc/keys-of-farebox", at: now)
    }
  }

  @Test func secretsDoNotPrint() throws {
    let folder = Folder()
    let ring = try KeyRing.open(folder.keys, at: now)
    var dumped = ""
    dump(ring.keys, to: &dumped)
    let descriptor = open(folder.keys + "/receipt.key", O_RDONLY)
    var octets = [UInt8](repeating: 0, count: 200)
    let count = read(descriptor, &octets, 200)
    close(descriptor)
    let seed = String(decoding: octets[..<count], as: UTF8.self).split(separator: "\n")[1].split(separator: " ")[0]
    #expect(seed.count == 43)
    #expect(!dumped.contains(seed))
  }
}
