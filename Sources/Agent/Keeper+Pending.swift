import Crypto
import Encoding
import Ethereum
import Glibc
import Synchronization

// Payments on chains while their fate is not known. A file is of the process that makes the call; when that has ended without learning
// what became of the payment, the next call for the same purchase goes on with it.
extension Keeper {
  /// The files of calls that this process makes at the moment.
  private static let underWay = Mutex<Set<String>>([])

  private var pendingFolder: KeeperFolder { KeeperFolder(path: folder.path + "/payments") }

  /// Writes a payment down before it is sent.
  ///
  /// - Returns: the file's name, by which its fate is told.
  func keep(_ payment: PendingPayment, for purchase: String) throws(AgentError) -> String {
    try folder.prepare()
    let name = Self.name(purchase)
    Self.underWay.withLock { _ = $0.insert(name) }
    try pendingFolder.withLock { () throws(AgentError) in try pendingFolder.replace(name, with: JSON.serialize(payment.json)) }
    return name
  }

  private static func name(_ purchase: String) -> String { "\(purchase)-\(getpid())-\(Random.digest32().hex.prefix(8)).json" }

  /// Ends a call: its payment is forgotten where its fate is known, else left for the next call.
  func conclude(_ name: String, isKnown: Bool) throws(AgentError) {
    defer { Self.underWay.withLock { _ = $0.remove(name) } }
    guard isKnown else { return }
    try pendingFolder.withLock { () throws(AgentError) in try pendingFolder.remove(name) }
  }

  /// Takes over the payment of an earlier call for the same purchase that ended without learning its fate; nil where there is none.
  ///
  /// What has expired is forgotten, whatever it was for: nothing can be bought with it.
  func adoptPending(_ purchase: String, payer: Address, tokens: [TrustedToken], now: Timestamp) throws(AgentError) -> (String, PendingPayment)? {
    let pendingFolder = pendingFolder
    guard !(try pendingFolder.names(ending: ".json")).isEmpty else { return nil }
    return try pendingFolder.withLock { () throws(AgentError) in
      for name in try pendingFolder.names(ending: ".json") where Self.isLeft(name) {
        guard let octets = try pendingFolder.read(name), let json = try? JSON.parse(octets),
          let expires = json["expires"]?.stringValue.flatMap({ Timestamp(rfc3339: $0) }), now < expires
        else {
          try pendingFolder.remove(name)
          continue
        }
        guard name.hasPrefix(purchase), let payment = PendingPayment(json: json, tokens: tokens), payment.payer == payer else { continue }
        let own = Self.name(purchase)
        Self.underWay.withLock { _ = $0.insert(own) }
        try pendingFolder.replace(own, with: octets)
        try pendingFolder.remove(name)
        return (own, payment)
      }
      return nil
    }
  }

  /// Whether nobody is at work on a file's payment: the process has ended, or the call has.
  private static func isLeft(_ name: String) -> Bool {
    let parts = name.split(separator: "-")
    guard parts.count == 3, let process = pid_t(parts[1]) else { return true }
    if process == getpid() { return !underWay.withLock { $0.contains(name) } }
    // Safe because: signal 0 only asks whether the process exists.
    return kill(process, 0) != 0 && errno == ESRCH
  }
}
