internal import CLinux
internal import Glibc

/// The user and group that a process that was started by root goes on as.
public struct Privileges: Sendable, Hashable {
  /// The user's name.
  public let name: String
  /// Their numbers.
  public let user: UInt32
  public let group: UInt32

  /// Looks the names up; the user's own group where none is named.
  public init(user name: String, group groupName: String?) throws(IOError) {
    var user: UInt32 = 0
    var group: UInt32 = 0
    let found = clinux_user(name, &user, &group)
    guard found >= 0 else { throw .cannotResolve(code: -found) }
    if let groupName {
      let found = clinux_group(groupName, &group)
      guard found >= 0 else { throw .cannotResolve(code: -found) }
    }
    self.name = name
    self.user = user
    self.group = group
  }

  /// Whether this process is the user already.
  public var isCurrent: Bool { getuid() == user && geteuid() == user }

  /// Whether this process may become another user.
  public static var isRoot: Bool { geteuid() == 0 }

  /// Gives every other right up for good, and verifies it. Of all threads: call it before others are started.
  public func assume() throws(IOError) {
    let result = isCurrent ? clinux_no_new_privileges() : clinux_become(name, user, group)
    guard result >= 0 else { throw .cannotOpen(code: -result) }
  }

  /// Gives a file or folder to the user; nothing where it is not there.
  public func own(_ path: String) { _ = lchown(path, user, group) }

  /// Who a file or folder belongs to; nil where it is not there.
  public static func owner(of path: String) -> UInt32? {
    var status = stat()
    return lstat(path, &status) == 0 ? status.st_uid : nil
  }
}
