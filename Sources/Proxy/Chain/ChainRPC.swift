import Bytes
import Encoding
import Ethereum
import Synchronization

/// Asks a chain's nodes: the one that answered last, and the others in turn where it fails.
final class ChainRPC: Sendable {
  private let chain: UInt64
  private let nodes: [ServiceEndpoint]
  private let services: ServiceClient
  /// The node that answered last.
  private let current = Atomic<Int>(0)

  init(chain: UInt64, nodes: [ServiceEndpoint], services: ServiceClient) {
    self.chain = chain
    self.nodes = nodes
    self.services = services
  }

  /// Asks one endpoint; a refusal that the node gives is an answer.
  static func ask(_ call: RPCCall, of endpoint: ServiceEndpoint, _ services: ServiceClient) async throws(ChainError) -> RPCReply {
    // Each connection carries one call at a time, so that one number does for all.
    var content = ByteBuffer()
    call.write(id: 1, to: &content)
    // Calls read, but for one that sends a transaction, and sending the same one twice is no more than sending it.
    let outcome = await services.call(endpoint.post(content.array(), contentLimit: RPCReply.limits.octets, mayRepeat: true))
    guard case .answered(let answer) = outcome, let reply = try? RPCReply(answer.content, id: 1) else { throw .unreachable }
    return reply
  }

  /// Asks the nodes in turn until one answers.
  private func ask(_ call: RPCCall) async throws(ChainError) -> RPCReply {
    let first = current.load(ordering: .relaxed)
    for step in 0..<nodes.count {
      let place = (first + step) % nodes.count
      guard let reply = try? await Self.ask(call, of: nodes[place], services) else { continue }
      // Limits and faults of a node are no answer of the chain (EIP-1474's server errors, and JSON-RPC's own).
      if let failure = reply.failure, failure.code <= -32_000, failure.code != -32_000, step + 1 < nodes.count { continue }
      if step > 0 { current.store(place, ordering: .relaxed) }
      return reply
    }
    throw .unreachable
  }

  /// Asks, and takes the answer's result; a node's refusal is thrown.
  private func result<Value>(_ call: RPCCall, _ read: (JSONValue) throws(EthereumError) -> Value) async throws(ChainError) -> Value {
    switch try await ask(call) {
    case .failure(let failure):
      if let reason = failure.revertReason { throw .reverted(reason) }
      if failure.code == RPCFailure.executionReverted { throw .reverted(.none) }
      let refusal = NodeRefusal(failure.message)
      throw refusal == .reverted ? .reverted(.none) : .refused(code: failure.code, refusal)
    case .result(let value):
      do { return try read(value) } catch { throw .unreachable }
    }
  }

  /// Whether any node says anything.
  var isAnswering: Bool { get async { (try? await blockNumber()) != nil } }

  func chainID() async throws(ChainError) -> UInt64 {
    try await result(.chainID) { (value) throws(EthereumError) in try value.quantity64() }
  }

  func blockNumber() async throws(ChainError) -> UInt64 {
    try await result(.blockNumber) { (value) throws(EthereumError) in try value.quantity64() }
  }

  /// Of an account, in wei; what passes 128 bits is as much as 128 bits hold.
  func balance(of address: Address) async throws(ChainError) -> UInt128 {
    try await result(.balance(address, at: .latest)) { (value) throws(EthereumError) in try value.quantity().uint128 ?? .max }
  }

  /// A contract's code; empty where there is none.
  func code(of address: Address) async throws(ChainError) -> [UInt8] {
    try await result(.code(address, at: .latest)) { (value) throws(EthereumError) in try value.data() }
  }

  func transactionCount(of address: Address, includesPending: Bool) async throws(ChainError) -> UInt64 {
    try await result(.transactionCount(address, at: includesPending ? .pending : .latest)) { (value) throws(EthereumError) in try value.quantity64() }
  }

  /// How many transactions an account had sent by a block.
  func transactionCount(of address: Address, at block: UInt64) async throws(ChainError) -> UInt64 {
    try await result(.transactionCount(address, at: .number(block))) { (value) throws(EthereumError) in try value.quantity64() }
  }

  /// What a call would return; thrown is `reverted` where it would be undone.
  func call(to: Address, data: [UInt8], from: Address?) async throws(ChainError) -> [UInt8] {
    try await result(.call(CallRequest(from: from, to: to, data: data), at: .latest)) { (value) throws(EthereumError) in try value.data() }
  }

  /// The same by the state of an earlier block, which nodes keep for a while.
  func call(to: Address, data: [UInt8], atBlock number: UInt64) async throws(ChainError) -> [UInt8] {
    try await result(.call(CallRequest(from: nil, to: to, data: data), at: .number(number))) { (value) throws(EthereumError) in try value.data() }
  }

