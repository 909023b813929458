import Configuration
import Crypto
import Ledger

extension LedgerOptions {
  /// The options of the ledger that settings describe; `checkpointKey` signs its audit log.
  public init(_ settings: Settings, checkpointKey: Ed25519.SigningKey) {
    self.init(
      directory: settings.ledger.directory, currencies: settings.currencies, realm: settings.ledger.name, checkpointKey: checkpointKey,
      auditPath: settings.audit.path)
    accounts = settings.chainAccounts
    rotateOctets = settings.audit.rotateBytes
    auditRetention = settings.audit.retention
    chargeRetention = settings.ledger.chargeRetention
    checkpointLines = UInt64(settings.audit.checkpointEvery)
    checkpointInterval = settings.audit.checkpointInterval
    commitDelay = settings.ledger.commitDelay
    reserveOctets = Int(clamping: settings.ledger.reserveBytes)
  }
}

extension Settings {
  /// The ledger's accounts for the money of chains: `usdc@eip155:8453`.
  var chainAccounts: [String] {
    chains.flatMap { chain in chain.tokens.map { RouteRails.account($0.currency, chain: chain.id) } }
  }
}
