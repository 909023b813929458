import Bytes
import Encoding
import HTTP
import IO
import Synchronization

/// What two processes tell each other while one takes the other's place.
///
/// The new one says `ready` when its configuration is good and its listeners are there; until then the old one goes on as if
/// nothing had happened. Then the old one passes on connections as they become idle, finishes its exchanges, closes the ledger and
/// says `released`; only now the new one says `taken` and opens the ledger, so that it is never in two hands, and says `serving`.
enum Handover {
  /// The kind of a message: its first octet.
  enum Kind: UInt8 {
    case ready = 1
    case connection, released, serving, taken
  }

  /// A client's connection that goes from one process to the other.
  struct Connection: Sendable {
    let descriptor: Int32
    let peer: ClientAddress
    let peerPort: UInt16
    /// The address that it came to, as the configuration names it.
    let listener: String
    /// What the client has sent of its next request.
    let input: [UInt8]
  }

  static func tell(_ kind: Kind, _ channel: MessageChannel) -> Bool { channel.send([kind.rawValue]) }

  /// Passes a connection on; false where it could not be, and stays with the caller.
  static func pass(_ connection: Connection, _ channel: MessageChannel) -> Bool {
    var octets: [UInt8] = [Kind.connection.rawValue]
    for half in [connection.peer.high, connection.peer.low] { withUnsafeBytes(of: half.bigEndian) { octets += $0 } }
    withUnsafeBytes(of: connection.peerPort.bigEndian) { octets += $0 }
    let name = Array(connection.listener.utf8.prefix(255))
    octets.append(UInt8(name.count))
    octets += name
    guard octets.count + connection.input.count <= MessageChannel.messageLimit else { return false }
    return channel.send(octets + connection.input, descriptor: connection.descriptor)
  }

  /// Reads a message of the kind `connection`; nil where it is none.
  static func connection(_ octets: [UInt8], descriptor: Int32) -> Connection? {
    guard octets.count >= 20, octets[0] == Kind.connection.rawValue, octets.count >= 20 + Int(octets[19]) else { return nil }
    func number(_ start: Int, _ count: Int) -> UInt64 { octets[start..<start + count].reduce(0) { $0 << 8 | UInt64($1) } }
    let nameEnd = 20 + Int(octets[19])
    return Connection(
      descriptor: descriptor, peer: ClientAddress(high: number(1, 8), low: number(9, 8)), peerPort: UInt16(number(17, 2)),
      listener: String(decoding: octets[20..<nameEnd], as: UTF8.self), input: Array(octets[nameEnd...]))
  }

  /// What the old process has passed on.
  enum Legacy: Sendable {
    /// The ledger is ours, and these connections.
    case released([Connection])
    /// The old process has died; what it held, the kernel has let go of.
    case orphaned([Connection])
  }

  /// Takes connections over until the ledger is released.
  static func awaitRelease(_ channel: MessageChannel) -> Legacy {
    var connections: [Connection] = []
    while true {
      switch channel.receive(milliseconds: 60_000) {
      case .nothing: break
      case .ended: return .orphaned(connections)
      case .message(let octets, let descriptor):
        if octets.first == Kind.released.rawValue {
          _ = tell(.taken, channel)
          return .released(connections)
        }
        guard let descriptor else { continue }
        if let connection = connection(octets, descriptor: descriptor) {
          connections.append(connection)
        } else {
          Syscalls.close(descriptor)
        }
      }
    }
  }
}

/// The program that takes this one's place, from its start to its first request.
final class Upgrade: Sendable {
  /// How long the new program may take to read its configuration and say that it is ready.
  private static let readyLimit = Duration.seconds(20)
  /// How long it may take to say that it has heard that the ledger is its own …
  private static let takenLimit = Duration.seconds(10)
  /// … and to open it.
  private static let servingLimit = Duration.seconds(60)
  /// How often it is looked whether a program that was killed has ended, every two milliseconds: the ledger's lock goes with it.
  private static let endLooks = 5000

  let process: Int32
  let channel: MessageChannel
  private let serving = Atomic<Bool>(false)
  private var isServing: Bool { serving.load(ordering: .relaxed) }

  private init(process: Int32, channel: MessageChannel) {
    self.process = process
    self.channel = channel
  }

  /// Starts the program with the listeners, and waits until it is ready, or `isAbandoned`. Nothing has changed where that fails.
  static func start(
    _ executable: String, arguments: [String], listeners: [ListeningSockets], isAbandoned: () -> Bool
  ) throws(ReloadFailure) -> Upgrade {
    let names = listeners.flatMap { Array(repeating: $0.words, count: $0.descriptors.count) }
    let descriptors = listeners.flatMap(\.descriptors)
    let foreign = listeners.filter { !$0.ownsFile }.map(\.words)
    var variables = ProcessControl.variables.filter { !["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].contains($0.name) }
    variables += Inheritance.variables(names: names, foreign: foreign)
    let upgrade: Upgrade
    do throws(IOError) {
      let (own, other) = try MessageChannel.pair()
      let process = try ProcessControl.spawn(
        executable, arguments: arguments, variables: variables, descriptors: descriptors + [other.descriptor])
      upgrade = Upgrade(process: process, channel: own)
      // The other end is closed here with `other`, so that the new program's death is seen.
    } catch {
      throw ReloadFailure("cannot-start", "\(executable) cannot be started: \(ReloadFailure.text(error))", status: 503)
    }
    guard upgrade.wait(for: [.ready], readyLimit, isAbandoned) else {
      let status = upgrade.end()
      if isAbandoned() { throw .ending }
      throw ReloadFailure(
        "not-ready", "the new program was not ready\(status.map { ": it ended with status \($0)" } ?? " in time")",
        advice: "its own words stand in the log; this one goes on as before")
    }
    return upgrade
  }

  /// Tells the new program that the ledger is its own now, and waits until it serves. One that has stopped listening is not waited for.
  func finish() -> Bool {
    guard !channel.hasFailed, Handover.tell(.released, channel) else { return false }
    return wait(for: [.taken, .serving], Self.takenLimit) && (isServing || wait(for: [.serving], Self.servingLimit))
  }

  /// Asks the new program to end: what was asked of this one meanwhile.
  func passOnTermination() { ProcessControl.terminate(process) }

  /// Ends the new program, if it has not ended; its exit status where it had.
  @discardableResult func end() -> Int32? {
    for _ in 0..<50 {
      if let status = ProcessControl.exitStatus(of: process) { return status }
      AdministrationPause.briefly()
    }
    ProcessControl.kill(process)
    for _ in 0..<Self.endLooks {
      if ProcessControl.exitStatus(of: process) != nil { break }
      AdministrationPause.briefly()
    }
    return nil
  }

  private func wait(for kinds: [Handover.Kind], _ limit: Duration, _ isAbandoned: () -> Bool = { false }) -> Bool {
    let deadline = Instant.now() + limit
    while Instant.now() < deadline, !isAbandoned() {
      switch channel.receive(milliseconds: 200) {
      case .message(let octets, let descriptor):
        if let descriptor { Syscalls.close(descriptor) }
        guard let kind = octets.first.flatMap({ Handover.Kind(rawValue: $0) }), kinds.contains(kind) else { continue }
        if kind == .serving { serving.store(true, ordering: .relaxed) }
        return true
      case .nothing: break
      case .ended: return false
      }
    }
    return false
  }
}
