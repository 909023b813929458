import Bytes
import Crypto
import Encoding

/// What a challenge's `opaque` says it was issued for: route, HTTP method, canonical path and query, price version
/// (PREPAID.md, "The challenge").
///
/// The object is flat and its values are strings; its members stand in JCS order:
/// `method`, `n`, `price`, `route`, and `target` or, where that is long, `targetHash`.
public struct RouteBinding: Sendable, Hashable {
  /// The most octets of path and query that stand in clear; beyond it their SHA-256 does, in b64u.
  public static let targetLimit = 256

  public let route: String
  public let method: String
  public let priceVersion: String
  /// Path, and `?` with the query where there is one; or the b64u SHA-256 of it.
  private let target: String
  private let isHash: Bool

  /// Reads the binding from an authentic credential's `opaque`.
  ///
  /// - Throws: `malformed(.opaque)` where a member is missing, which no challenge of this proxy can cause.
  public init(_ opaque: JSONObject) throws(PaymentError) {
    guard let route = opaque["route"]?.stringValue, let method = opaque["method"]?.stringValue,
      let price = opaque["price"]?.stringValue
    else { throw .malformed(.opaque) }
    self.route = route
    self.method = method
    priceVersion = price
    if let target = opaque["target"]?.stringValue {
      self.target = target
      isHash = false
    } else if let hash = opaque["targetHash"]?.stringValue {
      target = hash
      isHash = true
    } else {
      throw .malformed(.opaque)
    }
  }

  /// Tells whether the binding names this method, path and query, octet for octet.
  public func names(method: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?) -> Bool {
    guard self.method.utf8.elementsEqual(method) else { return false }
    if isHash { return target == RouteBinding.hash(path: path, query: query) }
    let count = path.count + (query.map { $0.count + 1 } ?? 0)
    guard target.utf8.count == count, target.utf8.starts(with: path) else { return false }
    guard let query else { return true }
    let rest = target.utf8.dropFirst(path.count)
    return rest.first == 0x3F && rest.dropFirst().elementsEqual(query)
  }

  static func hash(path: UnsafeRawBufferPointer, query: UnsafeRawBufferPointer?) -> String {
    var octets = Array(path)
    if let query {
      octets.append(0x3F)
      octets.append(contentsOf: query)
    }
    return Base64URL.encode(SHA256.hash(octets))
  }
}
