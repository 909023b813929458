import Bytes
import Glibc

/// The audit log's file: lines are appended whole and in order; repaired when it is opened, renamed when it is full.
///
/// The file beside it that was renamed last is `<path>.<sequence of its first line, 20 digits>`, so names sort in the log's order.
struct AuditFile: ~Copyable {
  let path: String
  /// The sequence of the line that comes next.
  private(set) var next: UInt64 = 1
  /// The sequence after the last line that is known to be on the disk; the rows of the lines from here on have to be kept.
  private(set) var synchronised: UInt64 = 1
  /// The octets of those lines in this file.
  private var synchronisedCount: UInt64 = 0
  /// The sequence of the file's first line; nil while it is empty.
  private var first: UInt64?
  private var descriptor: Int32 = -1
  private(set) var octetCount: UInt64 = 0

  /// Up to where the kernel was told to write the file out.
  private var handedOver: UInt64 = 0

  /// Octets that are handed over to the kernel's writing together.
  static let handOverOctets: UInt64 = 256 << 10
  /// How far back what was handed over is looked at again.
  static let cachedOctets: UInt64 = 2 << 20
  /// The longest line that is looked for at the end of a file.
  static let lineLimit = 1 << 20

  /// Opens the file and drops a partial last line. `next` is then the sequence after its last line, or after the newest renamed file's.
  init(path: String) throws(LedgerError) {
    self.path = path
    try reopen()
  }

  deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

