import Glibc

/// Tells whether a file is still the one that was read: another one in its place, or other content, has another stamp.
struct FileStamp: Hashable, Sendable {
  private var device: UInt64 = 0
  private var inode: UInt64 = 0
  private var size: Int64 = 0
  private var seconds: Int64 = 0
  private var nanoseconds: Int64 = 0
  private var changeSeconds: Int64 = 0
  private var changeNanoseconds: Int64 = 0

  /// Looks at the file that a path leads to, links followed; a file that is not there has a stamp too.
  init(_ path: String) {
    var found = stat()
    guard stat(path, &found) == 0 else { return }
    device = UInt64(found.st_dev)
    inode = UInt64(found.st_ino)
    size = Int64(found.st_size)
    (seconds, nanoseconds) = (Int64(found.st_mtim.tv_sec), Int64(found.st_mtim.tv_nsec))
    (changeSeconds, changeNanoseconds) = (Int64(found.st_ctim.tv_sec), Int64(found.st_ctim.tv_nsec))
  }
}
