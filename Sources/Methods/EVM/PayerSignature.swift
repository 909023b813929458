import Bytes
import Ethereum

/// Says for which signatures that no key explains a contract may be asked (ERC-1271).
public enum ContractWallets: Sendable, Hashable {
  /// For none: only keys pay.
  case refused
  /// For those that are longer or shorter than a key's own, so that garbage of the usual length costs no call.
  case otherLengths
  /// For all.
  case all
}

/// A payer's signature that was looked at.
struct PayerSignature {
  /// The most octets: those of contracts are longer than a key's 65.
  static let limit = 4096
  /// What ends the signature of a wallet that does not exist yet (ERC-6492).
  private static let undeployedMark = (0..<32).map { $0 % 2 == 0 ? UInt8(0x64) : 0x92 }

  let octets: [UInt8]
  /// The key's signature; nil where a contract has to be asked.
  let key: ECDSASignature?

  var check: SignatureCheck { key == nil ? .byContract : .recovered }

  /// The octets as contracts take them: r, s, and v of 27 or 28 where a key signed.
  var bytes: [UInt8] { key?.bytes ?? octets }

  /// Checks a signature of one of the digests, the likelier ones first.
  ///
  /// - Returns: the signature, and the index of the digest; of the first one where only a contract can tell.
  static func check(
    _ octets: [UInt8], of digests: [Digest32], payer: Address, wallets: ContractWallets, means: ChainChargeError.Means
  ) throws(ChainChargeError) -> (PayerSignature, index: Int) {
    guard !octets.isEmpty else { throw .missing(.signature) }
    guard octets.count <= limit else { throw .tooLong(.signature, limit: limit) }
    guard !octets.suffix(32).elementsEqual(undeployedMark) else { throw .undeployedWallet }
    if let signature = try? ECDSASignature(bytes: octets),
      let index = digests.firstIndex(where: { signature.recover($0) == payer })
    {
      return (PayerSignature(octets: octets, key: signature), index)
    }
    let mayBeContracts =
      switch wallets {
      case .refused: false
      case .otherLengths: octets.count != 64 && octets.count != 65
      case .all: true
      }
    guard mayBeContracts, !payer.isZero else { throw .signatureMismatch(means) }
    return (PayerSignature(octets: octets, key: nil), 0)
  }
}
