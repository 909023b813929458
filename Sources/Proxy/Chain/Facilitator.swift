import Bytes
import Payments

/// Asks a facilitator (x402 v2, section 7).
struct Facilitator: Sendable {
  /// What it says of a payment before it is settled.
  enum Opinion {
    case valid
    case invalid(X402Reason)
    case unavailable
  }

  /// What a call to settle came to.
  enum Settlement {
    case settled(Digest32?)
    /// Broadcast and not confirmed.
    case pending(Digest32)
    /// It did not settle, and cannot have: no money has moved by this call.
    case refused(X402Reason)
    /// Its transaction was undone.
    case failed(X402Reason)
    /// The payer's authorization has been used: by an earlier call of ours, or by somebody else.
    case used
    /// It does not know of the call, or will not hear of it.
    case notAsked
    case unknown
  }

  private let plan: ChainPlan.FacilitatorPlan
  private let network: X402Network
  private let services: ServiceClient
  private let notices: ChainNotices

  init(_ plan: ChainPlan.FacilitatorPlan, network: X402Network, services: ServiceClient, notices: ChainNotices) {
    self.plan = plan
    self.network = network
    self.services = services
    self.notices = notices
  }

  func verify(_ content: [UInt8]) async -> Opinion {
    let outcome = await services.call(plan.verify.post(content, contentLimit: VerifyResponse.limit, mayRepeat: true))
    guard case .answered(let reply) = outcome, reply.status == 200,
      let answer = try? reply.content.withUnsafeBytes({ (octets) throws(X402Error) in try VerifyResponse(json: octets) })
    else {
      notices.tell(.facilitatorFails)
      return .unavailable
    }
    return answer.isValid ? .valid : .invalid(answer.reason ?? .unknown)
  }

  func settle(_ content: [UInt8]) async -> Settlement {
    let outcome = await services.call(plan.settle.post(content, contentLimit: SettlementResponse.limit, mayRepeat: false))
    let settlement: Settlement
    switch outcome {
    case .notSent: settlement = .notAsked
    case .unanswered: settlement = .unknown
    case .answered(let reply): settlement = read(reply)
    }
    switch settlement {
    case .notAsked, .unknown: notices.tell(.facilitatorFails)
    case .settled, .pending, .refused, .failed, .used: break
    }
    return settlement
  }

  private func read(_ reply: ServiceReply) -> Settlement {
    guard let answer = try? reply.content.withUnsafeBytes({ (octets) throws(X402Error) in try SettlementResponse(json: octets, network: network) })
    else {
      // Who is not let in, or speaks of what is unknown there, was not listened to.
      return [400, 401, 403, 404, 405, 413, 415, 422].contains(reply.status) ? .notAsked : .unknown
    }
    // A refusal may be told with another status too; a success is not.
    guard reply.status == 200 || !answer.isSuccess && (400..<500).contains(reply.status) else { return .unknown }
    if answer.isSuccess { return .settled(answer.transaction) }
    if answer.isPending, let transaction = answer.transaction { return .pending(transaction) }
    if answer.transaction == nil, answer.reason == .exactNonceAlreadyUsed || answer.reason == .permit2InvalidNonce { return .used }
    if answer.reason == .transactionFailed, answer.transaction != nil { return .failed(.transactionFailed) }
    return answer.isDefinitiveRefusal ? .refused(answer.reason ?? .unknown) : .unknown
  }

  /// Why it settles nothing on the chain; nil where it says that it does.
  func fault() async -> ChainError? {
    guard case .answered(let reply) = await services.call(plan.supported.get(contentLimit: SupportedResponse.limit)), reply.status == 200,
      let answer = try? reply.content.withUnsafeBytes({ (octets) throws(X402Error) in try SupportedResponse(json: octets) })
    else {
      if !Task.isCancelled { notices.tell(.facilitatorFails) }
      return .unreachable
    }
    // An empty list is that of one who is starting.
    return answer.kind(.exact, on: network) == nil ? .notSupported : nil
  }
}
