import Bytes
import Crypto
import Encoding
import Glibc
import HTTP
import Metering
import Payments
import Testing

@testable import Ledger

extension Pause {
  /// Waits as long as `isPending` says so, and half a minute at most.
  static func wait(while isPending: () -> Bool) {
    for _ in 0..<100_000 {
      guard isPending() else { return }
      briefly()
    }
  }
}

/// A folder that is removed when the last reference to it goes.
final class TemporaryFolder: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/ledger-tests.XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw LedgerError.folderNotWritable(code: errno) }
    path = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }

  deinit {
    for name in names { unlink("\(path)/\(name)") }
    rmdir(path)
  }

  var names: [String] {
    guard let stream = opendir(path) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// A file's permission bits.
  func mode(_ name: String) -> mode_t {
    var status = stat()
    return stat("\(path)/\(name)", &status) == 0 ? status.st_mode & 0o777 : 0
  }

  func read(_ name: String) -> [UInt8] { FileMap(path: "\(path)/\(name)")?.withOctets { Array($0) } ?? [] }

  func write(_ octets: [UInt8], to name: String) {
    let descriptor = Glibc.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    _ = Glibc.write(descriptor, octets, octets.count)
    Glibc.close(descriptor)
  }
}

let usdc = Currency(code: "usdc", decimals: 6)!
let euro = Currency(code: "eur", decimals: 2)!
/// The account of what arrives on a chain.
let base = "usdc@eip155:8453"
let noon = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
let testKey = Ed25519.SigningKey(seed: SecretBytes([UInt8](repeating: 7, count: 32)))!

func id(_ number: Int) -> Digest32 { SHA256.hash("id \(number)") }

extension Price {
  static let perRequest = Price(currency: usdc, parts: [Rate(amount: 10, unitSize: 1, unit: .request)!])!
  static let perMegabyte = Price(currency: usdc, parts: [Rate(amount: 10_000, unitSize: 1_000_000, unit: .responseByte)!])!
}

extension ExactCost {
  static func of(_ units: UInt128) -> ExactCost { ExactCost(whole: units) }
}

/// A ledger in a folder of its own, with a funded wallet; closed when the last reference to it goes.
final class LedgerFixture: Sendable {
  let folder: TemporaryFolder
  let ledger: Ledger
  let wallet = id(1)
  let route: RouteLabel

  static func options(_ folder: TemporaryFolder) -> LedgerOptions {
    var options = LedgerOptions(directory: folder.path, currencies: [usdc, euro], realm: "api.example.com", checkpointKey: testKey)
    options.reserveOctets = 1 << 16
    options.accounts = [base]
    return options
  }

  init(
    in folder: TemporaryFolder? = nil, funds: UInt128 = 1_000_000, policy: Policy = .unlimited, at now: Timestamp = noon,
    change: (inout LedgerOptions) -> Void = { _ in }
  ) throws {
    let isNew = folder == nil
    let folder = try folder ?? TemporaryFolder()
    var options = Self.options(folder)
    change(&options)
    ledger = try Ledger.open(options, at: now)
    self.folder = folder
    route = ledger.label(route: "weather")
    if isNew {
      _ = try ledger.createWallet(wallet, policy: policy, at: now)
      if funds > 0 { _ = try ledger.fund(wallet, currency: "usdc", amount: funds, reference: "first", at: now) }
    }
  }

  /// A ledger whose store fails as planned.
  init(in folder: TemporaryFolder, plan: FaultPlan) throws {
    let path = "\(folder.path)/ledger.db"
    ledger = try Ledger.open(Self.options(folder), at: noon) { () throws(LedgerError) -> any Store in try FaultyStore(path: path, plan: plan) }
    self.folder = folder
    route = ledger.label(route: "weather")
  }

  deinit { ledger.close() }

  func charge(_ number: Int, amount: UInt128 = 100, merchant: String = "shop", expires: Timestamp = noon + .seconds(300)) -> ChargeOrder {
    ChargeOrder(
      challengeID: id(1_000_000 + number), wallet: wallet, amount: amount, currency: "usdc", merchant: merchant, route: route,
      expires: expires, client: ClientAddress(ipv4: 0xC0_00_02_01))
  }

