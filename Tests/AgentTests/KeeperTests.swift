import Bytes
import Crypto
import Encoding
import Foundation
import Glibc
import Payments
import Testing

@testable import Agent

@Suite struct KeeperTests {
  private let folder = NSTemporaryDirectory() + "keeper-\(UUID().uuidString)"

  private var keeper: Keeper { Keeper(path: folder + "/config/farebox") }

  private func mode(_ path: String) -> mode_t? {
    var facts = stat()
    return stat(path, &facts) == 0 ? facts.st_mode & 0o777 : nil
  }

  private func session(_ id: String = String(repeating: "a", count: 64)) throws -> KeptSession {
    let secrets = try ChallengeSecrets(current: SecretBytes([UInt8](repeating: 1, count: 32)))
    let challenge = try Challenge(
      realm: "127.0.0.1", method: "prepaid", intent: "session", request: ["amount": "1"], expires: Timestamp(seconds: 1_900_000_000),
      opaque: ["n": "x"], selectsAlternateField: true, description: "a \"quoted\" one", secrets: secrets)
    var session = KeptSession(
      sessionID: id, preimage: String(repeating: "b", count: 64), origin: "http://127.0.0.1:8402", realm: "127.0.0.1", ledger: "l",
      currency: try #require(Currency(code: "usdc", decimals: 6)), recipient: "acme", wallet: "did:key:z", state: .opening,
      deposit: UInt128.max, spent: 5, suggestedDeposit: 7, routes: [])
    session.remember(challenge, method: "GET", path: "/a")
    return session
  }

  @Test func filesArePrivate() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // A wide umask must not matter.
    let before = umask(0)
    defer { _ = umask(before) }
    let key = try keeper.createWalletKey()
    try keeper.save(try session())
    try keeper.admit(["kid": key.signingKey.publicKey], of: "http://127.0.0.1:8402")
    let root = folder + "/config/farebox"
    #expect(mode(root) == 0o700)
    #expect(mode(root + "/sessions") == 0o700)
    for name in ["wallet.key", "servers.json", "lock", "sessions/lock", "sessions/\(String(repeating: "a", count: 64)).json"] {
      #expect(mode(root + "/" + name) == 0o600, "\(name)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: root).filter { $0.hasSuffix(".new") }.isEmpty)
  }

  @Test func keysAreNeverOverwritten() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try keeper.walletKey() == nil)
    let key = try keeper.createWalletKey()
    #expect(key.wallet.hasPrefix("did:key:z6Mk"))
    #expect(throws: AgentError.keeper(.exists(path: keeper.walletKeyPath))) { try keeper.createWalletKey() }
    #expect(try keeper.walletKey()?.wallet == key.wallet)
  }

  @Test func readsSeedsOfBothForms() throws {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // RFC 8032 section 7.1, test 1.
    let hex = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    let expected = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    for octets in [Array(hex.utf8), Array((hex + "\n").utf8), try #require(Hex.decode(hex))] {
      try KeeperFolder.replace(path: folder + "/key", with: octets, exclusive: false)
      let key = try #require(try WalletKey.load(path: folder + "/key"))
      #expect(Hex.encode(key.signingKey.publicKey.bytes) == expected)
    }
    for octets in [[], Array("x".utf8), Array((hex.uppercased()).utf8), Array((hex + "\n\n").utf8)] {
      try KeeperFolder.replace(path: folder + "/key", with: octets, exclusive: false)
      #expect(throws: AgentError.keeper(.malformed(path: folder + "/key"))) { try WalletKey.load(path: folder + "/key") }
    }
  }

  @Test func refusesFilesThatOthersRead() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    _ = try keeper.createWalletKey()
    chmod(keeper.walletKeyPath, 0o640)
    #expect(throws: AgentError.keeper(.tooOpen(path: keeper.walletKeyPath))) { try keeper.walletKey() }
  }

  @Test func keepsSessionsWhole() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try keeper.sessions().isEmpty)
    let session = try session()
    try keeper.save(session)
    let read = try #require(try keeper.sessions().first)
    #expect(read.json == session.json)
    #expect(read.challenge(method: "GET", path: "/a") == session.anyChallenge)
    #expect(read.challenge(method: "POST", path: "/a") == nil)
    try keeper.update(session.sessionID) { $0.spent = 6 }
    #expect(try keeper.sessions().first?.spent == 6)
    try keeper.forget(session.sessionID)
    try keeper.forget(session.sessionID)
    try keeper.update(session.sessionID) { $0.spent = 7 }
    #expect(try keeper.sessions().isEmpty)
  }

  @Test func boundsRoutesOfSession() throws {
    var session = try session()
    let challenge = try #require(session.anyChallenge)
    for index in 0..<100 { session.remember(challenge, method: "GET", path: "/\(index)") }
    #expect(session.routes.count == KeptSession.routeLimit)
    #expect(session.challenge(method: "GET", path: "/99") != nil)
    #expect(session.challenge(method: "GET", path: "/a") == nil)
  }

  @Test func tellsSpoiledFiles() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try keeper.save(try session())
    let path = folder + "/config/farebox/sessions/\(String(repeating: "a", count: 64)).json"
    try KeeperFolder.replace(path: path, with: Array("{}".utf8), exclusive: false)
    #expect(throws: AgentError.keeper(.malformed(path: path))) { try keeper.sessions() }
  }

  @Test func changesTakeTurns() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let keeper = keeper
    let session = try session()
    try keeper.save(session)
    DispatchQueue.concurrentPerform(iterations: 4) { _ in
      for _ in 0..<25 { try? keeper.update(session.sessionID) { $0.spent += 1 } }
    }
    #expect(try keeper.sessions().first?.spent == 105)
  }

  @Test func pinsKeysAndDecimals() throws {
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let origin = "http://127.0.0.1:8402"
    let first = Ed25519.SigningKey.generate().publicKey
    let second = Ed25519.SigningKey.generate().publicKey
    try keeper.admit(["a": first], of: origin)
    try keeper.admit(["a": first, "b": second], of: origin)
    #expect(throws: AgentError.serverKeys(.pinnedKeyMissing)) { try keeper.admit(["a": first], of: origin) }
    #expect(throws: AgentError.serverKeys(.pinnedKeyChanged)) { try keeper.admit(["a": second, "b": second], of: origin) }
    try keeper.admit(["c": second], of: "http://127.0.0.1:9")
    let six = try #require(Currency(code: "usdc", decimals: 6))
    let eight = try #require(Currency(code: "usdc", decimals: 8))
    try keeper.admit(six, ledger: "l", of: origin)
    try keeper.admit(six, ledger: "l", of: origin)
    try keeper.admit(eight, ledger: "other", of: origin)
    #expect(throws: AgentError.offer(.decimals)) { try keeper.admit(eight, ledger: "l", of: origin) }
    try keeper.forgetServer(origin)
    try keeper.admit(["a": second], of: origin)
    try keeper.admit(eight, ledger: "l", of: origin)
    #expect(throws: AgentError.serverKeys(.pinnedKeyMissing)) { try keeper.admit(["d": second], of: "http://127.0.0.1:9") }
  }
}
