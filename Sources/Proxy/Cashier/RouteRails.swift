import Bytes
import Configuration
import Encoding
import Ledger
import Ethereum
import Metering
import Methods
import Payments

/// What a route's price comes to on chains: its offers in x402 and in MPP's methods of chains.
struct RouteRails: Sendable {
  /// One way to pay on a chain.
  struct Offer: Sendable {
    let token: ChainToken
    let recipient: Address
    /// Base units.
    var amount: UInt128
    /// The ledger's account for the chain's money: `usdc@eip155:8453`.
    let account: String
    /// Who settles: a facilitator, where the chain has one and the dialect is its own.
    var isFacilitated: Bool
    /// What of the amount goes to others.
    var splits: [ChainSplit] = []

    /// What of the amount is the merchant's own, in base units.
    var own: UInt128 { splits.reduce(amount) { $0 - min($0, $1.amount) } }
    var chain: UInt64 { token.chain }
  }

  /// How the chain's money is called in the books: the currency's code, and the chain as CAIP-2 names it.
  static func account(_ currency: Currency, chain: UInt64) -> String { "\(currency.code)@eip155:\(chain)" }

  /// Seconds that an authorization of x402 has to hold at least.
  private static let authorizationSeconds: UInt32 = 300
  /// The same.
  static var authorizationTime: Duration { .seconds(Int64(max(authorizationSeconds, promiseSeconds))) }

  /// What x402 offers, and the same as its documents say it.
  private(set) var x402: [Offer] = []
  private(set) var requirements: [PaymentRequirements] = []
  /// Prints x402's part of a 402; nil where nothing is offered by it.
  private(set) var printer: PaymentRequiredPrinter?
  /// The same without batch-settlement, for as long as its channels cannot be watched; nil where that leaves nothing.
  private(set) var plainPrinter: PaymentRequiredPrinter?
  /// How many of the offers, the last ones, are those of batch-settlement.
  private var batchCount = 0
  /// MPP's charges on chains, and what they ask for.
  private(set) var charges: [(offer: Offer, request: ChargeRequest)] = []
  /// The rail of each of them.
  private var chargeRails: [Settings.Rail] = []
  /// MPP's sessions over channels.
  private(set) var sessions: [SessionOffer] = []
  /// Whether nothing but chains pays for the route.
  let isAlone: Bool

  /// Seconds that a signed maximum has to hold at least: it is settled after the service.
  private static let promiseSeconds: UInt32 = 900

  /// Works a route's offers out; where it is metered, what x402 offers is a maximum, and MPP's charges are none.
  ///
  /// - Throws: where a name of the settings cannot be sent.
  init(_ route: Settings.Route, _ price: Price, _ settings: Settings) throws(PaymentError) {
    isAlone = !route.rails.contains(.prepaid)
    sessions = Self.sessions(of: route, price, settings)
    let maximum = route.upto ?? (price.maximum < .max ? price.maximum : nil)
    let isPromised = price.isMetered && !price.needsUpgrade
    guard isPromised ? maximum != nil : !price.isMetered && (price.chargeAmount > 0 || route.proof), let merchant = settings.merchants.first(where: { $0.id == route.merchant }) else { return }
    // Where sessions alone are to be sold, a charge is no way around them.
    let isCharged = !isPromised && (route.intents.contains(.charge) || sessions.isEmpty)
    for rail in route.rails {
      guard let index = rail.chain else { continue }
      let chain = settings.chains[index]
      guard let recipient = merchant.addresses[chain.name] else { continue }
      for token in chain.tokens where token.currency == price.currency {
        let known = ChainToken(
          chain: chain.id, address: token.address, currency: token.currency, name: token.domain?.name, version: token.domain?.version,
          supportsEIP3009: token.transfers.contains(.eip3009), supportsPermit2: token.transfers.contains(.permit2))
        let account = Self.account(token.currency, chain: chain.id)
        var offer = Offer(token: known, recipient: recipient, amount: price.chargeAmount, account: account, isFacilitated: false)
        let splits = route.splits.compactMap { split in split.addresses[chain.name].map { (address: $0, split: split) } }
        offer.splits = splits.map { ChainSplit(recipient: $0.address.lowercase, amount: $0.split.amount) }
        switch rail {
        case .prepaid: break
        case .x402:
          offer.isFacilitated = chain.facilitator != nil
          if isPromised, let maximum {
            offer.amount = maximum
            let settler = chain.facilitator.map { settings.facilitators[$0].address } ?? chain.signerAddress
            if let settler { addMaximum(offer, settler: settler) }
          } else {
            add(offer)
          }
        case .evm:
          guard isCharged else { continue }
          charges.append((offer, .evm(Self.charge(offer, chain, route.description, splits))))
          chargeRails.append(rail)
        case .tempo:
          guard isCharged else { continue }
          let request = TempoCharge(
            amount: offer.amount, currency: token.address, recipient: recipient, description: route.description, chainID: chain.id,
            feePayer: chain.canSponsor && !route.proof, memo: route.memo?.octets,
            splits: splits.map { TempoCharge.Split(recipient: $0.address, amount: $0.split.amount, memo: $0.split.memo?.octets) },
            // A memo or a second transfer takes the place of what binds a pushed transfer to its challenge.
            supportedModes: !route.proof && (chain.canSponsor || route.memo != nil || !splits.isEmpty) ? [.pull] : nil)
          charges.append((offer, .tempo(request)))
          chargeRails.append(rail)
        }
      }
    }
    if route.batch, !price.isMetered { addBatches(route, price, merchant, settings) }
    guard !requirements.isEmpty else { return }
    do throws(X402Error) {
      let identifier = settings.x402.identifier
      var extensions = identifier == .none ? [] : [PaymentIdentifier.declaration(isRequired: identifier == .required)]
      if let bazaar = route.bazaar { extensions.append(bazaar) }
      let networks = requirements.map(\.network).reduce(into: []) { (list: inout [X402Network], next) in if !list.contains(next) { list.append(next) } }
      let signIn = try route.signIn == nil ? nil : SignInWithX(origin: settings.origin, networks: networks)
      printer = try PaymentRequiredPrinter(
        offers: requirements, resource: ResourceInfo(description: route.description, serviceName: settings.info.title), extensions: extensions,
        signIn: signIn, signsOffers: settings.x402.signs)
      plainPrinter = printer
      guard batchCount > 0 else { return }
      let plain = Array(requirements.dropLast(batchCount))
      plainPrinter = plain.isEmpty ? nil : try PaymentRequiredPrinter(
        offers: plain, resource: ResourceInfo(description: route.description, serviceName: settings.info.title), extensions: extensions,
        signIn: signIn, signsOffers: settings.x402.signs)
    } catch { throw .malformed(.request) }
  }

