import Bytes
import Configuration
import Crypto
import Encoding
import Ethereum
import Glibc
import HTTP
import IO
import Ledger
import Metering
import Payments
import Synchronization
import Testing

@testable import Proxy

/// A ledger, keys and settings in a folder of their own, removed when the test ends.
private final class Operations: Sendable {
  let path: String
  let settings: Settings
  let ledger: Ledger
  let keys: KeyRing
  let administration: Administration
  let now = Timestamp.now()
  let agent = Ed25519.SigningKey.generate()

  /// Makes them; `chains` adds one, with a token.
  init(chains: Bool = false) throws {
    var template = Array("/tmp/farebox-admin-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!) == nil ? "" : String(cString: $0.baseAddress!) }
    var settings = Settings()
    settings.ledger.directory = path + "/ledger"
    settings.ledger.name = "api.example.com"
    settings.ledger.reserveBytes = 65_536
    settings.audit.path = path + "/audit.jsonl"
    settings.keys.directory = path + "/keys"
    settings.admin.socketPath = path + "/farebox.sock"
    settings.currencies = [Currency(code: "usdc", decimals: 6)!, Currency(code: "eur", decimals: 2)!]
    settings.merchants = [Settings.Merchant(id: "shop", displayName: "Example Shop")]
    if chains {
      var chain = Settings.Chain(name: "base", id: 8453)
      chain.tokens = [Settings.Token(currency: settings.currencies[0], address: .zero)]
      settings.chains = [chain]
    }
    self.settings = settings
    keys = try KeyRing.open(settings.keys.directory, at: now)
    ledger = try Ledger.open(LedgerOptions(settings, checkpointKey: keys.checkpointKey), at: now)
    administration = Administration(settings: settings, ledger: ledger, keys: keys)
  }

  deinit {
    ledger.close()
    for folder in ["ledger", "keys", ""] {
      for name in Self.names(path + "/" + folder) { unlink(path + "/" + folder + "/" + name) }
      rmdir(path + "/" + folder)
    }
  }

  private static func names(_ folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      names.append(withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } })
    }
    return names
  }

  var did: JSONValue { .string(DIDKey.encode(agent.publicKey)) }

  /// Opens a session with a deposit, and returns its id.
  func openSession(_ deposit: UInt128) throws -> Digest32 {
    let price = Price(currency: settings.currencies[0], parts: [Rate(amount: 1000, unitSize: 1, unit: .request)!])!
    let id = Random.digest32()
    let terms = SessionTerms(
      realm: "api.example.com", currency: "usdc", merchant: "shop",
      routes: [RouteTerms(routeID: "quotes", priceVersion: price.version, price: price)])
    let order = SessionOrder(
      challengeID: Random.digest32(), sessionID: id, wallet: agent.publicKey.octets, deposit: deposit, terms: terms, idleTimeout: .seconds(600),
      maximumInFlight: 16, expires: now + .seconds(300), route: ledger.label(route: "quotes"), client: .none)
    _ = try ledger.open(order, at: now, receipt: { _ in [] })
    return id
  }
}

/// One way to give a command: to the handler itself, or over the socket.
private typealias Run = (String, JSONObject) throws -> JSONValue

private struct Failed: Error, Equatable {
  var code: String
  var status: UInt16
}

private func direct(_ operations: Operations) -> Run {
  { command, object in
    do throws(AdministrationError) {
      return try operations.administration.run(command, object, at: operations.now)
    } catch {
      throw Failed(code: error.code, status: error.status)
    }
  }
}

private func overSocket(_ operations: Operations) -> Run {
  { command, object in
    let answer = try AdministrationClient(socketPath: operations.settings.admin.socketPath).post(command, object)
    let value = try JSON.parse(answer.content)
    guard answer.status == 200 else { throw Failed(code: value["error"]?.stringValue ?? "", status: answer.status) }
    return value
  }
}

private func code(_ body: () throws -> JSONValue) -> String {
  do {
    _ = try body()
    return "none"
  } catch let failed as Failed {
    return failed.code
  } catch {
    return "\(error)"
  }
}

private func text(of path: String) -> String? {
  guard let file = fopen(path, "r") else { return nil }
  defer { fclose(file) }
  var octets: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 1 << 16)
  while case let count = fread(&part, 1, part.count, file), count > 0 { octets += part[..<count] }
  return String(decoding: octets, as: UTF8.self)
}

