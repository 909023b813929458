import Configuration
import IO

/// What this process was started with: sockets on which somebody listens already, and the channel to the process whose
/// place it takes.
struct Inheritance: Sendable {
  /// One socket, and the address that the configuration before calls it by.
  struct Socket: Sendable {
    let descriptor: Int32
    let name: String?
  }

  private(set) var sockets: [Socket] = []
  /// To the process that hands over; nil where this one was started by itself or by systemd.
  private(set) var channel: MessageChannel?
  /// The addresses whose files are systemd's, and stay so over every upgrade.
  private var foreign: Set<String> = []
  /// Whether the file of an inherited Unix socket goes with it; systemd's is its own.
  func ownsFile(of listener: Settings.Listener) -> Bool { channel != nil && !foreign.contains(listener.words) }

  /// Nothing is inherited.
  init() {}

  private static let firstDescriptor: Int32 = 3
  private static let countVariable = "FAREBOX_LISTEN_FDS"
  private static let namesVariable = "FAREBOX_LISTEN_FDNAMES"
  private static let foreignVariable = "FAREBOX_LISTEN_FOREIGN"
  /// Most sockets that are taken over.
  private static let limit: Int32 = 4096

  /// Takes what the variables name (`LISTEN_FDS` of systemd, or our own), and removes them: no child inherits them. Before other
  /// threads are started.
  static func take() -> Inheritance {
    var inheritance = Inheritance()
    if let count = ProcessControl.variable(countVariable).flatMap({ Int32($0) }), (0...limit).contains(count) {
      let names = (ProcessControl.variable(namesVariable) ?? "").split(separator: "\n", omittingEmptySubsequences: false)
      inheritance.add(count) { $0 < names.count ? String(names[$0]) : nil }
      inheritance.channel = MessageChannel(adopting: firstDescriptor + count)
      inheritance.foreign = Set((ProcessControl.variable(foreignVariable) ?? "").split(separator: "\n").map(String.init))
    } else if ProcessControl.variable("LISTEN_PID").flatMap({ Int32($0) }) == ProcessControl.identifier,
      let count = ProcessControl.variable("LISTEN_FDS").flatMap({ Int32($0) }), (0...limit).contains(count)
    {
      inheritance.add(count) { _ in nil }
    }
    for name in [countVariable, namesVariable, foreignVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { ProcessControl.removeVariable(name) }
    return inheritance
  }

  private mutating func add(_ count: Int32, name: (Int) -> String?) {
    for number in 0..<count { sockets.append(Socket(descriptor: Self.firstDescriptor + number, name: name(Int(number)))) }
  }

  /// The variables for a process that inherits sockets with these names.
  ///
  /// - Parameter foreign: those of them whose files belong to somebody else.
  static func variables(names: [String], foreign: [String]) -> [(name: String, value: String)] {
    [
      (countVariable, String(names.count)), (namesVariable, names.joined(separator: "\n")), (foreignVariable, foreign.joined(separator: "\n")),
    ]
  }

  /// The inherited sockets of an address.
  func sockets(for listener: Settings.Listener) -> [Int32] {
    sockets.filter { socket in
      if let name = socket.name { return name == listener.words }
      guard let place = Listener.place(of: socket.descriptor) else { return false }
      switch listener.endpoint {
      case .unix(let path): return place.unixPath == path
      case .address(let text, let port): return ListeningSockets.address(text, port: port) == place.address
      }
    }.map(\.descriptor)
  }

  /// Closes what no address of the settings claims, and says how many those were.
  func closeOthers(_ settings: Settings) -> Int {
    let claimed = Set(settings.listeners.flatMap { sockets(for: $0) })
    let others = sockets.filter { !claimed.contains($0.descriptor) }
    for socket in others { Syscalls.close(socket.descriptor) }
    return others.count
  }
}
