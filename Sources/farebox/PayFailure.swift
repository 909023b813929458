import Agent
import ArgumentParser
import Encoding
import Glibc
import Methods
import Payments
import TLS

/// Numbers the ways in which `farebox pay` can end; where curl has a number for the same thing, it is curl's.
enum PayExit: Int32, CaseIterable {
  case success = 0
  case malformedAddress = 3
  case unresolved = 6
  case unreachable = 7
  case cutShort = 18
  case httpError = 22
  case unwritable = 23
  case unreadable = 26
  case timedOut = 28
  case noTLS = 35
  case malformedAnswer = 52
  case connectionLost = 56
  case notVerified = 60
  case overMaximum = 80
  case refusedByPolicy = 81
  case rejected = 82
  case notPayable = 83
  case notBelieved = 84
  case answerLost = 85
  case receiptWrong = 86
  case keeper = 87
  case plaintext = 88
  case overRate = 89
  case overLimit = 90
  case overCount = 91

  /// What the number means, for `--help`.
  var meaning: String {
    switch self {
    case .success: "the answer is 2xx or 3xx, and paid for if it had to be"
    case .malformedAddress: "the URL, a header or a method is malformed"
    case .unresolved: "the host name could not be resolved"
    case .unreachable: "no connection to the host"
    case .cutShort: "the answer ended before it was complete"
    case .httpError: "the answer's status is 400 or above, for no reason named below"
    case .unwritable: "the output could not be written"
    case .unreadable: "the data to send could not be read"
    case .timedOut: "a time limit passed"
    case .noTLS: "TLS with the host did not come about"
    case .malformedAnswer: "the server does not speak HTTP/1.1 as it should"
    case .connectionLost: "the connection broke"
    case .overMaximum: "the price, or what a stream needs, is over --max or --budget"
    case .overRate: "the price, or what a stream needs, is over --rate"
    case .overLimit: "a limit that is kept for all calls (--limits) forbids the payment"
    case .overCount: "the server of a session on a chain asks for more than what it delivered costs; no more was signed"
    case .refusedByPolicy: "the wallet's policy forbids the payment"
    case .rejected: "the payment was rejected"
    case .notPayable: "there is no offer that can be paid, or no key to pay with"
    case .notBelieved: "challenge, invoice or server keys do not hold; nothing was paid"
    case .answerLost: "the payment was made, but its answer was lost"
    case .receiptWrong: "the answer came, but its receipt does not hold"
    case .keeper: "a file in the configuration folder cannot be used"
    case .plaintext: "plain HTTP would leave this machine"
    case .notVerified: "the server's certificate does not prove that it is the host"
    }
  }

  static var table: String {
    allCases.map { exit in
      let number = String(exit.rawValue)
      return String(repeating: " ", count: 4 - number.count) + number + "  " + exit.meaning
    }.joined(separator: "\n")
  }
}

/// Says to a person what went wrong, and what can be done about it.
struct PayFailure: Error {
  let exit: PayExit
  let message: String

  init(_ exit: PayExit, _ message: String) {
    self.exit = exit
    self.message = message
  }

  init(_ error: AgentError) {
    exit = Self.exit(for: error)
    message = Self.message(for: error)
  }

  /// Writes the message to standard error and ends the command with its number.
  func report() -> ExitCode {
    StandardError.write("farebox: \(PayText.printable(message))\n")
    return ExitCode(exit.rawValue)
  }

  private static func exit(for error: AgentError) -> PayExit {
    switch error {
    case .address, .requestField: .malformedAddress
    case .tls(_, .peerCertificate): .notVerified
    case .tls: .noTLS
    case .plaintextRefused: .plaintext
    case .contentUnreadable: .unreadable
    case .resolution: .unresolved
    case .connection: .unreachable
    case .timeout: .timedOut
    case .connectionLost: .connectionLost
    case .malformedResponse, .responseTooLarge, .document, .unexpectedStatus: .malformedAnswer
    case .cutShort: .cutShort
    case .noUsableOffer, .noWalletKey, .noAccountKey, .noPayableOffer: .notPayable
    case .offer, .serverKeys, .signing: .notBelieved
    case .overLimit: .overLimit
    case .overCount: .overCount
    case .overMaximum: .overMaximum
    case .overRate: .overRate
    case .refusedByPolicy: .refusedByPolicy
    case .rejected, .sessionGone: .rejected
    case .answerLost, .paymentPending: .answerLost
    case .receipt: .receiptWrong
    case .keeper: .keeper
    }
  }