private func serve(_ operations: Operations) throws -> AdministrationServer {
  try AdministrationServer.start(
    socketPath: operations.settings.admin.socketPath,
    source: AdministrationServer.Source(
      administration: { operations.administration }, metrics: { $0.append("farebox_up 1\n") },
      isReady: { operations.ledger.availability == .selling }))
}

/// Gives every command once, and checks what it did; run directly and over the socket alike.
private func everyCommand(_ operations: Operations, _ run: Run) throws {
  try walletCommands(run)
  let did = operations.did
  _ = try run("wallet/create", ["wallet": did])
  _ = try run("wallet/fund", ["wallet": did, "amount": "1 USDC", "reference": "agent"])
  let id = try operations.openSession(500_000)
  #expect(try run("session/list", [:])["sessions"]?.arrayValue?.count == 1)
  #expect(try run("session/list", ["wallet": did])["sessions"]?.arrayValue?[0]["session"] == .string(id.hex))
  let shown = try run("session/show", ["session": .string(id.hex)])
  #expect(shown["state"] == "open" && shown["deposit"] == "500000" && shown["spent"] == "0" && shown["remaining"] == "500000")
  #expect(shown["routes"]?.arrayValue?[0]["price"] == "0.001 USDC per request")
  let closed = try run("session/close", ["session": .string(id.hex)])
  #expect(closed["state"] == "closed" && closed["refunded"] == "500000" && closed["cause"] == "operator")
  #expect(try run("session/show", ["session": .string(id.hex)]) == closed)
  #expect(try run("session/close", ["session": .string(id.hex)]) == closed)
  #expect(code { try run("session/show", ["session": .string(Random.digest32().hex)]) } == "unknown-session")

  try merchantCommands(operations, run)
  for command in ["ledger/balance", "ledger/verify"] {
    let books = try run(command, [:])
    #expect(books["balanced"] == true)
    #expect(books["currencies"]?.arrayValue?.map { $0["sum"] } == ["0", "0"])
  }
  #expect(try run("keys/list", [:])["keys"]?.arrayValue?.count == 3)
  #expect(try run("keys/rotate", ["kind": "receipt"])["keys"]?.arrayValue?.count == 4)
  #expect(try run("keys/rotate", ["kind": "challenge"])["keys"]?.arrayValue?.count == 5)
  #expect(try run("keys/list", [:])["checkpointVerifier"]?.stringValue?.hasPrefix("api.example.com/audit+") == true)
  #expect(code { try run("keys/rotate", ["kind": "checkpoint"]) } == "malformed-member")
  #expect(try run("audit/rotate", [:])["rotating"] == true)
}

