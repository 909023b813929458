import Bytes

// The escrow's functions and events, in the order of draft-evm-session.
extension ChannelEscrow {
  private static let uint128 = ABIType.uint(128)
  private static let opening: [ABIType] = [.address, .address, uint128, .bytes32, .address]
  private static let claiming: [ABIType] = [.bytes32, uint128, .bytes]
  private static let relaying: [ABIType] = [.bytes32, uint128, .uint256, .uint256, .bytes, .bytes]

  /// Opens a channel with the caller's tokens: payee, token, deposit, salt, authorized signer.
  public static let open = ABIFunction("open", opening, returns: [.bytes32])
  /// Opens a channel by EIP-3009: as `open`, then from, validAfter, validBefore, nonce, signature.
  public static let openWithAuthorization = ABIFunction(
    "openWithAuthorization", opening + [.address, .uint256, .uint256, .bytes32, .bytes], returns: [.bytes32])
  /// Opens a channel by Permit2: as `open`, then from, nonce, deadline, signature.
  public static let openWithPermit2 = ABIFunction(
    "openWithPermit2", opening + [.address, .uint256, .uint256, .bytes], returns: [.bytes32])
  /// Pays the payee what a voucher says and was not settled yet.
  public static let settle = ABIFunction("settle", claiming)
  /// Adds the caller's tokens to a channel.
  public static let topUp = ABIFunction("topUp", [.bytes32, uint128])
  /// Adds tokens by EIP-3009: channel, deposit, from, salt, validAfter, validBefore, nonce, signature.
  public static let topUpWithAuthorization = ABIFunction(
    "topUpWithAuthorization", [.bytes32, uint128, .address, .bytes32, .uint256, .uint256, .bytes32, .bytes])
  /// Adds tokens by Permit2: channel, deposit, from, nonce, deadline, signature.
  public static let topUpWithPermit2 = ABIFunction(
    "topUpWithPermit2", [.bytes32, uint128, .address, .uint256, .uint256, .bytes])
  /// Settles a last time and gives the rest back.
  public static let close = ABIFunction("close", claiming)
  /// Begins the payer's forced close.
  public static let requestClose = ABIFunction("requestClose", [.bytes32])
  /// Ends the payer's forced close.
  public static let withdraw = ABIFunction("withdraw", [.bytes32])
  /// Settles by the payee's signature.
  public static let settleWithAuthorization = ABIFunction("settleWithAuthorization", relaying)
  /// Closes by the payee's signature.
  public static let closeWithAuthorization = ABIFunction("closeWithAuthorization", relaying)
  /// Asks for a channel's state.
  public static let getChannel = ABIFunction(
    "getChannel", [.bytes32],
    returns: [.tuple([.address, .address, .address, .address, uint128, uint128, .uint(64), .bool])])
  /// The same question as Tempo's contract answers it: closed or not, and since when, before the parties.
  private static let getTempoChannel = ABIFunction(
    "getChannel", [.bytes32],
    returns: [.tuple([.bool, .uint(64), .address, .address, .address, .address, uint128, uint128])])
  /// Asks for the seconds between a forced close's begin and its end.
  public static let closeGracePeriod = ABIFunction("CLOSE_GRACE_PERIOD", [], returns: [.uint(64)])
  /// Asks for the domain's hash.
  public static let domainSeparator = ABIFunction("domainSeparator", [], returns: [.bytes32])

  private static let parties: [ABIEvent.Parameter] = [.indexed(.bytes32), .indexed(.address), .indexed(.address)]
  /// A channel was opened: channel, payer, payee; token, authorized signer, salt, deposit.
  public static let channelOpened = ABIEvent(
    "ChannelOpened", parties + [.plain(.address), .plain(.address), .plain(.bytes32), .plain(.uint256)])
  /// A channel was settled: channel, payer, payee; cumulative amount, what was paid, what is settled now.
  public static let settled = ABIEvent("Settled", parties + [.plain(.uint256), .plain(.uint256), .plain(.uint256)])
  /// A forced close began: channel, payer, payee; the second of Unix time in which it may end.
  public static let closeRequested = ABIEvent("CloseRequested", parties + [.plain(.uint256)])
  /// A forced close was given up: channel, payer, payee.
  public static let closeRequestCancelled = ABIEvent("CloseRequestCancelled", parties)
  /// Tokens were added: channel, payer, payee; how many, the deposit now.
  public static let toppedUp = ABIEvent("TopUp", parties + [.plain(.uint256), .plain(.uint256)])
  /// A channel was closed: channel, payer, payee; what the payee and what the payer got.
  public static let channelClosed = ABIEvent("ChannelClosed", parties + [.plain(.uint256), .plain(.uint256)])
}

extension ChannelEscrow {
  /// Holds what the contract knows of a channel.
  public struct Channel: Hashable, Sendable {
    /// Who deposited.
    public var payer: Address
    /// Who is paid; zero where there is no such channel.
    public var payee: Address
    /// The token.
    public var token: Address
    /// Who signs vouchers; zero for the payer.
    public var authorizedSigner: Address
    /// The base units deposited.
    public var deposit: UInt128
    /// The base units settled.
    public var settled: UInt128
    /// The second of Unix time in which a forced close began; zero for none.
    public var closeRequestedAt: UInt64
    /// Whether the channel is closed for good.
    public var isFinalized: Bool

    /// Takes the members.
    public init(
      payer: Address, payee: Address, token: Address, authorizedSigner: Address, deposit: UInt128, settled: UInt128,
      closeRequestedAt: UInt64, isFinalized: Bool
    ) {
      self.payer = payer
      self.payee = payee
      self.token = token
      self.authorizedSigner = authorizedSigner
      self.deposit = deposit
      self.settled = settled
      self.closeRequestedAt = closeRequestedAt
      self.isFinalized = isFinalized
    }

