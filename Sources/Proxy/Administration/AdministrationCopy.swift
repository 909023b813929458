import Bytes
import Encoding
import Ledger

/// How far a copy of the ledger's database is, as the operators' socket says it.
extension LedgerCopyState {
  /// The state as a command's answer.
  var json: JSONObject {
    switch self {
    case .none: return ["state": "none"]
    case .copying(let done, let total): return ["state": "copying", "done": .integer(done), "total": .integer(total)]
    case .complete(let point):
      return [
        "state": "complete", "entry": .string(String(point.entry)), "time": .string(String(point.time.microseconds)),
        "lines": .string(String(point.lineCount)), "last": .string(point.lastLine.hex),
      ]
    case .failed(.backup(.unwritable(let path, let code))):
      return ["state": "failed", "fault": "unwritable", "path": .string(path), "code": .integer(code)]
    case .failed(.backup(.copy(let code))): return ["state": "failed", "fault": "copy", "code": .integer(code)]
    case .failed(.backup(.slow(let path))): return ["state": "failed", "fault": "slow", "path": .string(path)]
    case .failed(.backup(.full)): return ["state": "failed", "fault": "full"]
    case .failed(.backup(.auditBehind)): return ["state": "failed", "fault": "audit-behind"]
    case .failed: return ["state": "failed", "fault": "abandoned"]
    }
  }

  /// Reads an answer; nil where it is none.
  public init?(_ json: JSONValue) {
    switch json["state"]?.stringValue {
    case "none": self = .none
    case "copying":
      guard let done = json["done"]?.intValue, let total = json["total"]?.intValue else { return nil }
      self = .copying(done: done, total: total)
    case "complete":
      guard let entry = json["entry"]?.stringValue.flatMap({ UInt64($0) }), let time = json["time"]?.stringValue.flatMap({ Int64($0) }),
        let lines = json["lines"]?.stringValue.flatMap({ UInt64($0) }), let last = json["last"]?.stringValue.flatMap({ Digest32(hex: $0) })
      else { return nil }
      self = .complete(LedgerCopyPoint(entry: entry, time: Timestamp(microseconds: time), lineCount: lines, lastLine: last))
    case "failed":
      let code = Int32(clamping: json["code"]?.intValue ?? 0)
      switch json["fault"]?.stringValue {
      case "unwritable": self = .failed(.backup(.unwritable(json["path"]?.stringValue ?? "", code: code)))
      case "copy": self = .failed(.backup(.copy(code: code)))
      case "slow": self = .failed(.backup(.slow(json["path"]?.stringValue ?? "")))
      case "full": self = .failed(.backup(.full))
      case "audit-behind": self = .failed(.backup(.auditBehind))
      default: self = .failed(.backup(.abandoned))
      }
    default: return nil
    }
  }
}