private func walletCommands(_ run: Run) throws {
  let did = JSONValue.string(DIDKey.encode(Ed25519.SigningKey.generate().publicKey))
  #expect(code { try run("wallet/show", ["wallet": did]) } == "unknown-wallet")
  let made = try run("wallet/create", ["wallet": did, "policy": ["daily-cap": "2 USDC", "max-sessions": 3, "allow": ["shop"]]])
  #expect(made["state"] == "active")
  #expect(made["policy"] == ["daily-cap": ["usdc": "2000000"], "max-sessions": 3, "allow": ["shop"]])
  #expect(code { try run("wallet/create", ["wallet": did]) } == "wallet-exists")
  let funding: JSONObject = ["wallet": did, "amount": "5 USDC", "reference": "f-1"]
  let funded = try run("wallet/fund", funding)
  #expect(funded["balances"] == ["usdc": "5000000", "eur": "0"] && funded["repeated"] == false)
  let again = try run("wallet/fund", funding)
  #expect(again["balances"] == ["usdc": "5000000", "eur": "0"] && again["repeated"] == true)
  #expect(code { try run("wallet/fund", ["wallet": did, "amount": "6 USDC", "reference": "f-1"]) } == "reference-used")
  #expect(try run("wallet/defund", ["wallet": did, "amount": "1.5 usdc", "reference": "d-1"])["balances"]?["usdc"] == "3500000")
  #expect(code { try run("wallet/defund", ["wallet": did, "amount": "9 USDC", "reference": "d-2"]) } == "insufficient-funds")
  let changed = try run("wallet/policy", ["wallet": did, "policy": ["session-cap": "1 USDC", "max-sessions": nil]])
  #expect(changed["policy"] == ["daily-cap": ["usdc": "2000000"], "session-cap": ["usdc": "1000000"], "allow": ["shop"]])
  let removed = try run("wallet/policy", ["wallet": did, "policy": ["daily-cap": nil, "allow": nil, "expires": "2099-01-01T00:00:00Z"]])
  #expect(removed["policy"] == ["session-cap": ["usdc": "1000000"], "expires": "2099-01-01T00:00:00Z"])
  #expect(try run("wallet/freeze", ["wallet": did])["state"] == "frozen")
  #expect(try run("wallet/thaw", ["wallet": did])["state"] == "active")
  let other = Ed25519.SigningKey.generate()
  let next = JSONValue.string(DIDKey.encode(other.publicKey))
  #expect(try run("wallet/rekey", ["wallet": did, "to": next])["balances"]?["usdc"] == "3500000")
  #expect(code { try run("wallet/show", ["wallet": did]) } == "unknown-wallet")
  let third = Ed25519.SigningKey.generate()
  #expect(try run("wallet/create", ["wallet": .string(DIDKey.encode(third.publicKey))])["policy"] == [:])
  #expect(try run("wallet/list", [:])["wallets"]?.arrayValue?.count == 2)
  #expect(try run("wallet/list", ["offset": 1, "limit": 5])["wallets"]?.arrayValue?.count == 1)
  // The old key is dead for ever.
  #expect(code { try run("wallet/create", ["wallet": did]) } == "wallet-exists")
}

private func merchantCommands(_ operations: Operations, _ run: Run) throws {
  var references: [LSN] = []
  for _ in 0..<2 {
    let order = ChargeOrder(
      challengeID: Random.digest32(), wallet: operations.agent.publicKey.octets, amount: 1000, currency: "usdc", merchant: "shop",
      route: operations.ledger.label(route: "quotes"), expires: operations.now + .seconds(300))
    let hold = try operations.ledger.hold(order, at: operations.now)
    _ = try operations.ledger.settle(hold, outcome: nil, at: operations.now)
    references.append(hold.id)
  }
  #expect(try run("merchant/list", [:])["merchants"]?.arrayValue?[0]["balances"]?["usdc"] == "2000")
  let payment: JSONObject = ["merchant": "shop", "amount": "0.0005 USDC", "reference": "p-1"]
  #expect(try run("merchant/payout", payment)["merchants"]?.arrayValue?[0]["balances"]?["usdc"] == "1500")
  #expect(try run("merchant/payout", payment)["repeated"] == true)
  #expect(code { try run("merchant/payout", ["merchant": "nobody", "amount": "1 USDC", "reference": "p-2"]) } == "unknown-merchant")
  let reference = JSONValue.string(String(references[0]))
  #expect(try run("refund", ["reference": reference])["reference"] == reference)
  #expect(code { try run("refund", ["reference": reference]) } == "already-refunded")
  // What was paid out cannot be refunded from the merchant's account.
  #expect(code { try run("refund", ["reference": .string(String(references[1]))]) } == "insufficient-funds")
  #expect(code { try run("refund", ["reference": "999999999"]) } == "unknown-reference")
}

@Suite struct AdministrationTests {
  @Test func everyCommandOnTheLedgerItself() throws {
    let operations = try Operations()
    try everyCommand(operations, direct(operations))
  }

  @Test func everyCommandOverTheSocket() throws {
    let operations = try Operations()
    let server = try serve(operations)
    defer { server.stop() }
    try everyCommand(operations, overSocket(operations))
  }

