import Bytes
import Configuration
import Crypto
import Encoding

typealias AccessLineFormat = Settings.AccessLog.Format

extension Settings.AccessLog.Format {
  /// The wallet as operators know it.
  static func wallet(_ key: Digest32) -> String { DIDKey.encode(Ed25519.PublicKey(key)) }

  private static let months: [StaticString] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

  /// Appends `10/Oct/2026:13:55:36 +0000`.
  static func appendCommonDate(_ time: Timestamp, to line: inout ByteBuffer) {
    // RFC 3339 has the same numbers in another order: 2026-10-10T13:55:36Z.
    let text = Array(time.rfc3339.utf8)
    line.append(text[8..<10])
    line.append("/")
    let month = Int(text[5] - 0x30) * 10 + Int(text[6] - 0x30)
    line.append(months[max(1, min(12, month)) - 1])
    line.append("/")
    line.append(text[0..<4])
    line.append(":")
    line.append(text[11..<19])
    line.append(" +0000")
  }
}
