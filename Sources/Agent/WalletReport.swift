import Bytes
import Crypto
import Encoding
import Methods
import Payments

/// Says what a wallet holds and may still spend, as its ledger answers a signed query (PREPAID.md, "Wallets").
public struct WalletReport: Sendable {
  /// The balance in one currency.
  public struct Balance: Sendable {
    /// The currency with its decimals.
    public let currency: Currency
    /// What may be spent, in base units.
    public let available: UInt128
  }

  /// One open session of the wallet.
  public struct OpenSession: Sendable {
    /// The session's id, in hexadecimal.
    public let sessionID: String
    /// The currency's code.
    public let currency: String
    /// The merchant account that the session pays.
    public let recipient: String
    /// Where the session stands.
    public let state: SessionStatus
  }

  /// The wallet's id.
  public let wallet: String
  /// The ledger's name.
  public let ledger: String
  /// What the wallet holds, by currency.
  public let balances: [Balance]
  /// The limits of the spending policy by their names; values as the ledger gives them.
  public let policy: JSONObject
  /// What is left of the limits today.
  public let left: JSONObject
  /// The open sessions.
  public let sessions: [OpenSession]
  /// The whole answer.
  public let document: JSONObject

  init?(_ octets: [UInt8]) {
    guard let object = (try? JSON.parse(octets))?.objectValue, let wallet = object["wallet"]?.stringValue,
      let ledger = object["ledger"]?.stringValue, let balances = object["balances"]?.arrayValue,
      let policy = object["policy"]?.objectValue, let left = object["left"]?.objectValue,
      let sessions = object["sessions"]?.arrayValue
    else { return nil }
    self.wallet = wallet
    self.ledger = ledger
    self.policy = policy
    self.left = left
    document = object
    self.balances = balances.compactMap { entry in
      guard let code = entry.objectValue?["currency"]?.stringValue,
        let decimals = entry.objectValue?["decimals"]?.intValue.flatMap({ UInt8(exactly: $0) }),
        let currency = Currency(code: code, decimals: decimals),
        let units = entry.objectValue?["available"]?.stringValue.flatMap({ DecimalUInt128.parse($0.utf8) })
      else { return nil }
      return Balance(currency: currency, available: units)
    }
    self.sessions = sessions.compactMap { entry in
      guard let object = entry.objectValue, let id = object["sessionId"]?.stringValue,
        let currency = object["currency"]?.stringValue, let recipient = object["recipient"]?.stringValue,
        let state = try? SessionStatus(parsing: object)
      else { return nil }
      return OpenSession(sessionID: id, currency: currency, recipient: recipient, state: state)
    }
  }
}

extension Agent {
  /// Asks the ledger behind an address about the agent's own wallet.
  ///
  /// - Throws: `.noWalletKey`, `.rejected` where the ledger does not know the wallet, or `.document(.wallet)`.
  public func walletReport(at address: WebAddress) throws(AgentError) -> WalletReport {
    guard let walletKey else { throw .noWalletKey }
    client.restartClock(at: .now())
    let nonce = Hex.encode(Random.bytes(16))
    let body = WalletQuery.sign(time: Timestamp.now(), nonce: nonce, key: walletKey.signingKey)
    let request = try AgentRequest(
      method: "POST", address: address.with(target: Prepaid.walletPath),
      fields: [AgentRequest.Field(name: "Content-Type", value: "application/json")], content: .octets(body))
    let (head, octets) = try ask(request)
    guard head.status == 200 else {
      guard let problem = ProblemDocument(octets, from: address) else {
        throw .unexpectedStatus(head.status, .wallet)
      }
      throw .rejected(status: head.status, problem: problem.name, detail: problem.detail)
    }
    guard let report = WalletReport(octets) else { throw .document(.wallet) }
    return report
  }
}