  /// A block's header; nil for a block that the node does not have.
  func header(_ tag: BlockTag) async throws(ChainError) -> BlockHeader? {
    try await result(.block(tag)) { (value) throws(EthereumError) in try BlockHeader(value) }
  }

  /// What contracts told in some blocks.
  func logs(of addresses: [Address], topics: [[Digest32]], from first: UInt64, through last: UInt64) async throws(ChainError) -> [Log] {
    let filter = LogFilter(from: .number(first), to: .number(last), addresses: addresses, topics: topics)
    return try await result(.logs(filter)) { (value) throws(EthereumError) in try Log.logs(value) }
  }

  func estimateGas(from: Address, to: Address, data: [UInt8]) async throws(ChainError) -> UInt64 {
    try await result(.estimateGas(CallRequest(from: from, to: to, data: data))) { (value) throws(EthereumError) in try value.quantity64() }
  }

  /// The newest block's base fee, and the tip that is proposed, in wei.
  func fees() async throws(ChainError) -> (base: UInt128, tip: UInt128) {
    let base = try await result(.block(.latest)) { (value) throws(EthereumError) in try BlockHeader(value)?.baseFeePerGas ?? 0 }
    let tip = try await result(.maxPriorityFeePerGas) { (value) throws(EthereumError) in try value.quantity128() }
    return (base, tip)
  }

  /// Broadcasts; a node that knows the transaction already has no reason to complain.
  func send(_ raw: [UInt8]) async throws(ChainError) {
    // Each node by itself: a refusal behind an answer that was lost says nothing, for that one may have taken it.
    var isLost = false
    var content = ByteBuffer()
    RPCCall.sendRawTransaction(raw).write(id: 1, to: &content)
    let octets = content.array()
    for step in 0..<nodes.count {
      let place = (current.load(ordering: .relaxed) + step) % nodes.count
      // Not repeated on another connection: the second answer would be about what the first one did.
      switch await services.call(nodes[place].post(octets, contentLimit: RPCReply.limits.octets, mayRepeat: false)) {
      case .notSent: continue
      case .unanswered: isLost = true
      case .answered(let answer):
        guard let reply = try? RPCReply(answer.content, id: 1) else {
          isLost = true
          continue
        }
        guard let failure = reply.failure else { return }
        let refusal = NodeRefusal(failure.message)
        guard refusal != .alreadyKnown else { return }
        // Limits and faults are the node's own: another one may take it.
        if failure.code <= -32_000, failure.code != -32_000 {
          isLost = isLost || failure.code == -32_603
          continue
        }
        guard !isLost else { throw .unreachable }
        throw .refused(code: failure.code, refusal)
      }
    }
    throw .unreachable
  }

  /// The receipt of a transaction; nil while it is in no block.
  func receipt(of hash: Digest32) async throws(ChainError) -> TransactionReceipt? {
    try await result(.transactionReceipt(hash)) { (value) throws(EthereumError) in try TransactionReceipt(value) }
  }

  /// What a look for a receipt finds.
  enum Sight {
    /// No node answered.
    case nothing
    /// The transaction is in no block.
    case absent
    case receipt(TransactionReceipt)
  }

  /// Looks for the receipt of a transaction.
  func look(for hash: Digest32) async -> Sight {
    do throws(ChainError) {
      guard let receipt = try await receipt(of: hash) else { return .absent }
      return .receipt(receipt)
    } catch { return .nothing }
  }

  /// A transaction; nil while the node does not know it.
  func transaction(_ hash: Digest32) async throws(ChainError) -> TransactionRecord? {
    try await result(.transaction(hash)) { (value) throws(EthereumError) in try TransactionRecord(value) }
  }

  /// The logs that a filter lets through.
  func logs(_ filter: LogFilter) async throws(ChainError) -> [Log] {
    try await result(.logs(filter)) { (value) throws(EthereumError) in try Log.logs(value) }
  }

  /// Whether the chain's own clock is past a moment, and so deep that blocks before it are not taken back; not where nobody can tell.
  func isPast(_ moment: Timestamp?, confirmations: UInt64) async -> Bool {
    guard let moment, Timestamp.now() > moment, let head = try? await blockNumber(), head >= confirmations,
      let time = try? await time(ofBlock: head - confirmations + 1)
    else { return false }
    return time > moment
  }

  /// When a block was made.
  func time(ofBlock number: UInt64) async throws(ChainError) -> Timestamp {
    let header = try await result(.block(.number(number))) { (value) throws(EthereumError) in try BlockHeader(value) }
    guard let header else { throw .unreachable }
    return Timestamp(seconds: Int64(clamping: header.timestamp))
  }
}
