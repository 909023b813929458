import Bytes
import Encoding
import Ethereum

/// A signed sum: all that a channel may have been charged so far.
///
/// Two vouchers are equal where their octets are, and what was verified once needs no second look.
public struct SessionVoucher: Sendable, Hashable, CustomStringConvertible {
  /// The channel.
  public let channelID: Digest32
  /// Base units, cumulative over the channel's life.
  public let cumulativeAmount: UInt128
  /// As it was sent: 65 octets of a key (or the 64 of EIP-2098), or what a contract checks.
  public let signature: [UInt8]

  /// Takes the members.
  public init(channelID: Digest32, cumulativeAmount: UInt128, signature: [UInt8]) {
    self.channelID = channelID
    self.cumulativeAmount = cumulativeAmount
    self.signature = signature
  }

  /// Keeps payment data out of logs.
  public var description: String { "<voucher>" }

  /// The signature as escrows take it: 65 octets, the last one 27 or 28, where a key signed.
  var contractSignature: [UInt8] { (try? ECDSASignature(bytes: signature))?.bytes ?? signature }

  init(_ members: ChainMembers, signature: ChainChargeError.Member = .signature) throws(ChainChargeError) {
    self.init(
      channelID: try members.word(.channelId), cumulativeAmount: try members.units(.cumulativeAmount),
      signature: try members.octets(signature, limit: PayerSignature.limit))
  }

  /// The members of a payload that are the voucher.
  var members: [(String, JSONValue)] {
    [
      ("channelId", .string(HexData.text(channelID))), ("cumulativeAmount", "\(cumulativeAmount)"),
      ("signature", .string(HexData.text(signature))),
    ]
  }
}

/// What a contract has to be asked about a signature that no key explains (ERC-1271).
public struct WalletQuestion: Sendable, Hashable {
  /// The contract, which is the signer.
  public var wallet: Address
  /// What was signed.
  public var digest: Digest32
  /// As it was sent.
  public var signature: [UInt8]

  /// The call's octets; `ERC1271.isValid` reads the answer.
  public var call: [UInt8] { ERC1271.isValidSignature(digest, signature: signature) }
}

/// What a channel's vouchers are checked with: made once for a channel, it leaves two short hashes and one recovery to each voucher.
public struct VoucherKey: Sendable {
  /// The channel.
  public let channelID: Digest32
  /// Who signs its vouchers.
  public let signer: Address
  private let domain: TypedData.PreparedDomain
  /// The struct's hash as far as it is the same for all vouchers of the channel.
  private let prefix: TypedData.StructHash

  /// Prepares the checks of a channel's vouchers.
  public init(channelID: Digest32, signer: Address, escrow: SessionEscrow) {
    self.init(channelID: channelID, signer: signer, domain: escrow.domain, typeHash: escrow.rules.voucherTypeHash)
  }

  init(channelID: Digest32, signer: Address, domain: TypedData.PreparedDomain, typeHash: Digest32) {
    self.channelID = channelID
    self.signer = signer
    self.domain = domain
    var prefix = TypedData.StructHash(typeHash)
    prefix.append(channelID)
    self.prefix = prefix
  }

  /// Prepares the checks of a channel's vouchers.
  public init(_ channel: ChannelDescriptor, escrow: SessionEscrow) {
    self.init(channelID: channel.id(in: escrow), signer: channel.signer, escrow: escrow)
  }

  /// The digest that is signed for an amount (drafts, "Signing Procedure").
  public func digest(of cumulativeAmount: UInt128) -> Digest32 {
    var hash = prefix
    hash.append(cumulativeAmount)
    return domain.digest(hash.finalize())
  }

  /// Checks a voucher's signature: the costly part, which no repeated voucher needs.
  ///
  /// - Returns: the question for the signer's contract where no key explains the signature; nil where the signer's key made it.
  /// - Throws: `channelMismatch`, `invalidSignature` where no key can have made it, `signerMismatch` where another one did,
  ///   `payment(.undeployedWallet)`.
  public func verify(
    _ voucher: SessionVoucher, wallets: ContractWallets = .otherLengths
  ) throws(ChannelError) -> WalletQuestion? {
    guard voucher.channelID == channelID else { throw .channelMismatch }
    let digest = digest(of: voucher.cumulativeAmount)
    guard voucher.signature.count == 65 || voucher.signature.count == 64, wallets != .all else {
      return try question(voucher, digest: digest, wallets: wallets)
    }
    let signature: ECDSASignature
    do { signature = try ECDSASignature(bytes: voucher.signature) } catch { throw .invalidSignature }
    guard let recovered = signature.recover(digest) else { throw .invalidSignature }
    guard recovered == signer else { throw .signerMismatch }
    return nil
  }

  /// The longer way: a signature that may be a contract's.
  private func question(
    _ voucher: SessionVoucher, digest: Digest32, wallets: ContractWallets
  ) throws(ChannelError) -> WalletQuestion? {
    let signature: PayerSignature
    do {
      (signature, _) = try PayerSignature.check(
        voucher.signature, of: [digest], payer: signer, wallets: wallets, means: .authorization)
    } catch {
      guard case .signatureMismatch = error else { throw .payment(error) }
      throw voucher.signature.count == 65 || voucher.signature.count == 64 ? .signerMismatch : .invalidSignature
    }
    return signature.key == nil ? WalletQuestion(wallet: signer, digest: digest, signature: voucher.signature) : nil
  }

  /// Signs a voucher, on the payer's side.
  public func sign(_ cumulativeAmount: UInt128, by key: EthereumKey) -> SessionVoucher {
    SessionVoucher(
      channelID: channelID, cumulativeAmount: cumulativeAmount, signature: key.sign(digest(of: cumulativeAmount)).bytes)
  }
}
