import Glibc

/// The folder that a backup is made in. It is held by a lock as long as that takes, so that another one cannot take it for what a crash left.
final class BackupPlace {
  private let path: String
  private let descriptor: Int32
  private var owner: (user: uid_t, group: gid_t)?

  /// Makes the folder, in place of one that a backup that was cut off has left.
  ///
  /// - Throws: `exists` where another backup is being made there, or something else stands there; `unwritable`.
  init(_ path: String) throws(LedgerError) {
    self.path = path
    if let former = BackupFile.open(folder: path) {
      defer { close(former) }
      guard flock(former, LOCK_EX | LOCK_NB) == 0 else { throw .backup(.exists(path)) }
      Self.remove(path)
    }
    guard mkdir(path, 0o700) == 0 else { throw errno == EEXIST ? .backup(.exists(path)) : BackupFile.unwritable(path) }
    guard let descriptor = BackupFile.open(folder: path) else { throw BackupFile.unwritable(path) }
    var status = stat()
    // Somebody who may write beside it may have put another one in its place.
    guard fstat(descriptor, &status) == 0, status.st_uid == geteuid(), flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw .backup(.exists(path))
    }
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Removes such a folder, as far as a backup may have filled it.
  static func remove(_ path: String) { BackupFile.remove(folder: path, where: BackupManifest.mayHold) }

  /// Gives the folder to another user.
  func give(to user: uid_t, _ group: gid_t) throws(LedgerError) {
    guard fchown(descriptor, user, group) == 0 else { throw BackupFile.unwritable(path) }
    owner = (user, group)
  }

  /// Gives the files in it to whom the folder was given: root makes them, and the proxy's user restores them.
  func giveFiles() throws(LedgerError) {
    guard let owner else { return }
    for name in BackupFile.names(in: path) ?? [] where BackupManifest.mayHold(name) {
      let file = openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
      guard file >= 0 else { throw BackupFile.unwritable("\(path)/\(name)") }
      defer { close(file) }
      var status = stat()
      // A file with a second name is somebody else's.
      guard fstat(file, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_nlink == 1 else { throw .backup(.altered(name)) }
      guard fchown(file, owner.user, owner.group) == 0 else { throw BackupFile.unwritable("\(path)/\(name)") }
    }
  }
}
