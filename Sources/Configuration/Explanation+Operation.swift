import Gateway

// How the process is run, for those who read what a configuration does; only what differs from the defaults.
extension Settings {
  /// One line each, as `farebox check` shows them.
  var operationTerms: [String] {
    var lines: [String] = []
    if let user = process.user { lines.append("user       \(user)" + (process.group.map { ", group \($0)" } ?? "")) }
    if let pidFile = process.pidFile { lines.append("pid file   \(pidFile)") }
    let words = "\(accessLog.format.rawValue)\(accessLog.keepsQuery ? ", with queries" : "")"
    switch accessLog.target {
    case .none: break
    case .standardOutput: lines.append("access log standard output, \(words)")
    case .file(let path): lines.append("access log \(path), \(words)")
    }
    let limits = [("address", rates.address), ("wallet", rates.wallet), ("session", rates.session)]
    let named = limits.compactMap { name, limit in limit.map { "\($0.words) per \(name)" } }
    if !named.isEmpty { lines.append("rates      " + named.joined(separator: ", ")) }
    if !cors.origins.isEmpty {
      lines.append("pages      of \(cors.origins.joined(separator: ", ")) may pay" + (cors.exposedFields.isEmpty ? "" : ", and read \(cors.exposedFields.joined(separator: ", "))"))
    }
    return lines
  }
}

extension RateLimit {
  /// The rate as the configuration would write it.
  fileprivate var words: String {
    let periods: [(name: String, nanoseconds: Int64)] = [("s", 1_000_000_000), ("min", 60_000_000_000), ("h", 3_600_000_000_000), ("d", 86_400_000_000_000)]
    let period = periods.first { interval <= $0.nanoseconds } ?? periods[periods.count - 1]
    return "\(period.nanoseconds / max(interval, 1))/\(period.name) burst \(burst)"
  }
}
