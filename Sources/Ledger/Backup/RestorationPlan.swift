import Encoding
import Glibc

/// What a restoration renames, in its order. It stands in `ledger.restore` from before the first step until after the last.
struct RestorationPlan {
  typealias Move = (from: String, to: String)

  /// Present files, out of the way; then prepared ones, into their places.
  var aside: [Move] = []
  var install: [Move] = []

  private static let format = "farebox-restore"
  private static func path(in folder: String) -> String { "\(folder)/ledger.restore" }

  /// Puts the plan on the disk: from then on it is carried out.
  func write(in folder: String) throws(LedgerError) {
    func array(_ moves: [Move]) -> JSONValue { .array(moves.map { ["from": .string($0.from), "to": .string($0.to)] }) }
    let object: JSONObject = ["format": .string(Self.format), "aside": array(aside), "install": array(install)]
    try BackupFile.write(JSON.serialize(.object(object), pretty: true), to: Self.path(in: folder))
  }

  /// Whether a plan waits to be carried out.
  static func waits(in folder: String) -> Bool { BackupFile.exists(path(in: folder)) }

  /// Carries out what is left of a plan; false where there is none. Any number of attempts comes to the same.
  static func finish(in folder: String) throws(LedgerError) -> Bool {
    let path = path(in: folder)
    guard waits(in: folder) else { return false }
    guard let object = (try? JSON.parse(BackupFile.read(path, limit: BackupManifest.octetLimit)))?.objectValue, object["format"]?.stringValue == format,
      let aside = moves(object["aside"]), let install = moves(object["install"])
    else { throw .backup(.torn(path)) }
    // Where a file stands aside already, the one in its place is the new one.
    for move in aside where !BackupFile.exists(move.to) && BackupFile.exists(move.from) { try rename(move) }
    for move in aside { try synchronise(move) }
    for move in install {
      if BackupFile.exists(move.from) {
        guard !BackupFile.exists(move.to) else { throw .backup(.torn(move.to)) }
        try rename(move)
      } else if !BackupFile.exists(move.to) {
        throw .backup(.torn(move.to))
      }
    }
    for move in install { try synchronise(move) }
    guard unlink(path) == 0 else { throw BackupFile.unwritable(path) }
    try synchroniseFolder(of: path)
    return true
  }

  private static func moves(_ value: JSONValue?) -> [Move]? {
    var moves: [Move] = []
    for move in value?.arrayValue ?? [] {
      guard let from = move["from"]?.stringValue, let to = move["to"]?.stringValue else { return nil }
      moves.append((from, to))
    }
    return value?.arrayValue == nil ? nil : moves
  }

  private static func rename(_ move: Move) throws(LedgerError) {
    guard Glibc.rename(move.from, move.to) == 0 else { throw BackupFile.unwritable(move.to) }
  }

  /// A folder that is gone has nothing left to be kept: what was prepared in it stands in its place already.
  private static func synchronise(_ move: Move) throws(LedgerError) {
    let folder = move.from.lastIndex(of: "/").map { String(move.from[..<$0]) } ?? ""
    if folder.isEmpty || BackupFile.exists(folder) { try synchroniseFolder(of: move.from) }
    try synchroniseFolder(of: move.to)
  }
}
