import Glibc

/// Writes to the standard streams without buffering, so that octets stand in the order in which things happened.
enum StandardError {
  static var isTerminal: Bool { isatty(STDERR_FILENO) == 1 }

  static func write(_ text: String) { _ = Descriptor.write(Array(text.utf8), to: STDERR_FILENO) }
}

enum StandardOutput {
  /// Writes a line for a person, without what could steer a terminal: much of it is a server's words.
  static func tell(_ text: String) throws(PayFailure) { try print(PayText.printable(text)) }

  /// Writes text and a line end.
  static func print(_ text: String) throws(PayFailure) {
    guard Descriptor.write(Array((text + "\n").utf8), to: STDOUT_FILENO) else {
      throw PayFailure(.unwritable, "cannot write to standard output")
    }
  }
}

enum Descriptor {
  /// Writes all octets; false where the other side takes no more.
  static func write(_ octets: [UInt8], to descriptor: Int32) -> Bool {
    octets.withUnsafeBytes { buffer in
      var start = 0
      while start < buffer.count {
        // Safe because: the rest of the array's own storage is passed with its own count.
        let count = Glibc.write(descriptor, buffer.baseAddress.map { $0 + start }, buffer.count - start)
        if count < 0 {
          if errno == EINTR { continue }
          return false
        }
        start += count
      }
      return true
    }
  }
}

/// Takes the octets of the answer: standard output, or a file that is made when the first of them arrives.
final class PaySink {
  private let path: String?
  private var descriptor: Int32 = -1

  init(path: String?) { self.path = path == "-" ? nil : path }

  deinit { if path != nil, descriptor >= 0 { _ = close(descriptor) } }

  /// Whether the octets go to a terminal, where a progress bar would tear them apart.
  var isTerminal: Bool { path == nil && isatty(STDOUT_FILENO) == 1 }

  /// Makes the file, though nothing may come to stand in it.
  func open() throws(PayFailure) {
    guard descriptor < 0 else { return }
    guard let path else {
      descriptor = STDOUT_FILENO
      return
    }
    descriptor = Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else {
      throw PayFailure(.unwritable, "cannot write \(path): \(String(cString: strerror(errno)))")
    }
  }

  func write(_ octets: [UInt8]) throws(PayFailure) {
    try open()
    guard Descriptor.write(octets, to: descriptor) else {
      throw PayFailure(.unwritable, "cannot write \(path ?? "to standard output")")
    }
  }
}
