import Bytes
import Crypto
import Encoding
import Ethereum
import Foundation
import Methods
import Payments
import Synchronization

@testable import Agent

/// A server of x402 and of the method evm that takes payments by the real checks and settles nowhere: what it is to say next, a test chooses.
final class ChainBooth: Sendable {
  /// What happens to the next request that carries a payment, in this order.
  enum Fault: Sendable {
    case none
    /// The connection ends before the payment is looked at.
    case drop
    /// The facilitator has broadcast the transaction and waits.
    case pending
    /// 503, come back in no time.
    case unavailable
    /// 402 for a reason by which no money moved.
    case noMoney
    /// 402 for a reason that leaves it open.
    case unknown
    /// An answer whose receipt says something else.
    case otherNetwork, otherAmount, noTransaction, otherPayer, noReceipt
  }

  /// How the 402 is made.
  struct Menu: Sendable {
    var v1 = false
    var v2 = true
    var evm = false
    var method: AssetTransferMethod? = nil
    var token = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    var chain: UInt64 = 84532
    var seconds: UInt32 = 300
    var resource: String? = nil
    var realm = "127.0.0.1"
    var scheme = "exact"
    var amounts: [UInt64] = [1000]
  }

  struct Books: Sendable {
    var menu = Menu()
    var faults: [Fault] = []
    /// Every payment as it came, field and value.
    var shown: [String] = []
    var unpaid = 0
    /// The charges that passed the checks.
    var charges: [ChainCharge] = []
  }

  static let merchant = Address("0x1563915e194D8CfBA1943570603F7606A3115508")!
  static let spender = Address("0x5CbDd86a2FA8Dc4bDdd8a8f69dBa48572EeC07FB")!
  static let transaction = Digest32(hex: String(repeating: "ab", count: 32))!

  let books = Mutex(Books())
  private let secrets: ChallengeSecrets
  private let port = Mutex<UInt16>(0)

  init() throws { secrets = try ChallengeSecrets(current: SecretBytes(Random.bytes(32))) }

  func serve() -> ScriptedServer {
    let server = ScriptedServer { [self] connection in
      while let request = connection.request() {
        guard answer(request, connection) else { return }
      }
    }
    port.withLock { $0 = server.port }
    return server
  }

  private func answer(_ request: ScriptedServer.Connection.Request, _ connection: ScriptedServer.Connection) -> Bool {
    let names = ["payment-signature", "x-payment", "authorization"]
    guard let name = names.first(where: { request.first($0) != nil }), let value = request.first(name) else {
      books.withLock { $0.unpaid += 1 }
      return send(connection, 402, offers(request), body: bodyV1(request))
    }
    books.withLock { $0.shown.append("\(name) \(value)") }
    let fault = books.withLock { $0.faults.isEmpty ? Fault.none : $0.faults.removeFirst() }
    switch fault {
    case .drop: return false
    case .unavailable: return send(connection, 503, "Retry-After: 0\r\n")
    case .pending: return send(connection, 402, response(fault, name, success: false))
    case .noMoney:
      let reason = "invalid_exact_evm_insufficient_balance"
      return send(connection, 402, offers(request, error: reason), body: bodyV1(request, error: reason))
    case .unknown:
      return send(connection, 402, offers(request, error: "surprise"), body: bodyV1(request, error: "surprise"))
    case .none, .otherNetwork, .otherAmount, .noTransaction, .otherPayer, .noReceipt: break
    }
    guard let charge = check(name, value) else { return send(connection, 402, offers(request, error: "invalid_payload")) }
    books.withLock { $0.charges.append(charge) }
    return send(connection, 200, fault == .noReceipt ? "" : response(fault, name, success: true, charge), body: Array("paid".utf8))
  }

  /// Checks a payment as a server would.
  private func check(_ name: String, _ value: String) -> ChainCharge? {
    let menu = books.withLock { $0.menu }
    guard let known = TrustedToken.known.first(where: { $0.token.chain == menu.chain })?.token else { return nil }
    if name == "authorization" {
      let token = Array(value.dropFirst(8).utf8)
      guard let credential = token.withUnsafeBytes({ try? Credential.parse($0, field: .authorization) }), credential.isAuthentic(secrets),
        let quote = try? EVMCharge(parsing: credential.request), let payload = try? EVMChargePayload(parsing: credential.payload)
      else { return nil }
      let terms = ChallengeTerms(id: credential.challenge.id, realm: credential.challenge.realm, issued: .now(), expires: credential.expires!)
      return try? quote.check(payload, source: credential.source, challenge: terms, token: known, submitter: Self.spender, now: .now())
    }
    let field: PaymentPayload.Field = name == "x-payment" ? .xPayment : .paymentSignature
    let payload = Array(value.utf8).withUnsafeBytes { try? PaymentPayload.parse($0, field: field) }
    guard let payload, let offer = menu.amounts.lazy.map({ self.requirements(menu, $0) }).first(where: { payload.accepted?.amount ?? $0.amount == $0.amount })
    else { return nil }
    return try? ExactEVM.check(payload, against: offer, token: known, now: .now())
  }