  /// What MPP asks for. What we submit ourselves needs who signs; what the payer sends needs nothing but a node.
  private static func charge(
    _ offer: Offer, _ chain: Settings.Chain, _ description: String?, _ splits: [(address: Address, split: Settings.Split)]
  ) -> EVMCharge {
    var types: [EVMCharge.CredentialType] = []
    if chain.signer != nil {
      if offer.token.supportsPermit2 { types.append(.permit2) }
      if offer.token.supportsEIP3009 { types.append(.authorization) }
    }
    // Permits alone pay several at once.
    let isSplit = !splits.isEmpty
    let own: [EVMCharge.CredentialType] = isSplit ? [] : [.transaction] + (chain.acceptsHash ? [.hash] : [])
    return EVMCharge(
      amount: offer.amount, currency: offer.token.address, recipient: offer.recipient, description: description, chainID: chain.id,
      permit2: offer.token.permit2, spender: chain.signerAddress, credentialTypes: types.filter { !isSplit || $0 == .permit2 } + own,
      decimals: UInt8(clamping: offer.token.currency.decimals),
      splits: splits.map { EVMCharge.Split(recipient: $0.address, amount: $0.split.amount, memo: $0.split.memo?.text) })
  }

  /// What an offer needs to be kept.
  enum Footing: Sendable, Hashable {
    /// Our own books alone.
    case ledger
    /// A chain that can be asked.
    case chain(UInt64)
    /// A chain on which channels are watched; names one of `sessions`.
    case session(Int)
  }

  /// MPP's charges and sessions of one rail as challenges carry them, each with what it needs.
  func offers(of rail: Settings.Rail) -> [(Footing, Payments.Offer)] {
    let charged = zip(charges, chargeRails).filter { $1 == rail }.map { charge, _ in
      let (offer, request) = charge
      return (
        Footing.chain(offer.chain),
        Payments.Offer(
          method: request.method, intent: "charge", amount: offer.amount, currency: offer.token.address.checksummed,
          recipient: offer.recipient.checksummed, description: request.description, request: request.object)
      )
    }
    return charged + sessions.indices.filter { sessions[$0].rail == rail }.map { (.session($0), sessions[$0].payment) }
  }

  /// Offers a token by the scheme upto, which Permit2 alone moves.
  private mutating func addMaximum(_ offer: Offer, settler: Address) {
    guard offer.token.supportsPermit2 else { return }
    var extra: JSONObject = ["assetTransferMethod": .string(AssetTransferMethod.permit2.rawValue), "facilitatorAddress": .string(settler.checksummed)]
    if let name = offer.token.name, let version = offer.token.version {
      extra.set("name", .string(name))
      extra.set("version", .string(version))
    }
    x402.append(offer)
    requirements.append(
      PaymentRequirements(
        scheme: .upto, network: X402Network(chainID: offer.chain), amount: offer.amount, asset: offer.token.address.checksummed,
        payTo: offer.recipient.checksummed, maxTimeoutSeconds: Self.promiseSeconds, extra: extra))
  }

  /// Whether an offer is one of batch-settlement.
  func isBatch(_ place: Int) -> Bool { place >= x402.count - batchCount }

  /// The offers of batch-settlement.
  var batches: ArraySlice<Offer> { x402.suffix(batchCount) }