  private static func message(for error: AgentError) -> String {
    switch error {
    case .address(let fault): "the URL is malformed: \(text(fault))"
    case .requestField(let name): "'\(name)' is malformed, or not yours to set: the agent sets it itself"
    case .contentUnreadable(let path, let code): "cannot read \(path): \(systemText(code))"
    case .tls(let host, let error): "no TLS with \(host): \(text(error))"
    case .plaintextRefused(let host):
      "plain HTTP to \(host) would show the payment to everyone on the way; only this machine is asked that way "
        + "(--plaintext allows it, for a network that you trust)"
    case .resolution(let host, let code): "cannot resolve \(host): \(resolverText(code))"
    case .connection(let authority, let code): "cannot connect to \(authority): \(systemText(code))"
    case .timeout(let phase): "time ran out while \(text(phase))"
    case .connectionLost(let phase, let code):
      "the connection broke while \(text(phase))" + (code == 0 ? "" : ": \(systemText(code))")
    case .malformedResponse(let rule): "the server's answer is not proper HTTP/1.1 (\(rule))"
    case .responseTooLarge: "the server's answer is larger than the agent takes"
    case .cutShort(let received): "the answer was cut short after \(received) octets"
    case .noUsableOffer:
      "the server asks for a payment, and none of its offers can be paid as the options say"
    case .noPayableOffer(let offers): text(offers)
    case .noAccountKey:
      "a payment on a chain is asked for, and there is no key of an account: name its file with --evm-key or FAREBOX_EVM_KEY_FILE"
    case .signing(let rule): "not paid: the offer cannot be signed: \(rule.detail)"
    case .overLimit(let fault): text(fault)
    case .overCount(let required, let counted, let currency):
      "the server asks for a voucher over \(currency.format(required)) \(currency.symbol) in all, and what it has delivered bears out "
        + "\(currency.format(counted)) at most: no more was signed; farebox pay --close ends the channel"
    case .offer(let fault): "not paid: \(text(fault))"
    case .overMaximum(let price, let maximum, let currency): overMaximumText(price, maximum, currency)
    case .overRate(let price, let rate, let currency):
      "\(currency.format(price)) \(currency.symbol) are asked for, and --rate allows \(currency.format(rate)) a minute"
    case .noWalletKey: "there is no wallet key; make one with: farebox pay --new-key"
    case .refusedByPolicy(let detail): detail.isEmpty ? "refused by the wallet's policy" : "refused: \(detail)"
    case .rejected(let status, let problem, let detail):
      "the payment was rejected (\(status) \(problem))" + (detail.isEmpty ? "" : ": \(detail)")
    case .answerLost(let reference):
      "the payment was made, but its answer was lost; asking again would pay again"
        + (reference.map { " (reference \($0))" } ?? "")
    case .paymentPending(let expires):
      "the payment was sent, and what became of it is not known yet; the same call again goes on with it until \(expires.rfc3339), and pays nothing new"
    case .sessionGone: "the server does not know the session; it is closed, or belongs to another ledger"
    case .receipt(let fault): "the receipt does not hold: \(text(fault))"
    case .serverKeys(let fault):
      "not paid: \(text(fault)); if the provider has really started anew, forget the old keys with: farebox pay --forget URL"
    case .document(let kind): "the server's \(text(kind)) is not what it should be"
    case .unexpectedStatus(let status, let kind): "the server answered \(status) when asked for its \(text(kind))"
    case .keeper(let fault): text(fault)
    }
  }

  private static func overMaximumText(_ price: UInt128, _ maximum: UInt128?, _ currency: Currency) -> String {
    let asked = "\(currency.format(price)) \(currency.symbol)"
    guard let maximum else { return "\(asked) are asked for, and without --max nothing is paid" }
    return "\(asked) are asked for, and --max or --budget leaves \(currency.format(maximum)) \(currency.symbol)"
  }

  private static func text(_ error: TLSError) -> String {
    switch error {
    case .peerCertificate(.expired): "its certificate has expired"
    case .peerCertificate(.notYetValid): "its certificate is not valid yet"
    case .peerCertificate(.unknownAuthority): "nobody that this system trusts issued its certificate (SSL_CERT_FILE names other authorities)"
    case .peerCertificate(.selfSigned): "its certificate was issued by itself (SSL_CERT_FILE names the authorities that are trusted)"
    case .peerCertificate(.nameMismatch): "its certificate is for other names"
    case .peerCertificate(let fault): "its certificate is not accepted (\(fault))"
    case .notTLS, .plainHTTP: "it does not speak TLS there"
    case .versionUnsupported, .cipherMismatch, .applicationProtocolMismatch: "it speaks no version or cipher that is safe"
    case .alertReceived(let alert): "it refused with alert \(alert)"
    case .systemAuthoritiesMissing: "the system's certificate authorities are not installed (ca-certificates)"
    case .authorityMissing, .authorityUnreadable: "the file of certificate authorities cannot be read"
    case .certificateMissing, .certificateUnreadable, .certificateExpired, .certificateNotYetValid, .certificateOutOfOrder,
      .certificateWeak, .keyMissing, .keyUnreadable, .keyEncrypted, .keyMismatch, .identityMissing, .nameMissing, .serverNameInvalid,
      .peerCertificateMissing, .protocolBroken, .notEstablished, .resourcesExhausted:
      "the handshake failed (\(error))"
    }
  }