  @Test func paymentsOnChainsAreListedShownAndWrittenOff() throws {
    let operations = try Operations(chains: true)
    let run = direct(operations)
    let (ledger, now, account) = (operations.ledger, operations.now, "usdc@eip155:8453")
    let expires = now + .seconds(300)
    let ids = try (0..<4).map { _ in
      let id = Random.digest32()
      _ = try ledger.claim(
        ChainPaymentOrder(id: id, request: Digest32(), payer: "0xaa", amount: 1000, currency: account, merchant: "shop", expires: expires), at: now)
      return id
    }
    for id in ids.dropFirst() { _ = try ledger.submitted(id, transaction: Digest32(), at: now) }
    // Another version of the transaction is no other state.
    _ = try ledger.submitted(ids[1], transaction: Random.digest32(), at: now + .seconds(5))
    #expect(try run("payment/show", ["payment": .string(ids[1].hex)])["since"] == .string(now.rfc3339))
    for id in ids.dropFirst(2) { _ = try ledger.settled(id, transaction: Random.digest32(), at: now + .seconds(7)) }
    func listed(_ arguments: JSONObject) throws -> [JSONValue?] {
      try run("payment/list", arguments)["payments"]?.arrayValue?.map { $0["payment"] } ?? []
    }
    let names = ids.map { JSONValue.string($0.hex) }
    #expect(try listed([:]) == names.reversed())
    #expect(try listed(["limit": 1, "offset": 1]) == [names[2]])
    #expect(try listed(["state": "open"]) == [names[0], names[1]])
    #expect(try listed(["state": "unserved", "offset": 1]) == [names[3]])
    let shown = try run("payment/show", ["payment": .string("0x" + ids[3].hex)])
    #expect(shown["state"] == "unserved" && shown["amount"] == "1000" && shown["currency"] == "usdc@eip155:8453" && shown["payer"] == "0xaa")
    #expect(shown["since"] == .string((now + .seconds(7)).rfc3339) && shown["unresolved"] == false)
    #expect(code { try run("payment/write-off", ["payment": names[1]]) } == "claim-in-flight")
    #expect(try run("payment/write-off", ["payment": names[3]])["state"] == "written-off")
    #expect(code { try run("payment/write-off", ["payment": names[3]]) } == "claim-settled")
    #expect(try run("merchant/list", [:])["merchants"]?.arrayValue?[0]["balances"]?["usdc@eip155:8453"] == "1000")

    let payment: JSONObject = ["merchant": "shop", "amount": "0.0004 USDC@base", "reference": "p-1"]
    #expect(try run("merchant/payout", payment)["currency"] == "usdc@eip155:8453")
    #expect(try run("merchant/payout", ["merchant": "shop", "amount": "0.0006", "account": "usdc@base", "reference": "p-2"])["repeated"] == false)
    #expect(code { try run("merchant/payout", ["merchant": "shop", "amount": "0.0006 USDC@base", "reference": "p-3"]) } == "insufficient-funds")
    #expect(try run("ledger/verify", [:])["balanced"] == true)
  }

  @Test func whatNobodySaysAnythingOfNeedsAnOperator() throws {
    let operations = try Operations(chains: true)
    let (ledger, now) = (operations.ledger, operations.now)
    func status(after seconds: Int) throws -> JSONValue { try operations.administration.run("chain/status", [:], at: now + .seconds(seconds)) }
    #expect(try status(after: 0)["well"] == true && status(after: 0)["running"] == false)
    let id = Random.digest32()
    _ = try ledger.claim(
      ChainPaymentOrder(id: id, request: Digest32(), payer: "0xaa", amount: 1, currency: "usdc@eip155:8453", merchant: "shop", expires: now + .seconds(60)), at: now)
    _ = try ledger.submitted(id, transaction: nil, at: now)
    #expect(try status(after: 239)["payments"] == ["open": 1, "unserved": 0, "unresolved": 0])
    let late = try status(after: 240)
    #expect(late["payments"] == ["open": 1, "unserved": 0, "unresolved": 1])
    #expect(late["chains"]?.arrayValue?[0]["problems"]?.arrayValue?.count == 1)
    // Of a chain that is configured no longer, what was sent is told as well.
    let sender = [UInt8](repeating: 7, count: 20)
    _ = try ledger.adoptNonce(chain: 5, sender: sender, nonce: 3, at: now)
    #expect(try status(after: 0)["chains"]?.arrayValue?[1]["problems"] == [])
    _ = try ledger.enqueue(
      OutgoingTransaction(chain: 5, sender: sender, nonce: 3, purpose: Digest32(), hash: Digest32(), raw: [1], createdAt: now), at: now)
    let former = try #require(try status(after: 9)["chains"]?.arrayValue?[1])
    #expect(former["state"] == "not-configured" && former["problems"]?.arrayValue?.count == 1)
    #expect(former["outbox"]?.arrayValue?[0]["seconds"] == 9 && former["outbox"]?.arrayValue?[0]["nonce"] == "3")
  }

