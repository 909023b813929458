internal import CLinux
internal import Glibc

/// Starts other programs, and tells what this process is.
public enum ProcessControl {
  /// This process.
  public static var identifier: Int32 { getpid() }

  /// The variables of this process, name and value.
  public static var variables: [(name: String, value: String)] {
    var all: [(String, String)] = []
    var index: Int32 = 0
    while let text = clinux_environment(index) {
      let pair = String(cString: text)
      if let sign = pair.firstIndex(of: "=") { all.append((String(pair[..<sign]), String(pair[pair.index(after: sign)...]))) }
      index += 1
    }
    return all
  }

  /// The value of a variable.
  public static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  /// Takes a variable out, so that no child inherits it. Before other threads are started.
  public static func removeVariable(_ name: String) { unsetenv(name) }

  /// The file that this program was started from: by the name that it was started by, where that leads to it, since a link that is
  /// turned to a new release must be followed anew; else as the system has it.
  ///
  /// - Parameter name: the program's first argument, looked for as a shell does.
  public static func executable(startedAs name: String) -> String? {
    var own = stat()
    guard stat("/proc/self/exe", &own) == 0 else { return nil }
    let folders = name.contains("/") ? [] : (variable("PATH") ?? "").split(separator: ":").filter { $0.hasPrefix("/") }
    let folder = folders.isEmpty && name.contains("/") && !name.hasPrefix("/") ? workingFolder.map { $0 + "/" } ?? "" : ""
    for candidate in folders.map({ "\($0)/\(name)" }) + (name.contains("/") ? [folder + name] : []) where candidate.hasPrefix("/") {
      var found = stat()
      if stat(candidate, &found) == 0, found.st_dev == own.st_dev, found.st_ino == own.st_ino { return candidate }
    }
    return link("/proc/self/exe")
  }

  private static var workingFolder: String? { link("/proc/self/cwd") }

  private static func link(_ path: String) -> String? {
    var target = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
    let count = readlink(path, &target, Int(PATH_MAX))
    guard count > 0 else { return nil }
    return String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Starts a program with `descriptors` as its 3, 4 and so on; returns its process.
  public static func spawn(
    _ path: String, arguments: [String], variables: [(name: String, value: String)], descriptors: [Int32]
  ) throws(IOError) -> Int32 {
    // Safe because: the copies live until the call has returned, and are freed once.
    var argv = arguments.map { strdup($0) } + [nil]
    var envp = variables.map { strdup("\($0.name)=\($0.value)") } + [nil]
    defer { for text in argv + envp { free(text) } }
    let result = clinux_spawn(path, &argv, &envp, descriptors, Int32(descriptors.count))
    guard result > 0 else { throw .cannotOpen(code: -result) }
    return result
  }

  /// The exit status of a child that has ended (128 and the signal's number where it was killed); nil while it runs.
  public static func exitStatus(of child: Int32) -> Int32? {
    var status: Int32 = 0
    return clinux_wait_child(child, &status) > 0 ? status : nil
  }

  /// Ends a child at once.
  public static func kill(_ child: Int32) { _ = Glibc.kill(child, SIGKILL) }

  /// Asks a child to end.
  public static func terminate(_ child: Int32) { _ = Glibc.kill(child, SIGTERM) }
}
