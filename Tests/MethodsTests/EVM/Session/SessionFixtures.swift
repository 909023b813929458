import Bytes
import Encoding
import Ethereum
import Metering
import Methods
import Payments
import Testing

/// The channel of the vectors, and an offer that it answers.
enum SessionFixture {
  static let payerKey = key(sessionPayerKey)
  static let signerKey = key(sessionSignerKey)
  static let salt = digest(sessionSalt)
  static let now = Timestamp(seconds: 1_899_999_000)
  static let latest = Timestamp(seconds: 1_899_999_300)
  static let deposit: UInt128 = 10_000_000

  static let token = ChainToken(
    chain: sessionChain, address: address(sessionToken), currency: Currency(code: "usdc", decimals: 6)!, name: "USD Coin",
    version: "2", supportsEIP3009: true, supportsPermit2: true)
  static let escrow = SessionEscrow(rules: .evm, chain: sessionChain, address: address(sessionEscrow))
  static let channel = ChannelDescriptor(
    payer: address(sessionPayer), payee: address(sessionPayee), token: address(sessionToken), salt: salt,
    authorizedSigner: address(sessionSigner))
  static let voucherKey = VoucherKey(channel, escrow: escrow)

  static func offer(
    _ types: [ChannelFunding.Kind]? = [.permit2, .authorization, .hash], minimumDeposit: UInt128 = 0,
    rules: ChannelProtocol = .evm
  ) -> ChannelSession {
    var details = ChannelDetails(chainID: sessionChain, escrow: address(sessionEscrow))
    details.credentialTypes = types
    details.minimumDeposit = minimumDeposit
    details.paysFees = true
    return ChannelSession(
      rules: rules, amount: 100, unitType: "request", suggestedDeposit: 5_000_000, currency: address(sessionToken),
      recipient: address(sessionPayee), details: details)
  }

  static func key(_ hex: String) -> EthereumKey {
    try! EthereumKey(keyFile: Array(hex.utf8))
  }

  static func address(_ text: String) -> Address { Address(text)! }
  static func digest(_ text: String) -> Digest32 { HexData.digest(text)! }
  static func octets(_ text: String) -> [UInt8] { HexData.parse(text)! }

  static func json(_ text: String) throws -> JSONObject {
    try #require(try JSON.parse(Array(text.utf8)).objectValue)
  }

  static func text(_ object: JSONObject) -> String { String(decoding: JCS.serialize(.object(object)), as: UTF8.self) }

  /// The payload of the vectors' open by authorization, as the draft's example writes it.
  static var openByAuthorization: String {
    #"{"action":"open","type":"authorization","channelId":"\#(sessionChannel)","authorization":{"from":"\#(sessionPayer)","to":"\#(sessionEscrow)","value":"10000000","validAfter":"0","validBefore":"1900000000","nonce":"\#(sessionOpenNonce)"},"signature":"\#(sessionOpenSignature)","cumulativeAmount":"250000","voucherSignature":"\#(sessionVoucher)","authorizedSigner":"\#(sessionSigner)","salt":"\#(sessionSalt)"}"#
  }

  static var openByPermit: String {
    #"{"action":"open","type":"permit2","channelId":"\#(sessionChannel)","authorization":{"from":"\#(sessionPayer)","permitted":{"token":"\#(sessionToken)","amount":"10000000"},"nonce":"7","deadline":"1900000000","witness":{"payee":"\#(sessionPayee)","salt":"\#(sessionSalt)","authorizedSigner":"\#(sessionSigner)"}},"signature":"\#(sessionOpenPermit)","cumulativeAmount":"250000","voucherSignature":"\#(sessionVoucher)","authorizedSigner":"\#(sessionSigner)","salt":"\#(sessionSalt)"}"#
  }

  static var openByHash: String {
    #"{"action":"open","type":"hash","channelId":"\#(sessionChannel)","hash":"0x9f8e7d6c5b4a39281700abcdef1234567890abcdef1234567890abcdef123456","cumulativeAmount":"250000","signature":"\#(sessionVoucher)","authorizedSigner":"\#(sessionSigner)","salt":"\#(sessionSalt)"}"#
  }

  static var topUpByAuthorization: String {
    #"{"action":"topUp","type":"authorization","channelId":"\#(sessionChannel)","salt":"\#(sessionTopUpSalt)","authorization":{"from":"\#(sessionPayer)","to":"\#(sessionEscrow)","value":"5000000","validAfter":"0","validBefore":"1900000000","nonce":"\#(sessionTopUpNonce)"},"signature":"\#(sessionTopUpSignature)","additionalDeposit":"5000000"}"#
  }

  static var topUpByPermit: String {
    #"{"action":"topUp","type":"permit2","channelId":"\#(sessionChannel)","authorization":{"from":"\#(sessionPayer)","permitted":{"token":"\#(sessionToken)","amount":"5000000"},"nonce":"8","deadline":"1900000000","witness":{"channelId":"\#(sessionChannel)"}},"signature":"\#(sessionTopUpPermit)","additionalDeposit":"5000000"}"#
  }

  static func opening(_ text: String) throws -> ChannelOpening {
    guard case .open(let opening) = try ChannelPayload(parsing: try json(text), rules: .evm) else {
      throw ChannelError.transactionMismatch
    }
    return opening
  }

  static func topUp(_ text: String) throws -> ChannelTopUp {
    guard case .topUp(let topUp) = try ChannelPayload(parsing: try json(text), rules: .evm) else {
      throw ChannelError.transactionMismatch
    }
    return topUp
  }

  static var source: String { "did:pkh:eip155:8453:\(sessionPayer)" }

  static func check(
    _ opening: ChannelOpening, _ offer: ChannelSession = offer(), source: String? = nil, token: ChainToken = token,
    escrow: SessionEscrow = escrow, wallets: ContractWallets = .otherLengths, now: Timestamp = now
  ) throws(ChannelError) -> CheckedOpening {
    try offer.check(opening, source: source, token: token, escrow: escrow, wallets: wallets, latest: latest, now: now)
  }

  static func check(
    _ topUp: ChannelTopUp, _ offer: ChannelSession = offer(), source: String? = nil, standing: UInt128 = deposit,
    wallets: ContractWallets = .otherLengths
  ) throws(ChannelError) -> ChannelTransaction {
    try offer.check(
      topUp, source: source, channel: channel, standing: ChannelStanding(deposit: standing), token: token, escrow: escrow,
      wallets: wallets, latest: latest, now: now)
  }
}
