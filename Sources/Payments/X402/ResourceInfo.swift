import Bytes
import Encoding

/// Describes what is bought: `resource` of x402 v2 (section 5.1.2, and "Service Metadata" of the bazaar extension).
public struct ResourceInfo: Sendable, Hashable {
  /// The most tags that facilitators take up.
  public static let tagLimit = 5

  /// The absolute URL; empty in a template whose URL each request fills in.
  public var url: String
  public var description: String?
  /// The media type of what is served.
  public var mimeType: String?
  /// The service's name: printable ASCII, at most 32 octets.
  public var serviceName: String?
  /// At most five, each printable ASCII of at most 32 octets.
  public var tags: [String]
  /// An absolute URL of an icon, at most 2,048 octets.
  public var iconURL: String?

  public init(
    url: String = "", description: String? = nil, mimeType: String? = nil, serviceName: String? = nil, tags: [String] = [],
    iconURL: String? = nil
  ) {
    self.url = url
    self.description = description
    self.mimeType = mimeType
    self.serviceName = serviceName
    self.tags = tags
    self.iconURL = iconURL
  }

  /// Reads the object; members that are unknown are passed over.
  init(_ members: X402Members) throws(X402Error) {
    url = try members.string(.url)
    description = try members.optionalString(.description)
    mimeType = try members.optionalString(.mimeType)
    serviceName = try members.optionalString(.serviceName)
    iconURL = try members.optionalString(.iconUrl)
    tags = []
    if members[.tags] != nil {
      for tag in try members.array(.tags, limit: 64) {
        guard let text = tag.stringValue else { throw .malformed(.tags) }
        tags.append(text)
      }
    }
  }

  /// Appends `"name":value` for all members but the URL, each with a comma behind it.
  func appendDecoration(isFull: Bool, to out: inout ByteBuffer) {
    func append(_ name: StaticString, _ value: String?, to out: inout ByteBuffer) {
      guard let value else { return }
      out.append(name)
      JCS.append(string: value, to: &out)
      out.append(byte: 0x2C)
    }
    append("\"description\":", description, to: &out)
    append("\"mimeType\":", mimeType, to: &out)
    guard isFull else { return }
    append("\"serviceName\":", serviceName, to: &out)
    append("\"iconUrl\":", iconURL, to: &out)
    guard !tags.isEmpty else { return }
    out.append("\"tags\":" as StaticString)
    JCS.append(.array(tags.prefix(Self.tagLimit).map { .string($0) }), to: &out)
    out.append(byte: 0x2C)
  }
}
