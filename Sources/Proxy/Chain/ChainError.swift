import Ethereum

/// Why a chain could not be asked, or what it said instead of an answer.
enum ChainError: Error, Equatable {
  /// No node answered in time, or none with an answer that can be read.
  case unreachable
  /// A contract answered with what cannot be read.
  case unreadable
  /// The node is one of another chain.
  case otherChain
  /// The call would be undone, and why.
  case reverted(RevertReason)
  /// The node refused for a reason of its own: its code, and which kind of refusal its words are.
  case refused(code: Int, NodeRefusal)
  /// The facilitator does not settle x402's exact on the chain.
  case notSupported
  /// The signer did not sign, or signed something else.
  case notSigned
  /// The fee that the network asks is above the configured limit.
  case tooDear
  /// The call needs more gas than one settlement is given.
  case gasLimit
  /// A configured token's contract is not what the configuration says.
  case tokenDiffers(Address)
  /// The ledger took no entry.
  case ledgerUnavailable
  /// The program is about to end.
  case stopped
}

extension ChainError {
  /// Its name for programs.
  var code: String {
    switch self {
    case .unreachable: "unreachable"
    case .unreadable: "unreadable"
    case .otherChain: "other-chain"
    case .reverted: "reverted"
    case .refused(_, .insufficientFunds): "gas-money-missing"
    case .refused: "refused"
    case .notSupported: "not-supported"
    case .notSigned: "not-signed"
    case .tooDear: "gas-too-dear"
    case .gasLimit: "gas-limit"
    case .tokenDiffers: "token-differs"
    case .ledgerUnavailable: "ledger-unavailable"
    case .stopped: "stopping"
    }
  }

  /// What operators read of it.
  var words: String {
    switch self {
    case .unreachable: "no node answers with what can be read"
    case .unreadable: "a contract answers with what cannot be read"
    case .otherChain: "a node is one of another chain: the URL or chain-id is wrong"
    case .reverted: "a call would be undone"
    case .refused(_, .insufficientFunds): "the signer's account cannot pay the gas of one payment"
    case .refused(let code, _): "a node refuses what every node answers (code \(code))"
    case .notSupported: "the facilitator does not say that it settles exact (x402 version 2) on the chain"
    case .notSigned: "the signer does not sign, or signs something else"
    case .tooDear: "gas costs more than gas-limit-price allows"
    case .gasLimit: "a call needs more gas than a settlement is given"
    case .tokenDiffers(let token):
      "the contract \(token.checksummed) is no token with the configured decimals, or its EIP-712 name or version is another"
    case .ledgerUnavailable: "the ledger is not available"
    case .stopped: "the proxy is about to end"
    }
  }
}

/// Kinds of refusals that nodes only tell in words; geth's are the ones that others repeat.
enum NodeRefusal: Equatable {
  case alreadyKnown
  case nonceTooLow
  case replacementUnderpriced
  case insufficientFunds
  case reverted
  case other

  /// Reads a node's message.
  init(_ message: String) {
    let words = message.lowercased()
    if words.contains("already known") || words.contains("known transaction") || words.contains("already imported") {
      self = .alreadyKnown
    } else if words.contains("nonce too low") || words.contains("nonce is too low") {
      self = .nonceTooLow
    } else if words.contains("underpriced") {
      self = .replacementUnderpriced
    } else if words.contains("execution reverted") {
      self = .reverted
    } else if words.contains("insufficient funds") {
      self = .insufficientFunds
    } else {
      self = .other
    }
  }
}
