import Foundation
import Glibc

/// Reads the audit log's lines from its end backwards, through the files that rotation has renamed, without reading what nobody asked for.
struct AuditLines: Sequence, IteratorProtocol {
  private static let chunkSize = 65_536

  private var files: [String]
  private var handle: FileHandle?
  /// Where the part of the file begins that has been read.
  private var offset: UInt64 = 0
  /// What has been read and not given out.
  private var rest: [UInt8] = []

  /// Begins at the end of the log at `path`.
  init(path: String) {
    files = Self.renamed(beside: path) + [path]
  }

  /// The renamed files of a log, oldest first: `<path>.<sequence of the first line, 20 digits>`.
  static func renamed(beside path: String) -> [String] {
    let url = URL(filePath: path)
    let prefix = url.lastPathComponent + "."
    let names = (try? FileManager.default.contentsOfDirectory(atPath: url.deletingLastPathComponent().path)) ?? []
    return names.filter { $0.hasPrefix(prefix) && $0.utf8.count == prefix.utf8.count + 20 && $0.dropFirst(prefix.count).allSatisfy(\.isNumber) }
      .sorted().map { url.deletingLastPathComponent().appending(path: $0).path }
  }

  /// The line before the one that was given last.
  mutating func next() -> String? {
    while true {
      // A line is whole when the line end before it is known, or the file's beginning.
      if let end = rest.dropLast().lastIndex(of: 0x0A) {
        let line = rest[(end + 1)...]
        rest.removeSubrange((end + 1)...)
        return String(decoding: line.dropLast(), as: UTF8.self)
      }
      if offset > 0 {
        readBefore()
      } else if !rest.isEmpty {
        defer { rest = [] }
        if rest.last == 0x0A { return String(decoding: rest.dropLast(), as: UTF8.self) }
      } else if !openNext() {
        return nil
      }
    }
  }

  private mutating func readBefore() {
    let count = Swift.min(UInt64(Self.chunkSize), offset)
    offset -= count
    guard let handle, (try? handle.seek(toOffset: offset)) != nil, let data = try? handle.read(upToCount: Int(count)) else {
      offset = 0
      return
    }
    rest = [UInt8](data) + rest
  }

  private mutating func openNext() -> Bool {
    while let path = files.popLast() {
      guard let opened = FileHandle(forReadingAtPath: path), let size = try? opened.seekToEnd() else { continue }
      handle = opened
      offset = size
      readBefore()
      // A write that is under way, or was cut off, has no line end yet.
      while !rest.isEmpty, rest.last != 0x0A, offset > 0 || rest.contains(0x0A) {
        if let end = rest.lastIndex(of: 0x0A) { rest.removeSubrange((end + 1)...) } else { readBefore() }
      }
      return true
    }
    return false
  }
}

/// Follows the log as it grows, from one file into the next when it is rotated.
final class AuditFollower {
  private let path: String
  private var descriptor: Int32 = -1
  private var identity: (device: UInt64, inode: UInt64)?
  private var partial: [UInt8] = []

  private static let pause: UInt32 = 100_000

  /// Begins behind what the file holds now.
  init(path: String) {
    self.path = path
    reopen()
    if descriptor >= 0 { lseek(descriptor, 0, SEEK_END) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Whether `run` goes on. Nothing ends it but the end of the process; a call that could never return crashed Swift 6.3's optimiser.
  private var isFollowing = true

  /// Gives each new line to `body`, until the process ends.
  @inline(never)
  func run(_ body: (String) -> Void) {
    while isFollowing {
      drain(body)
      if Self.identity(path) ?? (0, 0) != identity ?? (0, 0) {
        // What came between the last look and the rename is still in the old file.
        drain(body)
        reopen()
      } else {
        usleep(Self.pause)
      }
    }
  }

  private func drain(_ body: (String) -> Void) {
    guard descriptor >= 0 else { return }
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(descriptor, &chunk, chunk.count)
      guard count > 0 else { return }
      partial += chunk[..<count]
      while let end = partial.firstIndex(of: 0x0A) {
        body(String(decoding: partial[..<end], as: UTF8.self))
        partial.removeSubrange(...end)
      }
    }
  }

  private func reopen() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    identity = Self.identity(descriptor)
    partial = []
    if descriptor < 0 { usleep(Self.pause) }
  }

  /// What was opened, not what stands under the path by now.
  private static func identity(_ descriptor: Int32) -> (device: UInt64, inode: UInt64)? {
    var status = stat()
    return descriptor >= 0 && fstat(descriptor, &status) == 0 ? (UInt64(status.st_dev), UInt64(status.st_ino)) : nil
  }

  private static func identity(_ path: String) -> (device: UInt64, inode: UInt64)? {
    var status = stat()
    return stat(path, &status) == 0 ? (UInt64(status.st_dev), UInt64(status.st_ino)) : nil
  }
}
