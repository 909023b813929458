import HTTP
import IO

extension ClientAddress {
  init(_ address: SocketAddress) {
    switch address.family {
    case .unix: self = .none
    case .inet, .inet6: self.init(high: address.high, low: address.low)
    }
  }
}

extension Worker {
  /// Connections accepted from one listener in one turn.
  static var acceptsPerTurn: Int { 64 }
  /// How long accepting rests when nothing is left to accept with.
  static var acceptPause: Int64 { 100_000_000 }

  /// Takes over a listener: it is watched by edges, so that a full descriptor table never makes the loop spin.
  ///
  /// - Parameter number: names its address in the settings, for as long as a configuration has it.
  mutating func add(_ listener: consuming Listener, number: Int) throws(IOError) {
    let descriptor = listener.descriptor
    guard let index = listeners.insert(listener) else { throw .cannotListen(code: 0) }
    try epoll.add(descriptor, token: Self.token(.listener, index: index, generation: listeners.generation(index)))
    listenerPlaces[number, default: []].append(index)
    while listenerNumbers.count <= index { listenerNumbers.append(0) }
    listenerNumbers[index] = Int32(truncatingIfNeeded: number)
  }

  /// Closes the listeners of an address, once everybody who waits there has been let in.
  mutating func removeListeners(number: Int) {
    for index in listenerPlaces.removeValue(forKey: number) ?? [] where listeners.isInUse(index) {
      accept(index)
      listeners.remove(index)
    }
  }

  /// Accepts what waits at a listener, up to a bound; the rest comes at the next turn.
  mutating func accept(_ listenerIndex: Int) {
    guard !isDraining, listeners.isInUse(listenerIndex) else { return }
    for _ in 0..<Self.acceptsPerTurn {
      guard clientCount < plan.connectionLimit else {
        control.notices.exhausted(.connectionsExhausted, at: now)
        return deferAccepting()
      }
      switch listeners.pointer(listenerIndex).pointee.accept() {
      case .accepted(let descriptor, let peer): meet(descriptor, peer, listenerNumbers[listenerIndex])
      case .wouldBlock: return
      case .aborted: continue
      case .exhausted: return refuseForWant(of: listenerIndex)
      }
    }
    acceptAgainAt = now
  }

  /// Accepts again at every listener after a pause.
  mutating func acceptAgain() {
    acceptAgainAt = .max
    if spareDescriptor == nil { spareDescriptor = Syscalls.spareDescriptor() }
    for index in 0..<listeners.placeCount where listeners.isInUse(index) { accept(index) }
  }

  private mutating func deferAccepting() {
    metrics.acceptsDeferred.add()
    acceptAgainAt = now &+ Self.acceptPause
  }

  /// With no descriptor left, the spare one is given up to take one client and turn it away: better than to let it wait.
  private mutating func refuseForWant(of listenerIndex: Int) {
    deferAccepting()
    control.notices.exhausted(.descriptorsExhausted, at: now)
    guard let spare = spareDescriptor else { return }
    Syscalls.close(spare)
    if case .accepted(let descriptor, _) = listeners.pointer(listenerIndex).pointee.accept() {
      metrics.connectionsRefused.add()
      Syscalls.close(descriptor)
    }
    spareDescriptor = Syscalls.spareDescriptor()
  }

  /// Begins with a client's connection; its index, or nil where it was closed at once.
  @discardableResult
  mutating func welcome(_ descriptor: Int32, _ peer: ClientAddress, port: UInt16, _ listener: Int32) -> Int? {
    // A trusted proxy or a Unix socket stands for many clients, so only direct ones are counted.
    let isCounted = peer != .none && !Forwarded.isTrusted(peer, plan.trustedProxies)
    guard !isCounted || control.clients.enter(peer) else {
      metrics.connectionsRefused.add()
      Syscalls.close(descriptor)
      return nil
    }
    guard let index = downstreams.insert(DownstreamConnection(descriptor: descriptor, peer: peer, listener: listener)) else {
      if isCounted { control.clients.leave(peer) }
      Syscalls.close(descriptor)
      return nil
    }
    downstreams.pointer(index).pointee.isCounted = isCounted
    downstreams.pointer(index).pointee.peerPort = port
    clientCount += 1
    metrics.connectionsAccepted.add()
    metrics.connectionsOpen.add()
    do {
      try epoll.add(descriptor, token: Self.token(.downstream, index: index, generation: downstreams.generation(index)))
    } catch {
      closeDownstream(index)
      return nil
    }
    if plan.listeners[Int(listener)].redirects { downstreams.pointer(index).pointee.flags.insert(.redirects) }
    if let context = plan.listeners[Int(listener)].tls {
      guard startHandshake(index, context.current) else {
        closeDownstream(index)
        return nil
      }
    }
    setDeadline(index, now &+ plan.timeouts.headerRead)
    return index
  }
}
