import Bytes
import Crypto
import HTTP
import MCP
import Synchronization

/// Tells whether a call that was paid for has been cancelled by its client.
final class CallCancellation: Sendable {
  fileprivate let identifier: RPCIdentifier
  private let flag = Atomic<Bool>(false)

  fileprivate init(_ identifier: RPCIdentifier) { self.identifier = identifier }

  fileprivate func cancel() { flag.store(true, ordering: .releasing) }

  var isCancelled: Bool { flag.load(ordering: .acquiring) }
}

/// Knows the calls of MCP endpoints that were paid for and are at their servers, over all workers: a cancellation comes by another
/// connection. It has no more entries than there are paid calls in flight.
final class CallsInFlight: Sendable {
  private let calls = Mutex<[Digest32: [CallCancellation]]>([:])

  /// Names where identifiers of calls are unique: in a server's session, or where there is none, among a client's.
  static func scope(upstream: Int, session: [UInt8], client: ClientAddress) -> Digest32 {
    var hash = SHA256()
    hash.update("calls-v1|\(upstream)|")
    if session.isEmpty {
      hash.update("client|\(client.limitKey.high)|\(client.limitKey.low)")
    } else {
      hash.update("session|")
      session.withUnsafeBytes { hash.update($0) }
    }
    return hash.finalize()
  }

  /// Notes that a call begins.
  func enter(_ scope: Digest32, _ identifier: RPCIdentifier) -> CallCancellation {
    let call = CallCancellation(identifier)
    calls.withLock { $0[scope, default: []].append(call) }
    return call
  }

  /// Forgets calls that are at their end.
  func leave(_ scope: Digest32, _ ended: [CallCancellation]) {
    guard !ended.isEmpty else { return }
    calls.withLock { calls in
      guard var known = calls[scope] else { return }
      known.removeAll { call in ended.contains { $0 === call } }
      calls[scope] = known.isEmpty ? nil : known
    }
  }

  /// The client says that it does not want a call's result any more.
  func cancel(_ identifier: RPCIdentifier, in scope: Digest32) {
    calls.withLock { for call in $0[scope] ?? [] where call.identifier == identifier { call.cancel() } }
  }

  /// The client ends the session that calls belong to.
  func cancelAll(_ scope: Digest32) {
    calls.withLock { for call in $0[scope] ?? [] { call.cancel() } }
  }

  /// How many calls are known.
  var count: Int { calls.withLock { $0.values.reduce(0) { $0 + $1.count } } }
}