  func order(_ number: Int, deposit: UInt128 = 1_000, idle: Duration = .seconds(600), inFlight: UInt32 = 64) -> SessionOrder {
    SessionOrder(
      challengeID: id(2_000_000 + number), sessionID: id(3_000_000 + number), wallet: wallet, deposit: deposit,
      terms: SessionTerms(
        realm: "api.example.com", currency: "usdc", merchant: "shop",
        routes: [RouteTerms(routeID: "weather", priceVersion: Price.perRequest.version, price: .perRequest)]),
      idleTimeout: idle, maximumInFlight: inFlight, expires: noon + .seconds(300), route: route)
  }

  func topUp(_ number: Int, session: Int, amount: UInt128 = 500) -> TopUpOrder {
    TopUpOrder(
      challengeID: id(4_000_000 + number), credential: id(5_000_000 + number), sessionID: id(3_000_000 + session), wallet: wallet,
      amount: amount, currency: "usdc", merchant: "shop", expires: noon + .seconds(300))
  }

  func payment(_ number: Int, amount: UInt128 = 100, challenge: Int? = nil, expires: Timestamp = noon + .seconds(300)) -> ChainPaymentOrder {
    ChainPaymentOrder(
      id: id(6_000_000 + number), request: id(7_000_000 + number), payer: "0x\(String(repeating: "a", count: 40))", amount: amount,
      currency: base, merchant: "shop", route: route, client: ClientAddress(ipv4: 0xC0_00_02_02), expires: expires,
      challengeID: challenge.map { id(8_000_000 + $0) }, proof: [1, 2, 3])
  }

  /// A transaction for a payment, with a nonce.
  func transaction(_ nonce: UInt64, for number: Int) -> OutgoingTransaction {
    OutgoingTransaction(
      chain: 8453, sender: sender, nonce: nonce, purpose: id(6_000_000 + number), hash: id(9_000_000 + number), raw: [2, 248, UInt8(truncatingIfNeeded: nonce)],
      createdAt: noon)
  }

  var sender: [UInt8] { [UInt8](repeating: 0xBE, count: 20) }

  /// Claims a payment and books its money.
  @discardableResult func paid(_ number: Int, amount: UInt128 = 100, challenge: Int? = nil) throws -> Digest32 {
    let order = payment(number, amount: amount, challenge: challenge)
    _ = try ledger.claim(order, at: noon)
    _ = try ledger.submitted(order.id, transaction: nil, at: noon)
    _ = try ledger.settled(order.id, transaction: id(9_000_000 + number), at: noon)
    return order.id
  }

  /// What was earned on the chain, and the accounts of its money.
  var chainEarned: Int128 { ledger.merchants().first { $0.name == "shop" }?.balances.first { $0.currency == base }?.balance ?? 0 }
  var chainAccounts: CurrencyBalances { ledger.balances().first { $0.currency == base }! }

  func open(_ number: Int, deposit: UInt128 = 1_000, idle: Duration = .seconds(600), inFlight: UInt32 = 64) throws -> SessionHandle {
    try ledger.open(order(number, deposit: deposit, idle: idle, inFlight: inFlight), at: noon) { _ in [1, 2, 3] }.0
  }

  var line: DebitContext { DebitContext(route: route, writesLine: true, units: 1) }
  var stream: DebitContext { DebitContext(route: route, writesLine: false, units: 0) }

  var balance: UInt128 { ledger.walletView(wallet)?.accounts[0].balance ?? 0 }
  var earned: Int128 { ledger.merchants().first { $0.name == "shop" }?.balances[0].balance ?? 0 }

  func waitUntilDurable() { #expect(ledger.awaitDurable(ledger.applied)) }

  /// The lines of the current audit file as JSON.
  func lines() throws -> [JSONValue] {
    try folder.read("audit.jsonl").split(separator: 0x0A).map { try JSON.parse(Array($0)) }
  }
}
