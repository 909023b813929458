import Ethereum
import Payments

extension Settings {
  /// An HTTP service that the proxy calls for its own purposes: a node's JSON-RPC, a facilitator, a remote signer.
  public struct Endpoint: Sendable, Hashable {
    /// Where it is called, as an index into `Settings.upstreams`: one of them with the same origin, or one that was made for it.
    public var upstream = 0
    /// Whether it is called over TLS.
    public var isSecure: Bool
    /// The authority of its URL, as `Host` carries it.
    public var authority: String
    /// Path and query as they are sent. A secret: providers put their customers' keys into them.
    public var target: SecretValue
    /// The content of the `Authorization` field of every call; nil for none.
    public var authorization: SecretValue?
    /// How long one call may take.
    public var timeout = Duration.seconds(10)

    /// Makes a service without authorization.
    public init(authority: String, target: SecretValue, isSecure: Bool) {
      self.authority = authority
      self.target = target
      self.isSecure = isSecure
    }

    /// Scheme and authority: all of the URL that may be shown.
    public var words: String { (isSecure ? "https://" : "http://") + authority }
  }

  /// A service that settles x402 payments for us.
  public struct Facilitator: Sendable, Hashable {
    /// The most facilitators of one configuration.
    public static let limit = 16

    /// The name that chains refer to.
    public var name: String
    /// Where it is; `target` is the path before `/settle`, without a slash at its end, and empty where there is none.
    public var endpoint: Endpoint
    /// The address that settles payments by the scheme upto, as its `/supported` says; nil: none are offered where it settles.
    public var address: Address?

    /// Makes a facilitator.
    public init(name: String, endpoint: Endpoint) {
      self.name = name
      self.endpoint = endpoint
    }
  }

  /// A chain whose tokens are money here.
  public struct Chain: Sendable, Hashable {
    /// The most chains of one configuration, and the most endpoints and tokens of one chain.
    public static let limit = 32
    public static let endpointLimit = 8
    public static let tokenLimit = 16

    /// What the chain's transactions are.
    public enum Kind: String, Sendable, Hashable, CaseIterable {
      /// Ethereum's.
      case evm
      /// Tempo's, which carry calls, fee tokens and fee payers.
      case tempo
    }

    /// Who signs the transactions that we submit, and pays for their gas.
    public enum Signer: Sendable, Hashable {
      /// A key in a file at an absolute path; `KeyFile.read` reads it.
      case file(String)
      /// A service that speaks web3signer's JSON-RPC, and the address whose key it has.
      case remote(Endpoint, Address)
    }

    /// The name that merchants and rails refer to.
    public var name: String
    /// The chain's id (EIP-155), from 1.
    public var id: UInt64
    /// What its transactions are.
    public var kind = Kind.evm
    /// The nodes that are asked, in turn when one fails; none where a facilitator does everything.
    public var rpc: [Endpoint] = []
    /// How many blocks make a receipt final, from its own on: 1 is content with the receipt.
    public var confirmations = 1
    /// Who signs what we submit; nil where we submit nothing of our own.
    public var signer: Signer?
    /// The signer's address; nil without a signer, and where the key's file was not read.
    public var signerAddress: Address?
    /// Who settles x402 payments, as an index into `Settings.facilitators`; nil: we do.
    public var facilitator: Int?
    /// After which time a transaction that is in no block is sent again with higher fees.
    public var resubmitAfter = Duration.seconds(30)
    /// The highest fee for a unit of gas, in wei.
    public var gasPriceLimit: UInt128 = 50_000_000_000
    /// Whether the method `evm` takes a transaction's hash, which everybody can read on the chain.
    public var acceptsHash = false
    /// What is money on it; one token a currency at most.
    public var tokens: [Token] = []
    /// What holds the deposits of sessions; nil where none are sold on the chain.
    public var escrow: Escrow?
    /// How channels of x402's scheme batch-settlement are kept; nil where none are taken on the chain.
    public var batch: Escrow?

    /// Makes a chain without nodes and tokens.
    public init(name: String, id: UInt64) {
      self.name = name
      self.id = id
    }

    /// The chain as CAIP-2 names it: `eip155:8453`.
    public var reference: String { "eip155:\(id)" }

    /// Finds the token of a currency by the currency's code.
    public func token(of currency: String) -> Token? { tokens.first { $0.currency.code == currency } }
  }

  /// A token contract.
  public struct Token: Sendable, Hashable {
    /// The currency whose base units are the token's.
    public var currency: Currency
    /// The contract.
    public var address: Address
    /// What the contract signs under (EIP-712); nil where nothing is signed for the contract itself.
    public var domain: Domain?
    /// How others than its owner may move it by a signature of his.
    public var transfers: Transfers

    /// Makes a token.
    public init(currency: Currency, address: Address, domain: Domain? = nil, transfers: Transfers = []) {
      self.currency = currency
      self.address = address
      self.domain = domain
      self.transfers = transfers
    }

    /// Name and version of an EIP-712 domain; chain and contract are known.
    public struct Domain: Sendable, Hashable {
      public var name: String
      public var version: String

      /// Makes a domain.
      public init(name: String, version: String) {
        self.name = name
        self.version = version
      }
    }

    /// Ways to move a token by its owner's signature.
    public struct Transfers: OptionSet, Sendable, Hashable {
      /// One bit a way.
      public let rawValue: UInt8

      /// Makes a set of bits.
      public init(rawValue: UInt8) {
        self.rawValue = rawValue
      }

      /// `transferWithAuthorization` of the token itself.
      public static let eip3009 = Transfers(rawValue: 1)
      /// The Permit2 contract, which the owner has to have allowed once.
      public static let permit2 = Transfers(rawValue: 2)

      /// The ways by name, as a configuration has them.
      static let named: [(name: String, way: Transfers)] = [("eip3009", .eip3009), ("permit2", .permit2)]
      /// The names of those that are in the set.
      public var names: [String] { Self.named.filter { contains($0.way) }.map(\.name) }
    }
  }

  /// A way to pay: a dialect over our own ledger, or over a chain by its index in `Settings.chains`.
  public enum Rail: Sendable, Hashable {
    /// The ledger's own money.
    case prepaid
    /// x402, whose schemes the chain's tokens decide.
    case x402(chain: Int)
    /// MPP's method `evm`.
    case evm(chain: Int)
    /// MPP's method `tempo`.
    case tempo(chain: Int)

    /// The chain; nil for the ledger's own money.
    public var chain: Int? {
      switch self {
      case .prepaid: nil
      case .x402(let chain), .evm(let chain), .tempo(let chain): chain
      }
    }
  }
}

extension Settings {
  /// Every service that is called for chains.
  var services: [Endpoint] {
    chains.flatMap { chain in
      if case .remote(let endpoint, _)? = chain.signer { return chain.rpc + [endpoint] }
      return chain.rpc
    } + facilitators.map(\.endpoint)
  }
}
