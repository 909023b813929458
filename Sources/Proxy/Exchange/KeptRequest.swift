import Bytes
import HTTP

// Requests that are kept while somebody outside is asked about them.
extension Worker {
  /// Keeps a request's head.
  mutating func keepHead(_ index: Int, _ octets: UnsafeRawBufferPointer) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.keptHead.withUnsafeBytes({ $0.baseAddress != octets.baseAddress }) else { return }
    connection.pointee.keptHead.removeAll()
    connection.pointee.keptHead.append(octets)
  }

  /// Decides about a kept request anew.
  mutating func routeKept(_ index: Int) {
    let connection = downstreams.pointer(index)
    // Safe because: `keptHead` is not changed before the next request of this connection.
    let octets = connection.pointee.keptHead.withUnsafeBytes { $0 }
    requestHead.pointee.reset()
    // It was complete and valid before, so it is again.
    guard (try? RequestDecoder.decode(octets, limits: plan.headLimits, into: &requestHead.pointee)) == true else {
      return fail(index, .malformed(.requestLineInvalid(at: 0)))
    }
    if connection.pointee.transport == .stream, connection.pointee.has(.collected), !connection.pointee.collected.isEmpty {
      requestHead.pointee.declareContent()
    }
    route(index, octets)
  }

  /// Takes up what waited behind a kept request that has been decided about.
  mutating func goOn(_ index: Int) {
    let connection = downstreams.pointer(index)
    guard connection.pointee.state != .closed else { return }
    if connection.pointee.state == .exchange { flushUpstream(of: index) }
    if !connection.pointee.input.isEmpty || connection.pointee.has(.readable) { makeReady(downstream: index) }
  }
}