  private func requirements(_ menu: Menu, _ amount: UInt64) -> PaymentRequirements {
    var extra: JSONObject = ["name": "USDC", "version": "2"]
    if let method = menu.method { extra.set("assetTransferMethod", .string(method.rawValue)) }
    return PaymentRequirements(
      scheme: .exact, network: X402Network(chainID: menu.chain), amount: UInt128(amount), asset: menu.token, payTo: Self.merchant.checksummed,
      maxTimeoutSeconds: menu.seconds, extra: extra)
  }

  private func url(_ request: ScriptedServer.Connection.Request) -> String { "http://127.0.0.1:\(port.withLock { $0 })\(request.target)" }

  /// The fields of the 402.
  private func offers(_ request: ScriptedServer.Connection.Request, error: String = "Payment required") -> String {
    let menu = books.withLock { $0.menu }
    var text = ""
    if menu.v2 {
      let accepts = menu.amounts.map { amount -> JSONValue in
        var out = ByteBuffer()
        requirements(menu, amount).append(to: &out)
        var object = (try? JSON.parse(out.array()))?.objectValue ?? [:]
        object.set("scheme", .string(menu.scheme))
        return .object(object)
      }
      let required: JSONObject = [
        "x402Version": 2, "error": .string(error), "resource": ["url": .string(menu.resource ?? url(request)), "description": "A page"],
        "accepts": .array(accepts), "extensions": ["payment-identifier": ["info": ["required": true], "schema": [:]]],
      ]
      text += "PAYMENT-REQUIRED: \(PaymentPayload.fieldValue(required))\r\n"
    }
    if menu.evm {
      let charge = EVMCharge(
        amount: UInt128(menu.amounts[0]), currency: Address(menu.token)!, recipient: Self.merchant, chainID: menu.chain, spender: Self.spender,
        credentialTypes: menu.method == .permit2 ? [.permit2, .hash] : [.permit2, .authorization], decimals: 2)
      let challenge = try? Challenge(
        realm: menu.realm, method: "evm", intent: "charge", request: charge.object, expires: Timestamp.now() + .seconds(Int64(menu.seconds)),
        opaque: ["once": .string(Random.digest32().hex)], secrets: secrets)
      text += "WWW-Authenticate: \(challenge?.fieldValue ?? "")\r\n"
    }
    return text
  }

  private func bodyV1(_ request: ScriptedServer.Connection.Request, error: String = "X-PAYMENT header is required") -> [UInt8] {
    let menu = books.withLock { $0.menu }
    guard menu.v1 else { return [] }
    var extra: JSONObject = ["name": "USDC", "version": "2"]
    if let method = menu.method { extra.set("assetTransferMethod", .string(method.rawValue)) }
    let accepts: [JSONValue] = menu.amounts.map { amount in
      [
        "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "\(amount)", "resource": .string(menu.resource ?? url(request)),
        "description": "", "mimeType": "", "payTo": .string(Self.merchant.checksummed), "maxTimeoutSeconds": .integer(menu.seconds),
        "asset": .string(menu.token), "extra": .object(extra),
      ]
    }
    return JSON.serialize(.object(["x402Version": 1, "error": .string(error), "accepts": .array(accepts)]))
  }

  private func response(_ fault: Fault, _ name: String, success: Bool, _ charge: ChainCharge? = nil) -> String {
    let chain: UInt64 = fault == .otherNetwork ? 8453 : books.withLock { $0.menu.chain }
    let transaction = fault == .noTransaction ? "" : "0x" + Self.transaction.hex
    if name == "authorization" {
      let receipt: JSONObject = [
        "status": "success", "method": "evm", "reference": .string(transaction), "timestamp": "2026-11-22T00:00:00Z", "chainId": .integer(chain),
        "amount": .string(fault == .otherAmount ? "999" : "\(charge?.amount ?? 0)"),
      ]
      return "Payment-Receipt: \(Base64URL.encode(JCS.serialize(receipt)))\r\n"
    }
    var object: JSONObject = [
      "success": .bool(success), "transaction": .string(transaction), "network": .string("eip155:\(chain)"),
      "payer": .string((fault == .otherPayer ? Self.merchant : charge?.payer ?? Self.spender).checksummed),
    ]
    if !success { object.set("errorReason", "settlement_pending") }
    if fault == .otherAmount { object.set("amount", "999") }
    return (name == "x-payment" ? "X-PAYMENT-RESPONSE: " : "PAYMENT-RESPONSE: ") + PaymentPayload.fieldValue(object) + "\r\n"
  }

  private func send(_ connection: ScriptedServer.Connection, _ status: Int, _ fields: String, body: [UInt8] = []) -> Bool {
    let type = status == 402 ? "Content-Type: application/json\r\n" : ""
    return connection.send(Array("HTTP/1.1 \(status) Booth\r\nContent-Length: \(body.count)\r\n\(type)\(fields)\r\n".utf8) + body)
  }
}