  /// Opens the file at the path anew, whatever became of the old one.
  mutating func reopen() throws(LedgerError) {
    if descriptor >= 0 { Glibc.close(descriptor) }
    descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw .file(.audit, code: errno) }
    try repair()
  }

  private mutating func repair() throws(LedgerError) {
    let size = lseek(descriptor, 0, SEEK_END)
    guard size >= 0 else { throw .file(.audit, code: errno) }
    octetCount = UInt64(size)
    handedOver = octetCount
    first = nil
    if octetCount > 0 {
      let tail = try read(from: octetCount - min(octetCount, UInt64(Self.lineLimit)), count: Self.lineLimit)
      let end = tail.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      if end < tail.count { try cut(to: octetCount - UInt64(tail.count - end)) }
      if end > 0 {
        let start = tail[..<(end - 1)].lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
        if let sequence = Self.sequence(of: tail[start..<(end - 1)]) { next = sequence + 1 }
        let head = try read(from: 0, count: Self.lineLimit)
        first = Self.sequence(of: head.prefix { $0 != 0x0A })
      }
    }
    if octetCount == 0, let newest = AuditFiles.renamed(beside: path).last { next = try Self.nextSequence(after: newest) }
    // What an earlier process wrote may never have reached the disk.
    guard fdatasync(descriptor) == 0 else { throw .file(.audit, code: errno) }
    try synchroniseFolder(of: path)
    synchronised = next
    synchronisedCount = octetCount
  }

  /// The sequence after the last line of a renamed file.
  private static func nextSequence(after path: String) throws(LedgerError) -> UInt64 {
    guard let map = FileMap(path: path) else { throw .file(.audit, code: errno) }
    return map.withOctets { octets in
      let end = octets.last == 0x0A ? octets.count - 1 : octets.count
      let start = octets[..<end].lastIndex(of: 0x0A).map { $0 + 1 } ?? 0
      return (sequence(of: Array(octets[start..<end])[...]) ?? 0) + 1
    }
  }

  private static func sequence(of line: ArraySlice<UInt8>) -> UInt64? {
    line.withUnsafeBytes { AuditLine(scanning: $0)?.sequence }
  }

  private func read(from offset: UInt64, count: Int) throws(LedgerError) -> [UInt8] {
    var octets = [UInt8](repeating: 0, count: count)
    let got = pread(descriptor, &octets, count, off_t(offset))
    guard got >= 0 else { throw .file(.audit, code: errno) }
    octets.removeLast(count - got)
    return octets
  }

  private mutating func cut(to size: UInt64) throws(LedgerError) {
    guard ftruncate(descriptor, off_t(size)) == 0 else { throw .file(.audit, code: errno) }
    octetCount = size
    handedOver = min(handedOver, size)
  }

  /// Appends whole lines that begin with sequence `line`; those that the file holds already are skipped.
  mutating func append(_ lines: UnsafeRawBufferPointer, first line: UInt64, count: UInt64) throws(LedgerError) {
    try reopenIfClosed()
    guard line + count > next else { return }
    var rest = lines
    var sequence = line
    while sequence < next, let end = rest.firstIndex(of: 0x0A) {
      rest = UnsafeRawBufferPointer(rebasing: rest[(end + 1)...])
      sequence += 1
    }
    let before = octetCount
    while !rest.isEmpty {
      let written = write(descriptor, rest.baseAddress, rest.count)
      if written < 0 {
        if errno == EINTR { continue }
        let code = errno
        // Half a line must not stay: what is tried again starts at a line's beginning.
        try cut(to: before)
        throw code == ENOSPC ? .full : .file(.audit, code: code)
      }
      octetCount += UInt64(written)
      rest = UnsafeRawBufferPointer(rebasing: rest[written...])
    }
    if first == nil { first = sequence }
    next = line + count
    handOver()
  }

  /// Has the kernel write out what was appended, and takes from its cache what has reached the disk, but for the newest lines.
  ///
  /// The log is not read again by this program, and grows for ever: memory that the kernel finds anew for each page costs ten times
  /// the copying where a hypervisor has to provide it.
  private mutating func handOver() {
    guard octetCount >= handedOver + Self.handOverOctets else { return }
    let start = handedOver - min(handedOver, Self.cachedOctets)
    // The range that is still dirty is only sent on its way; a later call finds it clean, and drops it.
    _ = posix_fadvise(descriptor, off_t(start), off_t(octetCount - start), POSIX_FADV_DONTNEED)
    handedOver = octetCount
  }

  /// Waits until the lines are on the disk.
  ///
  /// A failure says nothing about what was written since the last success, nor would a later success: those lines are cut off, to be
  /// appended again.
  mutating func synchronise() throws(LedgerError) {
    try reopenIfClosed()
    guard fdatasync(descriptor) == 0 else {
      let code = errno
      if next > synchronised, octetCount >= synchronisedCount {
        try cut(to: synchronisedCount)
        next = synchronised
        if octetCount == 0 { first = nil }
      }
      throw .file(.audit, code: code)
    }
    synchronised = next
    synchronisedCount = octetCount
  }

  /// Renames the file and begins a new one, that goes on with the chain.
  mutating func rotate() throws(LedgerError) {
    guard let first else { return }
    try synchronise()
    let next = next
    if hasMoved {
      // Somebody else renamed it; the rest is to begin a new file under the path.
      try reopen()
      goOn(at: next)
      return
    }
    let digits = String(first)
    let target = "\(path).\(String(repeating: "0", count: 20 - digits.count))\(digits)"
    guard rename(path, target) == 0 else { throw .file(.audit, code: errno) }
    try reopen()
    goOn(at: next)
  }

  /// Begins where lines before `sequence` are known to be on the disk: cuts the file at the first hole behind them, so that the rest is
  /// appended again, and goes on at `sequence` where they are kept elsewhere and no line is here.
  ///
  /// A power cut leaves of what was appended since the last sync whatever part it likes: zeros, and sound lines behind them.
  mutating func begin(at sequence: UInt64) throws(LedgerError) {
    if let hole = try firstHole(behind: sequence) {
      let start = hole - min(hole, UInt64(Self.lineLimit))
      let before = try read(from: start, count: Int(hole - start))
      try cut(to: start + UInt64(before.lastIndex(of: 0x0A).map { $0 + 1 } ?? 0))
      next = 1
      try repair()
    }
    if next == 1, octetCount == 0, sequence > 1 { goOn(at: sequence) }
  }

  /// Finds the first zero in what follows the lines before `sequence`, looking backwards from the file's end.
  private func firstHole(behind sequence: UInt64) throws(LedgerError) -> UInt64? {
    var hole: UInt64?
    var end = octetCount
    while end > 0 {
      let start = end - min(end, UInt64(Self.lineLimit))
      let octets = try read(from: start, count: Int(end - start))
      if let zero = octets.firstIndex(of: 0) { hole = start + UInt64(zero) }
      let line = octets.drop { $0 != 0x0A }.dropFirst().prefix { $0 != 0x0A }
      if let known = Self.sequence(of: line), known < sequence { break }
      end = start
    }
    return hole
  }

  /// Opens the file again where that failed before, for want of descriptors for example.
  private mutating func reopenIfClosed() throws(LedgerError) {
    guard descriptor < 0 else { return }
    let known = next
    try reopen()
    if octetCount == 0 { goOn(at: known) }
  }

  private mutating func goOn(at sequence: UInt64) {
    next = sequence
    synchronised = sequence
  }

  /// Whether the path no longer leads to the file that is open.
  private var hasMoved: Bool {
    var named = stat()
    var opened = stat()
    guard stat(path, &named) == 0, fstat(descriptor, &opened) == 0 else { return true }
    return named.st_ino != opened.st_ino || named.st_dev != opened.st_dev
  }
}

