import Crypto
import Encoding
import Glibc
import Payments

/// Keeps what an agent must not lose between calls: wallet keys, open sessions, and the keys of servers.
///
/// Everything stands under one folder, by default `$XDG_CONFIG_HOME/farebox` or `~/.config/farebox`, of mode 0700 with
/// files of mode 0600. Changes are made under a lock file, and every file is replaced whole, so processes that run at the
/// same time do not spoil each other's files.
public struct Keeper: Sendable {
  /// The sessions that are kept at most.
  public static let sessionLimit = 1024

  let folder: KeeperFolder
  private let sessionFolder: KeeperFolder

  /// Uses the folder at an absolute path; nothing is made before it is needed.
  public init(path: String) {
    folder = KeeperFolder(path: path)
    sessionFolder = KeeperFolder(path: path + "/sessions")
  }

  /// Uses the folder that the XDG base directory specification names.
  ///
  /// - Throws: `.keeper(.noHome)` where neither `XDG_CONFIG_HOME` nor `HOME` is an absolute path.
  public static func standard() throws(AgentError) -> Keeper {
    if let base = environment("XDG_CONFIG_HOME"), base.hasPrefix("/") { return Keeper(path: base + "/farebox") }
    guard let home = environment("HOME"), home.hasPrefix("/") else { throw .keeper(.noHome) }
    return Keeper(path: home + "/.config/farebox")
  }

  private static func environment(_ name: String) -> String? {
    // Safe because: getenv's string is copied at once, and nothing here changes the environment.
    getenv(name).map { String(cString: $0) }
  }

  // MARK: - Wallet keys

  /// The path of the key that is used when no other is named.
  public var walletKeyPath: String { folder.path + "/wallet.key" }

  /// Reads the wallet key, nil where there is none yet.
  public func walletKey() throws(AgentError) -> WalletKey? { try WalletKey.load(path: walletKeyPath) }

  /// Makes the wallet key.
  ///
  /// - Throws: `.keeper(.exists)` where there is one: a key is never overwritten, for its wallet's money would be lost.
  public func createWalletKey() throws(AgentError) -> WalletKey {
    try folder.prepare()
    return try WalletKey.create(path: walletKeyPath)
  }

  // MARK: - Sessions

  /// Reads every kept session.
  public func sessions() throws(AgentError) -> [KeptSession] {
    var sessions: [KeptSession] = []
    for name in try sessionFolder.names(ending: ".json") {
      guard let octets = try sessionFolder.read(name) else { continue }
      guard let json = try? JSON.parse(octets), let session = KeptSession(json: json) else {
        throw .keeper(.malformed(path: sessionFolder.path + "/" + name))
      }
      sessions.append(session)
    }
    return sessions
  }

  /// Writes a session down, new or changed.
  public func save(_ session: KeptSession) throws(AgentError) {
    try folder.prepare()
    let name = session.sessionID + ".json"
    try sessionFolder.withLock { () throws(AgentError) in
      let names = try sessionFolder.names(ending: ".json")
      guard names.count < Self.sessionLimit || names.contains(name) else {
        throw .keeper(.tooManySessions(limit: Self.sessionLimit))
      }
      try sessionFolder.replace(name, with: JSON.serialize(session.json, pretty: true))
    }
  }

  /// Changes a kept session under the lock; does nothing where another process has forgotten it.
  func update(_ sessionID: String, _ change: (inout KeptSession) -> Void) throws(AgentError) {
    try sessionFolder.withLock { () throws(AgentError) in
      let name = sessionID + ".json"
      guard let octets = try sessionFolder.read(name) else { return }
      guard let json = try? JSON.parse(octets), var session = KeptSession(json: json) else {
        throw .keeper(.malformed(path: sessionFolder.path + "/" + name))
      }
      change(&session)
      try sessionFolder.replace(name, with: JSON.serialize(session.json, pretty: true))
    }
  }

  /// Forgets a session: it is closed, or was never opened.
  public func forget(_ sessionID: String) throws(AgentError) {
    try sessionFolder.withLock { () throws(AgentError) in try sessionFolder.remove(sessionID + ".json") }
  }

  // MARK: - Pinned facts

  private static let factsName = "servers.json"

  private func facts() throws(AgentError) -> PinnedFacts {
    guard let octets = try folder.read(Self.factsName) else { return PinnedFacts() }
    guard let json = try? JSON.parse(octets), let facts = PinnedFacts(json: json) else {
      throw .keeper(.malformed(path: folder.path + "/" + Self.factsName))
    }
    return facts
  }

  private func change(_ body: (inout PinnedFacts) throws(AgentError) -> Bool) throws(AgentError) {
    try folder.withLock { () throws(AgentError) in
      var facts = try facts()
      guard try body(&facts) else { return }
      try folder.replace(Self.factsName, with: JSON.serialize(facts.json, pretty: true))
    }
  }

  /// Compares an origin's keys with those seen before, and remembers new ones.
  func admit(_ keys: [String: Ed25519.PublicKey], of origin: String) throws(AgentError) {
    try change { (facts) throws(AgentError) in try facts.admit(keys, of: origin) }
  }

  /// Compares a currency's decimals with those seen before, and remembers new ones.
  func admit(_ currency: Currency, ledger: String, of origin: String) throws(AgentError) {
    try change { (facts) throws(AgentError) in try facts.admit(currency, ledger: ledger, of: origin) }
  }

  /// Forgets the keys and decimals of an origin; for the day when a provider starts anew with another ledger.
  public func forgetServer(_ origin: String) throws(AgentError) {
    try change { (facts) throws(AgentError) in facts.forget(origin) }
  }
}
