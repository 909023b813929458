import Bytes
import Crypto
import Encoding

/// Reads a copy of the database as a start would, and proves what it holds.
struct BackupProof {
  let books: BooksReport
  let sessionCount: Int
  let entry: LSN
  let lineCount: UInt64
  let lastLine: Digest32
  let checkpoint: AuditPin?
  private let accounts: [AuditAccounts]

  /// Reads a database that nobody else has open. Octets that wait in its journal are moved to their places.
  ///
  /// - Throws: `damaged`, `unbalanced`, and what opening a ledger throws.
  init(database path: String) throws(LedgerError) {
    let store = try SQLiteStore(path: path)
    defer { store.close(afterFailure: false) }
    guard try store.isSound() else { throw .backup(.damaged) }
    var state = LedgerState(epoch: 1, at: Timestamp(microseconds: 0), tick: Instant.now())
    var reading = LedgerState.Reading()
    let head = try store.load(order: LedgerState.readingOrder) { (key, image) throws(LedgerError) in try state.read(key, image, &reading) }
    books = state.books()
    if let currency = books.unbalanced.first { throw .unbalanced(currency: currency) }
    sessionCount = state.sessionIndex.count
    entry = state.lsn
    // The key signs nothing here.
    var log = AuditLog(origin: "", key: .generate(), checkpointLines: .max)
    if let head { try log.restore(head) }
    lineCount = log.next - 1
    lastLine = log.previous
    checkpoint = log.checkpoint.size > 0 ? AuditPin(size: log.checkpoint.size, root: log.checkpoint.root) : nil
    accounts = log.totals.accounts
  }

  /// Holds the database against the point that it should be of, and against the audit files beside it.
  ///
  /// - Throws: `damaged`, `audit`.
  func prove(_ point: LedgerCopyPoint, folder: String, realm: String, key: Ed25519.PublicKey) throws(LedgerError) {
    guard entry == point.entry, lineCount == point.lineCount, lastLine == point.lastLine else { throw .backup(.damaged) }
    // What the lines say has moved is what the accounts hold.
    for line in accounts {
      guard let balances = books.balances.first(where: { $0.currency == line.currency }), line.agrees(with: balances) else { throw .backup(.damaged) }
    }
    guard lineCount > 0 else { return }
    var verifier = AuditVerifier(realm: realm, keys: [key], pin: checkpoint, mayBeginLater: true)
    let report = try verifier.verify(path: "\(folder)/\(BackupManifest.auditName)")
    guard report.isValid, report.lastSequence == lineCount, report.lastLine == lastLine else { throw .backup(.audit(report.defect)) }
  }
}

extension AuditAccounts {
  /// Whether the accounts hold what the lines say.
  func agrees(with balances: CurrencyBalances) -> Bool {
    Int128(exactly: balances.issued) == issued && Int128(exactly: balances.sessions) == sessions && balances.merchants == merchants
      && Int128(exactly: balances.paidOut) == paidOut
  }
}
