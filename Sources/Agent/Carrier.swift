import Bytes
import Encoding
import TLS

/// Carries the octets of one connection: over a socket as they are, or protected by TLS.
struct Carrier: ~Copyable {
  /// Octets that are taken from the socket, or protected, at once.
  private static let step = 16 << 10

  private let socket: StreamSocket
  /// nil: octets are carried as they are.
  private let records: Records?
  /// Records that the socket has not taken yet.
  private var pending = ByteBuffer()
  /// Content that has come and was not asked for yet.
  private var plain = ByteBuffer()
  // Safe because: allocated in init, freed in deinit, and used within one call at a time.
  private let scratch: UnsafeMutableRawBufferPointer

  /// Carries octets as they are.
  init(_ socket: consuming StreamSocket) {
    self.socket = socket
    records = nil
    scratch = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }

  /// Carries octets by TLS that was begun but not agreed on yet.
  private init(_ socket: consuming StreamSocket, _ records: Records) {
    self.socket = socket
    self.records = records
    scratch = .allocate(byteCount: Self.step * 2 + TLSEngine.slack, alignment: 16)
  }

  deinit { scratch.deallocate() }

  /// Agrees on TLS with the server, whose certificate must prove the host's name.
  static func secure(
    _ socket: consuming StreamSocket, _ context: TLSClientContext, host: String, until deadline: Instant
  ) throws(AgentError) -> Carrier {
    let records: Records
    do throws(TLSError) { records = Records(try TLSEngine(client: context, serverName: host)) } catch { throw .tls(host: host, error) }
    var carrier = Carrier(socket, records)
    do throws(TLSError) { try carrier.records?.engine.start(output: &carrier.pending) } catch { throw .tls(host: host, error) }
    while !carrier.isEstablished {
      try carrier.flush(.connecting)
      guard !carrier.wait(for: .readable, until: deadline).isEmpty else { throw .timeout(.connecting) }
      do throws(Failure) { _ = try carrier.pull(.connecting) } catch {
        switch error {
        case .agent(let error): throw error
        case .tls(let error): throw .tls(host: host, error)
        }
      }
    }
    try carrier.flush(.connecting)
    return carrier
  }

  private enum Failure: Error {
    case agent(AgentError)
    case tls(TLSError)
  }

  private var isEstablished: Bool { records?.engine.isEstablished ?? true }

  /// Holds the engine, which an optional cannot lend out.
  private final class Records {
    var engine: TLSEngine

    init(_ engine: consuming TLSEngine) { self.engine = engine }
  }

  // MARK: - As a socket

  /// Waits until one of `wanted` is possible or the deadline passes; empty means that it passed.
  mutating func wait(for wanted: StreamSocket.Readiness, until deadline: Instant?) -> StreamSocket.Readiness {
    if wanted.contains(.readable), !plain.isEmpty { return .readable }
    while true {
      var ready = socket.wait(for: pending.isEmpty ? wanted : wanted.union(.writable), until: deadline)
      if ready.isEmpty { return [] }
      // An error here is met again by the call that follows.
      if ready.contains(.writable), (try? flush(.sending)) == nil { return wanted }
      if !pending.isEmpty { ready.remove(.writable) }
      ready.formIntersection(wanted)
      if !ready.isEmpty { return ready }
    }
  }

  /// Hands octets on; returns how many were taken, 0 when none are taken now.
  mutating func send(_ octets: UnsafeRawBufferPointer) throws(AgentError) -> Int {
    if records == nil { return try socket.send(octets) }
    try flush(.sending)
    guard pending.isEmpty else { return 0 }
    let piece = UnsafeRawBufferPointer(rebasing: octets.prefix(Self.step))
    do throws(TLSError) { try records?.engine.send(piece, output: &pending) } catch { throw .connectionLost(.sending, code: 0) }
    try flush(.sending)
    return piece.count
  }

  /// Takes octets that have arrived. An end that TLS did not announce is a broken connection (RFC 8446, section 6.1).
  mutating func receive(into room: UnsafeMutableRawBufferPointer, phase: AgentError.Phase) throws(AgentError) -> StreamSocket.Receipt {
    if records == nil { return try socket.receive(into: room, phase: phase) }
    if plain.isEmpty {
      do throws(Failure) {
        if case .closed = try pull(phase) { return .closed }
      } catch {
        switch error {
        case .agent(let error): throw error
        case .tls: throw .connectionLost(phase, code: 0)
        }
      }
    }
    guard !plain.isEmpty else { return .wouldBlock }
    let count = min(room.count, plain.count)
    plain.withUnsafeBytes { room.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    plain.removeFirst(count)
    return .octets(count)
  }

  /// Whether an idle connection is still open and silent. What TLS itself has sent meanwhile, such as tickets, is taken in.
  mutating func isQuiet() -> Bool {
    if records == nil { return socket.isQuiet }
    guard plain.isEmpty, let receipt = try? pull(.awaitingHead), case .wouldBlock = receipt else { return false }
    return plain.isEmpty
  }

  // MARK: - Records

  /// Takes what the socket has, until there is content, an end, or nothing more.
  private mutating func pull(_ phase: AgentError.Phase) throws(Failure) -> StreamSocket.Receipt {
    while plain.isEmpty {
      if records?.engine.isEnded ?? false { return .closed }
      let input = UnsafeMutableRawBufferPointer(rebasing: scratch[..<Self.step])
      let output = UnsafeMutableRawBufferPointer(rebasing: scratch[Self.step...])
      let receipt: StreamSocket.Receipt
      do throws(AgentError) { receipt = try socket.receive(into: input, phase: phase) } catch { throw .agent(error) }
      switch receipt {
      case .wouldBlock: return .wouldBlock
      case .closed: throw .agent(.connectionLost(phase, code: 0))
      case .octets(let count):
        let octets = UnsafeRawBufferPointer(rebasing: input[..<count])
        let content: Int
        do throws(TLSError) { content = try records?.engine.receive(octets, into: output, output: &pending) ?? 0 } catch {
          // The alert that says why.
          try? flush(phase)
          throw .tls(error)
        }
        plain.append(UnsafeRawBufferPointer(rebasing: output[..<content]))
        do throws(AgentError) { try flush(phase) } catch { throw .agent(error) }
        if phase == .connecting, isEstablished { return .octets(content) }
      }
    }
    return .octets(plain.count)
  }

  /// Hands the socket what it takes of the records that wait.
  private mutating func flush(_ phase: AgentError.Phase) throws(AgentError) {
    while !pending.isEmpty {
      // Safe because: `pending` does not change before the send has returned.
      let octets = pending.withUnsafeBytes { $0 }
      let count = try socket.send(octets)
      guard count > 0 else { return }
      pending.removeFirst(count)
    }
  }
}