  /// A deposit has to pay for so many requests at least: it costs us gas, as its claim does.
  private static let depositedRequests: UInt128 = 10
  /// Seconds that a deposit's authorization has to hold at least.
  private static let depositSeconds: UInt32 = 600

  /// Offers what is sold per request by the vouchers of channels too, behind all other offers.
  private mutating func addBatches(_ route: Settings.Route, _ price: Price, _ merchant: Settings.Merchant, _ settings: Settings) {
    let (ten, overflows) = price.chargeAmount.multipliedReportingOverflow(by: Self.depositedRequests)
    let least = max(PricedRoute.deposits(route, price).minimum, overflows ? price.chargeAmount : ten)
    for case .x402(let index) in route.rails {
      let chain = settings.chains[index]
      guard let batch = chain.batch, let authorizer = chain.signerAddress, let recipient = merchant.addresses[chain.name] else { continue }
      for token in chain.tokens where token.currency == price.currency {
        let known = ChainToken(token, chain: chain.id)
        guard known.supportsEIP3009 || known.supportsPermit2 else { continue }
        let method = known.supportsEIP3009 ? AssetTransferMethod.eip3009 : .permit2
        var extra: JSONObject = [
          "receiverAuthorizer": .string(authorizer.checksummed), "withdrawDelay": .integer(UInt64(clamping: batch.withdrawDelay.components.seconds)),
          "assetTransferMethod": .string(method.rawValue), "minDeposit": .string(String(least)),
        ]
        if let name = known.name, let version = known.version {
          extra.set("name", .string(name))
          extra.set("version", .string(version))
        }
        batchCount += 1
        x402.append(
          Offer(token: known, recipient: recipient, amount: price.chargeAmount, account: Self.account(token.currency, chain: chain.id), isFacilitated: false))
        requirements.append(
          PaymentRequirements(
            scheme: .batchSettlement, network: X402Network(chainID: chain.id), amount: price.chargeAmount, asset: known.address.checksummed,
            payTo: recipient.checksummed, maxTimeoutSeconds: Self.depositSeconds, extra: extra))
      }
    }
  }

  /// Offers a token by each of the ways that it can be moved.
  private mutating func add(_ offer: Offer) {
    let token = offer.token
    for method in [AssetTransferMethod.eip3009, .permit2] {
      switch method {
      case .eip3009: guard token.supportsEIP3009 else { continue }
      case .permit2: guard token.supportsPermit2 else { continue }
      }
      var extra: JSONObject = [:]
      if let name = token.name, let version = token.version {
        extra.set("name", .string(name))
        extra.set("version", .string(version))
      }
      // Where both are offered, each says which it is: clients and we tell them apart by that alone.
      if method == .permit2 || token.supportsPermit2 { extra.set("assetTransferMethod", .string(method.rawValue)) }
      x402.append(offer)
      requirements.append(
        PaymentRequirements(
          scheme: .exact, network: X402Network(chainID: token.chain), amount: offer.amount, asset: token.address.checksummed,
          payTo: offer.recipient.checksummed, maxTimeoutSeconds: Self.authorizationSeconds, extra: extra))
    }
  }
}

/// What a charge of MPP asks for, by its method.
enum ChargeRequest: Sendable, Hashable {
  case evm(EVMCharge)
  case tempo(TempoCharge)

  var method: String {
    switch self {
    case .evm: EVMCharge.method
    case .tempo: TempoCharge.method
    }
  }

  var description: String? {
    switch self {
    case .evm(let charge): charge.description
    case .tempo(let charge): charge.description
    }
  }

  var object: JSONObject {
    switch self {
    case .evm(let charge): charge.object
    case .tempo(let charge): charge.object
    }
  }

  /// What the payment of a credential that answers this request is called; nil where it cannot be read.
  func id(_ credential: Credential) -> Digest32? {
    switch self {
    case .evm(let charge): (try? EVMChargePayload(parsing: credential.payload)).flatMap { charge.id($0, source: credential.source) }
    case .tempo(let charge): (try? TempoChargePayload(parsing: credential.payload)).flatMap { charge.id($0) }
    }
  }

  /// What the payment of nothing is called that a credential proves an account by; nil where it proves none.
  func id(proof credential: Credential, _ terms: ChallengeTerms) -> Digest32? {
    guard case .tempo(let charge) = self, case .proof? = try? TempoChargePayload(parsing: credential.payload) else { return nil }
    return charge.id(proofOf: terms, source: credential.source)
  }

  /// Reads the request of a challenge; nil for another method, and for what is none.
  init?(_ method: String, parsing object: JSONObject) {
    switch method {
    case EVMCharge.method:
      guard let charge = try? EVMCharge(parsing: object) else { return nil }
      self = .evm(charge)
    case TempoCharge.method:
      guard let charge = try? TempoCharge(parsing: object) else { return nil }
      self = .tempo(charge)
    default: return nil
    }
  }
}

extension Settings.Chain {
  /// Whether payers' fees are paid: a key that is only with a service signs transactions, and no fees of others.
  var canSponsor: Bool {
    if case .file? = signer { return true }
    return false
  }
}
