import Gateway
import IO
import Synchronization

/// Another configuration on its way to one worker.
final class Reload: Sendable {
  /// Counts configurations.
  let number: UInt64
  let plan: RelayPlan
  let sale: Sale
  /// The addresses of the servers that the plan before did not have, in order.
  let addresses: [[SocketAddress]]
  /// Listeners that the worker opens, with their numbers.
  let opened: [(number: Int, listener: ListenerParcel)]
  /// Numbers of the listeners that it closes.
  let closed: [Int]

  init(
    number: UInt64, plan: RelayPlan, sale: Sale, addresses: [[SocketAddress]],
    opened: [(number: Int, listener: ListenerParcel)], closed: [Int]
  ) {
    self.number = number
    self.plan = plan
    self.sale = sale
    self.addresses = addresses
    self.opened = opened
    self.closed = closed
  }
}

/// What a worker tells when it has gone over to a configuration.
struct Adoption: Sendable {
  /// The configuration's number.
  var number: UInt64 = 0
  /// The places of routes that exchanges in flight referred to at that moment.
  var routes: Set<RouteIndex> = []
  /// Whether the worker has ended, and adopts nothing more.
  var isEnded = false
}

/// Carries a listener to a worker's thread.
final class ListenerParcel: Sendable {
  private let content: Mutex<Listener?>

  init(_ listener: consuming sending Listener) { content = Mutex(consume listener) }

  /// Takes the listener out; nil where it was taken before.
  func open() -> sending Listener? {
    content.withLock { content in content.take() }
  }
}

extension Worker {
  /// Goes over to another configuration: for every request whose head is complete from now on. What is in flight keeps
  /// the places of its route and upstream, connections stay open.
  mutating func adopt(_ reload: Reload) {
    plan = reload.plan
    cashier.adopt(reload.sale)
    addServers(reload.addresses)
    for (number, parcel) in reload.opened {
      guard let listener = parcel.open() else { continue }
      do { try add(listener, number: number) } catch { control.notices.exhausted(.descriptorsExhausted, at: now) }
    }
    for number in reload.closed { removeListeners(number: number) }
    let inUse = routesInUse()
    control.adoption.withLock { $0 = Adoption(number: reload.number, routes: inUse) }
  }

  private func routesInUse() -> Set<RouteIndex> {
    var routes: Set<RouteIndex> = []
    for index in 0..<downstreams.placeCount where downstreams.isInUse(index) {
      let connection = downstreams.pointer(index)
      switch connection.pointee.state {
      // What is collected is routed anew when it is complete.
      case .handshake, .multiplexed, .idle, .head, .content, .discard, .linger, .closed: break
      case .beforeForward, .queued, .exchange, .tunnel, .ending, .pendingAnswer, .answer: routes.insert(connection.pointee.route)
      }
    }
    return routes
  }
}
