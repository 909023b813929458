import Encoding

/// Names the request that a payment buys: `{"method","url","digest"?}` (PREPAID.md, "The challenge").
public struct Resource: Sendable, Hashable {
  /// The HTTP method in its registered spelling.
  public let method: String
  /// The absolute URL, path and query in their canonical form.
  public let url: String
  /// The content digest of the body (RFC 9530) where the route binds it.
  public let digest: String?

  public init(method: String, url: String, digest: String? = nil) {
    self.method = method
    self.url = url
    self.digest = digest
  }

  /// Reads the object; members that are unknown are passed over.
  public init(_ value: JSONValue?) throws(PaymentError) {
    guard let object = value?.objectValue else { throw .malformed(.resource) }
    method = try object.string(.method)
    url = try object.string(.url)
    digest = try object.optionalString(.digest)
  }

  public var json: JSONObject {
    var object: JSONObject = ["method": .string(method), "url": .string(url)]
    if let digest { object.set("digest", .string(digest)) }
    return object
  }
}