  private static func text(_ fault: AgentError.AddressFault) -> String {
    switch fault {
    case .tooLong: "it is too long"
    case .forbiddenOctet: "it holds a character that must be escaped"
    case .scheme: "only http and https are known"
    case .userInformation: "a name or password does not belong into it"
    case .host: "the host is no name and no address"
    case .port: "the port is not between 1 and 65535"
    }
  }

  private static func text(_ phase: AgentError.Phase) -> String {
    switch phase {
    case .connecting: "connecting"
    case .sending: "the request was sent"
    case .awaitingHead: "the answer was awaited"
    case .receivingBody: "the answer was received"
    case .whole: "the request went on (--max-time)"
    }
  }

  static func text(_ fault: AgentError.OfferFault) -> String {
    switch fault {
    case .realm: "the challenge's realm does not cover the host, so it may be somebody else's"
    case .resource: "the challenge is for another resource than the one asked for"
    case .digest: "the challenge is for another content than the one sent"
    case .expired: "the challenge has expired; is this machine's clock right?"
    case .invoiceMissing: "the 402 has no invoice"
    case .invoiceSignature: "the invoice's signature does not verify"
    case .invoiceIssuer: "the invoice is from another issuer"
    case .invoiceTime: "the invoice has expired, or is from the future"
    case .invoiceResource: "the invoice is for another resource"
    case .invoiceOffer: "the invoice does not list this offer as it was made"
    case .amount: "the offer's amounts do not fit together"
    case .decimals: "the ledger has changed the decimals of its currency"
    case .header: "the offer needs the Authorization field, which is taken by your own header"
    case .malformed: "the offer is malformed"
    }
  }

  private static func text(_ fault: AgentError.ReceiptFault) -> String {
    switch fault {
    case .missing: "there is none"
    case .malformed: "it is malformed"
    case .unsigned: "it is not signed"
    case .signature: "its signature does not verify"
    case .challenge: "it is for another challenge"
    case .amount: "its amounts are not what was paid"
    case .resource: "it is for another resource"
    case .session: "it is for another session"
    case .network: "it is of another chain"
    case .transaction: "it names no transaction that succeeded"
    case .payer: "it is of another payer"
    }
  }

  private static func text(_ fault: AgentError.KeysFault) -> String {
    switch fault {
    case .malformed: "the server's keys are malformed"
    case .pinnedKeyMissing: "a key that this server had before is gone, which never happens to an honest ledger"
    case .pinnedKeyChanged: "a key of this server has another value than before"
    }
  }

  private static func text(_ kind: AgentError.DocumentKind) -> String {
    switch kind {
    case .problem: "problem document"
    case .keys: "key set"
    case .wallet: "wallet report"
    case .status: "session status"
    case .close: "answer to the close"
    case .topUp: "answer to the top-up"
    case .receipt: "receipt"
    }
  }

  private static func text(_ fault: AgentError.KeeperFault) -> String {
    switch fault {
    case .noHome: "neither XDG_CONFIG_HOME nor HOME names a folder to keep keys in"
    case .unreadable(let path, let code): "cannot read \(path): \(systemText(code))"
    case .unwritable(let path, let code): "cannot write \(path): \(systemText(code))"
    case .tooOpen(let path): "others on this machine may read \(path); make it private with: chmod go-rwx '\(path)'"
    case .malformed(let path): "\(path) is not what should stand there"
    case .exists(let path): "\(path) exists; a key is never overwritten, since its wallet's money would be lost"
    case .tooManySessions(let limit): "\(limit) sessions are kept already; close some with: farebox pay --close"
    }
  }

  private static func systemText(_ code: Int32) -> String {
    // Safe because: strerror returns a terminated string for any number, copied at once.
    strerror(code).map { String(cString: $0) } ?? "error \(code)"
  }

  private static func resolverText(_ code: Int32) -> String {
    // Safe because: gai_strerror returns a static terminated string for any number.
    gai_strerror(code).map { String(cString: $0) } ?? "error \(code)"
  }
}
