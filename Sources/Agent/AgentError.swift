import Encoding
import HTTP
import Methods
import Payments
public import TLS

/// Names everything that can keep a paid request from being answered.
///
/// Where a call ends with an error before it has returned an answer, money may have moved only by `.answerLost`; what an
/// answer's body throws says nothing about the payment, which stands.
public enum AgentError: Error, Equatable, Sendable {
  /// The address is not one that the agent can ask.
  case address(AddressFault)
  /// TLS did not come about, mostly since the server's certificate does not prove what it should; nothing was sent.
  case tls(host: String, TLSError)
  /// A plain connection would leave this machine, and nobody allowed that.
  case plaintextRefused(host: String)
  /// The request itself cannot be sent: a field name or value that HTTP forbids.
  case requestField(name: String)
  /// The file that should be sent cannot be read.
  case contentUnreadable(path: String, code: Int32)

  /// The name has no usable address; `code` is getaddrinfo's.
  case resolution(host: String, code: Int32)
  /// No connection came about; `code` is the last errno.
  case connection(authority: String, code: Int32)
  /// A time limit passed.
  case timeout(Phase)
  /// The connection broke; `code` is the errno, 0 where the server closed it.
  case connectionLost(Phase, code: Int32)
  /// The server's answer is not HTTP/1.1 as RFC 9112 reads it strictly.
  case malformedResponse(HTTPError)
  /// The head of the answer, or the number of interim answers, is over the agent's limits.
  case responseTooLarge
  /// The body ended before its framing says so.
  case cutShort(received: UInt64)

  /// A 402 came, and none of its offers can be paid by this agent.
  case noUsableOffer
  /// An offer does not hold what PREPAID.md bids a client check before it pays.
  case offer(OfferFault)
  /// The price, or what a session needs, is over what may still leave the wallet; both in base units, nil where the
  /// caller allows nothing.
  case overMaximum(price: UInt128, maximum: UInt128?, currency: Currency)
  /// The price, or what a session needs, is more than a minute may cost; both in base units.
  case overRate(price: UInt128, rate: UInt128, currency: Currency)
  /// A payment is asked for, and the agent has no wallet key.
  case noWalletKey
  /// A payment on a chain is asked for, and the agent has no account's key.
  case noAccountKey
  /// A 402 came whose offers stand on chains, and the agent pays none of them.
  case noPayableOffer([RefusedOffer])
  /// The offer cannot be signed as it stands.
  case signing(ChainChargeError)
  /// A limit that the agent keeps for all of its calls forbids the payment.
  case overLimit(LimitFault)
  /// The wallet's policy forbids the payment (403 `policy-denied`).
  case refusedByPolicy(detail: String)
  /// The payment was refused; `problem` is the last part of the problem's type.
  case rejected(status: UInt16, problem: String, detail: String)
  /// A channel's server asks for a higher voucher than what it has delivered costs by the agent's count, with the window beyond it; all in
  /// base units over the channel's life. No more was signed.
  case overCount(required: UInt128, counted: UInt128, currency: Currency)
  /// The payment was made and its answer was lost; asking again would pay again.
  case answerLost(reference: String?)
  /// A payment on a chain was sent and its fate is not known. It is kept: the same call again goes on with it until it expires, and signs no
  /// other one.
  case paymentPending(expires: Timestamp)
  /// The session is not known to the server, or is closed.
  case sessionGone
  /// The receipt does not hold what was bought.
  case receipt(ReceiptFault)
  /// The server keys do not fit those that were seen before.
  case serverKeys(KeysFault)
  /// A document of the server is not what the specification says.
  case document(DocumentKind)
  /// The server answered a question of the agent's own with an unexpected status.
  case unexpectedStatus(UInt16, DocumentKind)

  /// A file of the keeper cannot be used.
  case keeper(KeeperFault)

  /// The rule of an address that was broken.
  public enum AddressFault: Equatable, Sendable {
    case tooLong, forbiddenOctet, scheme, userInformation, host, port
  }

  /// The part of an exchange that was under way.
  public enum Phase: Equatable, Sendable {
    case connecting, sending, awaitingHead, receivingBody, whole
  }

  /// The check of a challenge or its invoice that failed.
  public enum OfferFault: Equatable, Sendable {
    case realm, resource, digest, expired, invoiceMissing, invoiceSignature, invoiceIssuer, invoiceTime
    case invoiceResource, invoiceOffer, amount, decimals, header, malformed
  }

  /// The check of a receipt that failed.
  public enum ReceiptFault: Equatable, Sendable {
    case missing, malformed, unsigned, signature, challenge, amount, resource, session
    /// The receipt of a payment on a chain names another chain, no transaction, or another payer.
    case network, transaction, payer
  }

  /// Why the keys of a server are not believed.
  public enum KeysFault: Equatable, Sendable {
    case malformed, pinnedKeyMissing, pinnedKeyChanged
  }

  /// The documents that an agent reads.
  public enum DocumentKind: Equatable, Sendable {
    case problem, keys, wallet, status, close, topUp, receipt
  }

  /// The limit that a payment would break; amounts in base units.
  public enum LimitFault: Equatable, Sendable {
    case day(UInt128, left: UInt128, Currency)
    case payment(UInt128, Currency)
    case session(UInt128, Currency)
    case recipient(String)
  }

  /// What is wrong with a file of the keeper.
  public enum KeeperFault: Equatable, Sendable {
    case noHome
    case unreadable(path: String, code: Int32)
    case unwritable(path: String, code: Int32)
    case tooOpen(path: String)
    case malformed(path: String)
    case exists(path: String)
    case tooManySessions(limit: Int)
  }
}