  @Test func rotatedKeysLeaveALine() throws {
    let operations = try Operations()
    let run = direct(operations)
    _ = try run("keys/rotate", ["kind": "receipt"])
    _ = try run("keys/rotate", ["kind": "challenge"])
    #expect(code { try run("keys/rotate", ["kind": "checkpoint"]) } == "malformed-member")
    operations.ledger.close()
    let lines = try #require(text(of: operations.settings.audit.path)).split(separator: "\n").map { try JSON.parse(String($0)) }
    let rotations = lines.filter { $0["event"] == "keys.rotated" }
    #expect(rotations.map { $0["cause"] } == ["receipt", "challenge"])
  }

  @Test func membersAreReadStrictly() throws {
    let operations = try Operations()
    let run = direct(operations)
    let did = operations.did
    let cases: [(String, JSONObject, String)] = [
      ("wallet/steal", [:], "unknown-command"), ("wallet/show", [:], "missing-member"), ("wallet/show", ["wallet": 7], "malformed-member"),
      ("wallet/show", ["wallet": "did:key:zABC"], "malformed-member"), ("wallet/show", ["wallet": did, "x": 1], "unknown-member"),
      ("wallet/create", ["wallet": did, "policy": ["dayly-cap": "1 USDC"]], "unknown-member"),
      ("wallet/create", ["wallet": did, "policy": ["daily-cap": "1 GBP"]], "malformed-member"),
      ("wallet/create", ["wallet": did, "policy": ["expires": "tomorrow"]], "malformed-member"),
      ("wallet/create", ["wallet": did, "policy": ["max-sessions": -1]], "malformed-member"),
      ("wallet/create", ["wallet": did, "policy": ["allow": ["a", 1]]], "malformed-member"),
      ("wallet/create", ["wallet": did, "policy": "none"], "malformed-member"),
      ("wallet/fund", ["wallet": did, "amount": "-5 USDC", "reference": "r"], "malformed-member"),
      ("wallet/fund", ["wallet": did, "amount": "0 USDC", "reference": "r"], "malformed-member"),
      ("wallet/fund", ["wallet": did, "amount": "5", "reference": "r"], "malformed-member"),
      ("wallet/fund", ["wallet": did, "amount": "5 USDC", "reference": ""], "malformed-member"),
      ("wallet/fund", ["wallet": did, "amount": "5 USDC", "reference": "r"], "unknown-wallet"),
      ("session/show", ["session": "ABC"], "malformed-member"), ("refund", ["reference": "-1"], "malformed-member"),
      ("wallet/list", ["limit": -1], "malformed-member"), ("payment/show", ["payment": "0x12"], "malformed-member"),
      ("payment/show", ["payment": .string(Digest32().hex)], "unknown-payment"), ("payment/list", ["state": "lost"], "malformed-member"),
      ("chain/status", ["chain": "base"], "unknown-member"),
      ("merchant/payout", ["merchant": "shop", "amount": "1", "reference": "r"], "malformed-member"),
      ("merchant/payout", ["merchant": "shop", "amount": "1 USDC", "account": "usdc@mars", "reference": "r"], "malformed-member"),
    ]
    for (command, object, expected) in cases {
      #expect(code { try run(command, object) } == expected, "\(command) \(object)")
    }
  }

