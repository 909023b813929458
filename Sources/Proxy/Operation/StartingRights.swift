import Configuration
import Glibc
import IO

/// What has to be done before a process that was started by root goes on as another user.
enum StartingRights {
  /// Looks at, or makes, what the proxy will write; then gives every other right up. Call it when the listeners are there and
  /// before any thread is started. Returns the PID file, not written yet.
  static func prepare(_ settings: Settings) throws(Service.Failure) -> PIDFile? {
    let pidFile = settings.process.pidFile.map { PIDFile(path: $0) }
    guard let user = settings.process.user else {
      do throws(IOError) { try pidFile?.prepare(nil) } catch { throw .pidFile(error) }
      return pidFile
    }
    let privileges: Privileges
    do { privileges = try Privileges(user: user, group: settings.process.group) } catch { throw .privileges(error) }
    guard privileges.isCurrent || Privileges.isRoot else { throw .notRoot }
    if !privileges.isCurrent {
      for folder in folders(settings) {
        guard makeFolder(folder, for: privileges) else { throw .folderNotOwned(path: folder) }
      }
      for listener in settings.listeners {
        if case .unix(let path) = listener.endpoint { privileges.own(path) }
      }
      if case .file(let path) = settings.accessLog.target, let opened = try? AccessLog.open(settings.accessLog) {
        opened.close()
        privileges.own(path)
      }
    }
    do throws(IOError) { try pidFile?.prepare(privileges) } catch { throw .pidFile(error) }
    do { try privileges.assume() } catch { throw .privileges(error) }
    return pidFile
  }

  /// The folders that ledger, keys, audit log and operators' socket are made in.
  private static func folders(_ settings: Settings) -> [String] {
    var folders: [String] = []
    for path in [settings.ledger.directory, settings.keys.directory, parent(settings.audit.path), parent(settings.admin.socketPath)]
    where !folders.contains(path) { folders.append(path) }
    // Those above first, so that what one makes for the user is not found missing by another.
    return folders.sorted { $0.utf8.count < $1.utf8.count }
  }

  private static func parent(_ path: String) -> String {
    let parent = path[..<(path.lastIndex(of: "/") ?? path.startIndex)]
    return parent.isEmpty ? "/" : String(parent)
  }

  /// Makes a folder and those above it that are missing, for the user; false where it is somebody else's.
  private static func makeFolder(_ path: String, for privileges: Privileges) -> Bool {
    if let owner = Privileges.owner(of: path) { return owner == privileges.user }
    guard path != "/", makeParent(parent(path)), mkdir(path, 0o700) == 0 else { return false }
    privileges.own(path)
    return true
  }

  /// Makes a folder that others may pass through, where it is missing; those that are made here stay root's.
  private static func makeParent(_ path: String) -> Bool {
    if Privileges.owner(of: path) != nil { return true }
    return path != "/" && makeParent(parent(path)) && mkdir(path, 0o711) == 0 && chmod(path, 0o711) == 0
  }
}

/// The file that holds the number of the process that serves.
struct PIDFile: Sendable {
  let path: String

  /// Makes the file, for the user that will write it.
  func prepare(_ privileges: Privileges?) throws(IOError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
    guard descriptor >= 0 else { throw .cannotOpen(code: errno) }
    close(descriptor)
    // The process's mask keeps what it makes to itself; this is for others to read.
    if privileges?.isCurrent != true { chmod(path, 0o644) }
    privileges?.own(path)
  }

  /// Writes this process into it.
  func write() throws(IOError) {
    let descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { throw .cannotOpen(code: errno) }
    defer { close(descriptor) }
    let text = Array("\(ProcessControl.identifier)\n".utf8)
    guard Glibc.write(descriptor, text, text.count) == text.count else { throw .cannotOpen(code: errno) }
  }

  /// Removes the file, or empties it where the folder is not ours; not where another process has taken our place.
  func remove() {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
    guard descriptor >= 0 else { return }
    var octets = [UInt8](repeating: 0, count: 32)
    let count = read(descriptor, &octets, octets.count)
    close(descriptor)
    guard count > 0, String(decoding: octets[..<count], as: UTF8.self) == "\(ProcessControl.identifier)\n" else { return }
    if unlink(path) != 0 { truncate(path, 0) }
  }
}
