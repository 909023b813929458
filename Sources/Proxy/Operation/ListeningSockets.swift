import Configuration
import HTTP
import IO
import Synchronization

/// The sockets of one address that is listened on, kept open beside the workers' own copies for as long as a configuration
/// has the address: they can be shared with a worker, or with the program that takes this one's place.
final class ListeningSockets: Sendable {
  /// Names the address for workers.
  let number: Int
  let endpoint: Settings.Listener.Endpoint
  /// The port that it has; 0 for a Unix socket.
  let port: UInt16
  /// Whether a Unix socket's file goes away with the sockets.
  let ownsFile: Bool
  private let sockets: [Socket]

  /// The address as the configuration writes it.
  var words: String { Settings.Listener(endpoint).words }

  private final class Socket: Sendable {
    let descriptor: Int32
    let port: UInt16
    private let listener: Mutex<Listener?>

    init(_ listener: consuming sending Listener) {
      descriptor = listener.descriptor
      port = listener.port
      self.listener = Mutex(consume listener)
    }

    func close() { listener.withLock { $0 = nil } }

    func leaveFile() {
      listener.withLock { held in
        guard var listener = held.take() else { return }
        listener.leaveFile()
        held = consume listener
      }
    }
  }

  /// Opens the sockets of an address: one for each worker where the kernel spreads connections over several, or one for all.
  init(_ listener: Settings.Listener, number: Int, workers: Int) throws(ServerError) {
    self.number = number
    endpoint = listener.endpoint
    var sockets: [Socket] = []
    do throws(IOError) {
      switch listener.endpoint {
      case .unix(let path):
        sockets.append(Socket(try Listener(unixPath: path, mode: listener.mode)))
      case .address(let text, let wanted):
        guard var address = Self.address(text, port: wanted) else { throw IOError.cannotBind(code: 0) }
        if wanted != 0 { try Listener.checkUnused(address) }
        for _ in 0..<max(1, workers) {
          let socket = Socket(try Listener(address: address))
          address.port = socket.port
          sockets.append(socket)
        }
      }
    } catch {
      throw .cannotListen(listener: number, error)
    }
    self.sockets = sockets
    port = sockets[0].port
    ownsFile = true
  }

  /// Takes over sockets that another process, or systemd, listens on; the first of them is what the kernel knows by the address.
  ///
  /// - Parameter ownsFile: whether a Unix socket's file goes away with them.
  init(_ listener: Settings.Listener, number: Int, adopting descriptors: [Int32], ownsFile: Bool) throws(ServerError) {
    precondition(!descriptors.isEmpty)
    self.number = number
    endpoint = listener.endpoint
    self.ownsFile = ownsFile
    var path: String?
    if case .unix(let own) = listener.endpoint, ownsFile { path = own }
    var sockets: [Socket] = []
    do throws(IOError) {
      for descriptor in descriptors { sockets.append(Socket(try Listener(adopting: descriptor, unixPath: path))) }
    } catch { throw .cannotListen(listener: number, error) }
    self.sockets = sockets
    port = sockets[0].port
  }

  /// The same sockets by another number.
  init(_ other: ListeningSockets, number: Int) {
    self.number = number
    (endpoint, port, ownsFile, sockets) = (other.endpoint, other.port, other.ownsFile, other.sockets)
  }

  /// Opens the listeners of settings: with what was inherited for an address, or anew. All or none.
  static func open(_ settings: Settings, workers: Int, inheritance: Inheritance) throws(ServerError) -> [ListeningSockets] {
    var all: [ListeningSockets] = []
    do throws(ServerError) {
      for (number, listener) in settings.listeners.enumerated() where inheritance.sockets(for: listener).isEmpty {
        try check(listener, number: number)
      }
      for (number, listener) in settings.listeners.enumerated() {
        let inherited = inheritance.sockets(for: listener)
        if inherited.isEmpty {
          all.append(try ListeningSockets(listener, number: number, workers: workers))
        } else {
          all.append(try ListeningSockets(listener, number: number, adopting: inherited, ownsFile: inheritance.ownsFile(of: listener)))
        }
      }
    } catch {
      for sockets in all {
        if inheritance.channel != nil { sockets.leaveFile() }
        sockets.close()
      }
      throw error
    }
    return all
  }

  /// Refuses an address on which another process listens or this one may not: asked before anything is opened.
  static func check(_ listener: Settings.Listener, number: Int) throws(ServerError) {
    do throws(IOError) {
      switch listener.endpoint {
      case .unix(let path): try Listener.checkUnused(unixPath: path)
      case .address(let text, let port):
        guard let address = address(text, port: port) else { throw IOError.cannotBind(code: 0) }
        if port != 0 { try Listener.checkUnused(address) }
      }
    } catch {
      throw .cannotListen(listener: number, error)
    }
  }

  static func address(_ text: String, port: UInt16) -> SocketAddress? {
    guard let address = ClientAddress(text) else { return nil }
    return SocketAddress(family: address.isIPv4 ? .inet : .inet6, high: address.high, low: address.low, port: port)
  }

  /// Makes the copies that one of `count` workers accepts from: every socket is some worker's, and every worker has one.
  func share(worker: Int, of count: Int) throws(IOError) -> [ListenerParcel] {
    var parcels: [ListenerParcel] = []
    for index in Self.indices(worker: worker, of: count, sockets: sockets.count) {
      parcels.append(ListenerParcel(try Listener(duplicating: sockets[index].descriptor)))
    }
    return parcels
  }

  static func indices(worker: Int, of count: Int, sockets: Int) -> [Int] {
    sockets > count ? Array(stride(from: worker, to: sockets, by: count)) : [worker % sockets]
  }

  /// Closes the sockets, and removes a Unix socket's file. What workers share stays open until they let go of it.
  func close() {
    for socket in sockets { socket.close() }
  }

  /// Leaves a Unix socket's file to another process.
  func leaveFile() {
    for socket in sockets { socket.leaveFile() }
  }

  /// The sockets, for another process.
  var descriptors: [Int32] { sockets.map(\.descriptor) }
}
