import Configuration
import Ethereum
import Methods

/// A configured chain as the desk deals with it: where its nodes are asked, who signs, who settles.
struct ChainPlan: Sendable, Equatable {
  /// How often a chain is looked after.
  static let lookInterval = Duration.seconds(5)
  /// How often while nothing can be settled.
  static let closedInterval = Duration.seconds(1)
  /// How long after a bad answer it is asked again, before the chain counts as out of reach.
  static let secondLooks = [Duration.milliseconds(250), .seconds(1)]
  /// Operators are told when the signer's balance lasts for fewer payments.
  static let paymentsLow: UInt64 = 100
  /// When a payment that was sent, and of which nothing is known, needs an operator: so long after it cannot settle any more. Longer than
  /// `Chain.settle` goes on asking.
  static let unresolvedAfter = Duration.seconds(180)
  /// A transaction that is older than so many times `resubmit-after` counts as stuck.
  static let stuckAfter = 4
  /// What the limit of the fee is multiplied by for what would be lost if it did not land in time: answers to forced closes.
  static let urgentFactor: UInt128 = 4
  /// The most gas that one settlement is given.
  static let gasLimit: UInt64 = 500_000
  /// Gas that settling one payment takes at most; who has less than it costs cannot settle.
  static let gasOfOnePayment: UInt128 = 200_000
  /// Between two looks at a transaction that is on its way.
  private static let defaultPoll = Duration.seconds(1)

  let settings: Settings.Chain
  let nodes: [ServiceEndpoint]
  let signer: Signer?
  let facilitator: FacilitatorPlan?

  /// Who signs what we submit.
  enum Signer: Sendable {
    case key(EthereumKey)
    case remote(ServiceEndpoint, Address)

    var address: Address {
      switch self {
      case .key(let key): key.address
      case .remote(_, let address): address
      }
    }
  }

  /// Where a facilitator is asked.
  struct FacilitatorPlan: Sendable {
    let verify: ServiceEndpoint
    let settle: ServiceEndpoint
    let supported: ServiceEndpoint
  }

  /// What holds the deposits of the chain's sessions; nil where none are sold.
  var escrow: SessionEscrow? {
    settings.escrow.map { SessionEscrow(rules: ChannelProtocol($0.rules), chain: id, address: $0.address) }
  }

  /// The contract of x402's batch-settlement; nil where no channels of it are taken.
  var batch: SessionEscrow? { settings.batch.map { _ in SessionEscrow.batch(chain: id) } }

  var id: UInt64 { settings.id }
  var name: String { settings.name }
  var confirmations: UInt64 { UInt64(max(1, settings.confirmations)) }
  var resubmitAfter: Duration { settings.resubmitAfter }
  var feeLimit: UInt128 { settings.gasPriceLimit }
  /// Between two looks at a transaction that is on its way.
  var pollInterval: Duration { Self.defaultPoll }

  /// Prepares a chain; `place` finds an upstream's place in the plan.
  ///
  /// - Throws: why the signer's key cannot be read.
  init(_ chain: Settings.Chain, _ settings: Settings, place: (Int) -> Int) throws(KeyFileError) {
    self.settings = chain
    nodes = chain.rpc.map { ServiceEndpoint($0, place: place) }
    switch chain.signer {
    case .file(let path): signer = .key(try KeyFile.read(path))
    case .remote(let endpoint, let address): signer = .remote(ServiceEndpoint(endpoint, place: place), address)
    case nil: signer = nil
    }
    facilitator = chain.facilitator.map { index in
      let endpoint = settings.facilitators[index].endpoint
      func below(_ path: String) -> ServiceEndpoint { ServiceEndpoint(endpoint, below: path, place: place) }
      return FacilitatorPlan(verify: below("verify"), settle: below("settle"), supported: below("supported"))
    }
  }

  /// Prepares all chains of the settings.
  ///
  /// - Parameter places: of the settings' upstreams in the plan.
  static func plans(_ settings: Settings, places: [Int]) throws(ServerError) -> [ChainPlan] {
    var plans: [ChainPlan] = []
    for (index, chain) in settings.chains.enumerated() {
      do throws(KeyFileError) { plans.append(try ChainPlan(chain, settings) { places[$0] }) } catch { throw .signer(chain: index, error) }
    }
    return plans
  }

  static func == (left: ChainPlan, right: ChainPlan) -> Bool {
    left.settings == right.settings && left.nodes == right.nodes && left.signer?.address == right.signer?.address
      && left.facilitator?.settle == right.facilitator?.settle
  }
}

extension ServiceEndpoint {
  /// Prepares a configured endpoint.
  init(_ endpoint: Settings.Endpoint, below path: String = "", place: (Int) -> Int) {
    let (seconds, attoseconds) = endpoint.timeout.components
    self.init(
      upstream: place(endpoint.upstream), authority: endpoint.authority, target: String(decoding: endpoint.target.bytes, as: UTF8.self),
      authorization: endpoint.authorization?.bytes, timeout: seconds * 1_000_000_000 + attoseconds / 1_000_000_000, below: path)
  }
}