  @Test func socketIsPrivateAndSaysWhatItServes() throws {
    let operations = try Operations()
    let path = operations.settings.admin.socketPath
    #expect(throws: AdministrationClient.Failure.notRunning) { try AdministrationClient(socketPath: path).get("/healthz") }
    let server = try serve(operations)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o600)
    let client = AdministrationClient(socketPath: path)
    #expect(try client.get("/healthz").status == 200)
    #expect(try client.get("/readyz").status == 200)
    #expect(try client.get("/metrics").content == Array("farebox_up 1\n".utf8))
    #expect(try client.get("/nothing").status == 404)
    #expect(try client.get("/v1/wallet/list").status == 405)
    #expect(try client.post("wallet/steal", [:]).status == 404)
    #expect(throws: IOError.self) { try serve(operations) }
    operations.ledger.close()
    #expect(try client.get("/readyz").status == 503)
    server.stop()
    #expect(stat(path, &status) != 0)
    #expect(throws: AdministrationClient.Failure.notRunning) { try client.get("/healthz") }
    #expect(throws: AdministrationClient.Failure.pathTooLong) {
      try AdministrationClient(socketPath: "/" + String(repeating: "x", count: 200)).get("/")
    }
  }

  @Test func socketRefusesWhatIsNoRequest() throws {
    let operations = try Operations()
    let server = try serve(operations)
    defer { server.stop() }
    let cases: [(String, String)] = [
      ("GET / HTTP/1.1\r\n\r\n", "400"), ("nonsense\r\n\r\n", "400"), ("POST /v1/wallet/list HTTP/1.1\r\nhost: x\r\n\r\n", "200"),
      ("POST /v1/wallet/list HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n[]", "400"),
      ("POST /v1/wallet/list HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n{", "400"),
      ("POST /v1/wallet/list HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
      ("POST /v1/wallet/list HTTP/1.1\r\nhost: x\r\ncontent-length: 99999\r\n\r\n", "413"),
      ("POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n", "405"),
      ("GET /\(String(repeating: "x", count: 9000)) HTTP/1.1\r\nhost: x\r\n\r\n", "414"),
    ]
    for (request, expected) in cases {
      let answer = try raw(operations.settings.admin.socketPath, request)
      #expect(answer.hasPrefix("HTTP/1.1 \(expected) "), "\(request.prefix(60)): \(answer.prefix(60))")
    }
    // A peer that leaves in the middle holds nobody up.
    _ = try raw(operations.settings.admin.socketPath, "POST /v1/wallet/list HTTP/1.1\r\n", leaves: true)
    #expect(try AdministrationClient(socketPath: operations.settings.admin.socketPath).get("/healthz").status == 200)
  }

  private func raw(_ path: String, _ request: String, leaves: Bool = false) throws -> String {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    let length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let connected = withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) } }
    try #require(connected == 0)
    let octets = Array(request.utf8)
    #expect(send(descriptor, octets, octets.count, Int32(MSG_NOSIGNAL)) == octets.count)
    if leaves { return "" }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(descriptor, &chunk, chunk.count, 0)
      guard count > 0 else { break }
      answer += chunk[..<count]
    }
    return String(decoding: answer, as: UTF8.self)
  }
}

/// Where a test holds another thread up until it has seen enough.
private final class Passage: Sendable {
  private let state = Mutex((isEntered: false, isOpen: false))

  func enter() {
    state.withLock { $0.isEntered = true }
    while !state.withLock({ $0.isOpen }) { Pause.milliseconds(2) }
  }

  func awaitEntry() { while !state.withLock({ $0.isEntered }) { Pause.milliseconds(2) } }
  func open() { state.withLock { $0.isOpen = true } }
}

private final class Answered: Sendable {
  let status = Mutex<UInt16>(0)
}

/// What waits for other programs keeps no operator waiting who has a wallet to freeze.
@Suite struct AdministrationApartTests {
  @Test(.timeLimit(.minutes(5))) func aCommandIsCarriedOutWhileAnUpgradeWaits() throws {
    let operations = try Operations()
    let passage = Passage()
    var source = AdministrationServer.Source(administration: { operations.administration }, metrics: { _ in }, isReady: { true })
    source.operate = { operation in
      if operation == .upgrade { passage.enter() }
      return .success(["done": .string(operation.rawValue)])
    }
    let path = operations.settings.admin.socketPath
    let server = try AdministrationServer.start(socketPath: path, source: source)
    let run = overSocket(operations)
    let answered = Answered()
    let upgrade = try LoopThread(name: "upgrade") {
      let answer = try? AdministrationClient(socketPath: path).post("upgrade", [:])
      answered.status.withLock { $0 = answer?.status ?? 0 }
    }
    passage.awaitEntry()
    _ = try run("wallet/create", ["wallet": operations.did])
    #expect(try run("process", [:])["done"] == "process")
    for operation in ["reload", "upgrade"] { #expect(code { try run(operation, [:]) } == "busy") }
    passage.open()
    upgrade.join()
    #expect(answered.status.withLock { $0 } == 200)
    for _ in 0..<20 { #expect(try run("reload", [:])["done"] == "reload", "whoever has an answer may ask again") }
    server.stop()
  }
}
