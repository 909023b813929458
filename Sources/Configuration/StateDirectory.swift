/// Decides where the proxy keeps what it writes: ledger, keys, audit log, socket.
struct StateDirectory {
  let path: String

  /// Takes the first of: the command line, `FAREBOX_STATE`, the configuration's `state`, systemd's `STATE_DIRECTORY`,
  /// `XDG_STATE_HOME/farebox`, `HOME/.local/state/farebox`, `/var/lib/farebox`.
  ///
  /// A relative path from the configuration counts from the configuration's own folder, every other from the working directory.
  init(option: String?, configured: String?, environment: [String: String], workingDirectory: String, configurationDirectory: String) {
    func value(_ name: String) -> String? {
      guard let value = environment[name], !value.isEmpty else { return nil }
      return value
    }
    if let option = option ?? value("FAREBOX_STATE") {
      path = Self.absolute(option, from: workingDirectory)
    } else if let configured {
      path = Self.absolute(configured, from: configurationDirectory)
    } else if let systemd = value("STATE_DIRECTORY")?.split(separator: ":").first {
      path = Self.absolute(String(systemd), from: workingDirectory)
    } else if let home = value("XDG_STATE_HOME"), home.hasPrefix("/") {
      path = home + "/farebox"
    } else if let home = value("HOME"), home.hasPrefix("/") {
      path = Self.absolute(".local/state/farebox", from: home)
    } else {
      path = "/var/lib/farebox"
    }
  }

  /// Makes a path absolute, without touching the disk.
  static func absolute(_ path: String, from directory: String) -> String {
    var joined = path.hasPrefix("/") ? path : directory + "/" + path
    while joined.count > 1, joined.hasSuffix("/") { joined.removeLast() }
    var parts: [Substring] = []
    for part in joined.split(separator: "/") where part != "." { parts.append(part) }
    return "/" + parts.joined(separator: "/")
  }

  /// Makes a path of the configuration absolute.
  func resolve(_ path: String) -> String {
    Self.absolute(path, from: self.path)
  }
}
