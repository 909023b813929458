import Bytes
import Encoding

/// The `Date` field line, written anew once a second (RFC 9110 section 6.6.1). Each loop has its own.
public struct HTTPDate: ~Copyable {
  private var second: Int64 = -1
  private var line = ByteBuffer()

  /// Makes an empty line.
  public init() {}

  /// Brings the line up to date.
  public mutating func update(_ now: Timestamp) {
    let second = now.seconds
    guard second != self.second else { return }
    self.second = second
    line.removeAll()
    line.append("Date: ")
    now.append(imfFixdate: &line)
    line.append("\r\n")
  }

  /// Gives the line `Date: Sun, 06 Nov 1994 08:49:37 GMT` and CRLF; empty before the first update.
  public borrowing func withUnsafeBytes<R, E: Error>(
    _ body: (UnsafeRawBufferPointer) throws(E) -> R
  ) throws(E) -> R {
    try line.withUnsafeBytes(body)
  }
}