    /// Reads what `getChannel` returned.
    ///
    /// - Parameters:
    ///   - isTempo: whether Tempo's contract answered, whose members stand in another order than draft-tempo-session-00 writes them.
    /// - Throws: the rule that the data breaks.
    public init(returned data: [UInt8], isTempo: Bool = false) throws(EthereumError) {
      let function = isTempo ? ChannelEscrow.getTempoChannel : ChannelEscrow.getChannel
      guard var members = try function.results(of: data).first?.elements, members.count == 8 else {
        throw .abi(.wrongTypes, offset: 0)
      }
      if isTempo { members = Array(members[2...]) + [members[1], members[0]] }
      guard let payer = members[0].addressValue, let payee = members[1].addressValue, let token = members[2].addressValue,
        let signer = members[3].addressValue, let deposit = members[4].uintValue?.uint128,
        let settled = members[5].uintValue?.uint128, let closeRequestedAt = members[6].uintValue?.uint64,
        let isFinalized = members[7].boolValue
      else { throw .abi(.wrongTypes, offset: 0) }
      self.init(
        payer: payer, payee: payee, token: token, authorizedSigner: signer, deposit: deposit, settled: settled,
        closeRequestedAt: closeRequestedAt, isFinalized: isFinalized)
    }

    /// Who signs vouchers: the authorized signer, or the payer where there is none.
    public var signer: Address { authorizedSigner.isZero ? payer : authorizedSigner }
  }

  /// Encodes `CLOSE_GRACE_PERIOD`.
  public static let closeGracePeriodCall = closeGracePeriod.call()

  /// Encodes `open`.
  public static func open(
    payee: Address, token: Address, deposit: UInt128, salt: Digest32, authorizedSigner: Address
  ) -> [UInt8] {
    open.call(.address(payee), .address(token), .uint(deposit), .fixedBytes(salt), .address(authorizedSigner))
  }

  /// Encodes `openWithAuthorization`; the deposit is the authorization's value and the payer its sender.
  ///
  /// - Throws: `numberTooLarge` for a value past 128 bits.
  public static func open(
    payee: Address, token: Address, salt: Digest32, authorizedSigner: Address, with authorization: EIP3009.Authorization,
    signature: [UInt8]
  ) throws(EthereumError) -> [UInt8] {
    guard let deposit = authorization.value.uint128 else { throw .numberTooLarge }
    return openWithAuthorization.call(
      .address(payee), .address(token), .uint(deposit), .fixedBytes(salt), .address(authorizedSigner),
      .address(authorization.from), .uint(authorization.validAfter), .uint(authorization.validBefore),
      .fixedBytes(authorization.nonce), .bytes(signature))
  }

  /// Encodes `openWithPermit2`.
  public static func open(
    payee: Address, token: Address, deposit: UInt128, salt: Digest32, authorizedSigner: Address, permit2From from: Address,
    nonce: Word256, deadline: Word256, signature: [UInt8]
  ) -> [UInt8] {
    openWithPermit2.call(
      .address(payee), .address(token), .uint(deposit), .fixedBytes(salt), .address(authorizedSigner), .address(from),
      .uint(nonce), .uint(deadline), .bytes(signature))
  }

  /// Encodes `settle`.
  public static func settle(channelID: Digest32, cumulativeAmount: UInt128, signature: [UInt8]) -> [UInt8] {
    settle.call(.fixedBytes(channelID), .uint(cumulativeAmount), .bytes(signature))
  }

  /// Encodes `topUp`.
  public static func topUp(channelID: Digest32, additionalDeposit: UInt128) -> [UInt8] {
    topUp.call(.fixedBytes(channelID), .uint(additionalDeposit))
  }

  /// Encodes `topUpWithAuthorization`; the deposit is the authorization's value.
  ///
  /// - Throws: `numberTooLarge` for a value past 128 bits.
  public static func topUp(
    channelID: Digest32, salt: Digest32, with authorization: EIP3009.Authorization, signature: [UInt8]
  ) throws(EthereumError) -> [UInt8] {
    guard let deposit = authorization.value.uint128 else { throw .numberTooLarge }
    return topUpWithAuthorization.call(
      .fixedBytes(channelID), .uint(deposit), .address(authorization.from), .fixedBytes(salt),
      .uint(authorization.validAfter), .uint(authorization.validBefore), .fixedBytes(authorization.nonce), .bytes(signature))
  }

  /// Encodes `topUpWithPermit2`.
  public static func topUp(
    channelID: Digest32, additionalDeposit: UInt128, permit2From from: Address, nonce: Word256, deadline: Word256,
    signature: [UInt8]
  ) -> [UInt8] {
    topUpWithPermit2.call(
      .fixedBytes(channelID), .uint(additionalDeposit), .address(from), .uint(nonce), .uint(deadline), .bytes(signature))
  }

  /// Encodes `close`; the signature may be empty where nothing more is settled.
  public static func close(channelID: Digest32, cumulativeAmount: UInt128, signature: [UInt8]) -> [UInt8] {
    close.call(.fixedBytes(channelID), .uint(cumulativeAmount), .bytes(signature))
  }

  /// Encodes `requestClose`.
  public static func requestClose(channelID: Digest32) -> [UInt8] { requestClose.call(.fixedBytes(channelID)) }

  /// Encodes `withdraw`.
  public static func withdraw(channelID: Digest32) -> [UInt8] { withdraw.call(.fixedBytes(channelID)) }

  /// Encodes `getChannel`.
  public static func getChannel(_ channelID: Digest32) -> [UInt8] { getChannel.call(.fixedBytes(channelID)) }
}