/// The files of one audit log.
enum AuditFiles {
  /// The renamed files beside the current one, oldest first.
  static func renamed(beside path: String) -> [String] {
    let slash = path.lastIndex(of: "/")
    let folder = slash.map { String(path[...$0]) } ?? "./"
    let prefix = (slash.map { String(path[path.index(after: $0)...]) } ?? path) + "."
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var names: [String] = []
    while let entry = readdir(stream) {
      // Safe because: d_name ends with a zero and is read before the next call to readdir.
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: $0.pointee)) { String(cString: $0) }
      }
      let digits = name.dropFirst(prefix.count).utf8
      if name.hasPrefix(prefix), digits.count == 20, digits.allSatisfy({ (0x30...0x39).contains($0) }) { names.append(folder + name) }
    }
    return names.sorted()
  }

  /// The sequence of a file's first line, as its name tells; nil for the current one.
  static func renamedSequence(_ path: String) -> UInt64? {
    let digits = path.suffix(20)
    return digits.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt64(digits) : nil
  }

  /// The sequence of a file's first line; nil where it has none.
  static func firstSequence(of path: String) -> UInt64? { renamedSequence(path) ?? FileMap(path: path).flatMap { firstSequence(in: $0) } }

  /// The same of a file that is mapped.
  static func firstSequence(of path: String, in map: FileMap) -> UInt64? { renamedSequence(path) ?? firstSequence(in: map) }

  private static func firstSequence(in map: FileMap) -> UInt64? {
    map.withOctets { octets in
      octets.firstIndex(of: 0x0A).flatMap { AuditLine(scanning: UnsafeRawBufferPointer(rebasing: octets[..<$0]))?.sequence }
    }
  }

  /// Every file of the log in order: renamed ones, then the current one.
  static func all(of path: String) -> [String] {
    renamed(beside: path) + (access(path, F_OK) == 0 ? [path] : [])
  }
}

/// A file mapped for reading.
final class FileMap: Sendable {
  // Safe because: the mapping is private and read-only, made once, and removed in deinit.
  private nonisolated(unsafe) let octets: UnsafeRawBufferPointer

  init?(path: String) {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { Glibc.close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_size >= 0 else { return nil }
    if status.st_size == 0 {
      octets = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, Int(status.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else { return nil }
    madvise(base, Int(status.st_size), MADV_SEQUENTIAL)
    octets = UnsafeRawBufferPointer(start: base, count: Int(status.st_size))
  }

  deinit {
    if let base = octets.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), octets.count) }
  }

  func withOctets<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { body(octets) }
}
