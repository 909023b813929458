import Bytes
import Encoding

/// An offer's constant octets, in the order in which the printer uses them.
struct PreparedOffer: Sendable {
  /// JCS of the request before and behind the resource.
  let requestPrefix: [UInt8]
  let requestSuffix: [UInt8]
  /// `realm|method|intent|`.
  let bindingPrefix: [UInt8]
  /// From the end of the id to the beginning of the request.
  let lineMiddle: [UInt8]
  /// From the end of the digest to the beginning of the opaque.
  let lineEnd: [UInt8]
  /// The invoice's offer before its id, between id and request's hash.
  let invoicePrefix: [UInt8]
  let invoiceMiddle: [UInt8]

  /// - Throws: `malformed`, `ambiguousBinding` or `controlCharacter` where a constant cannot be sent or bound.
  init(_ offer: Offer, realm: String, selectsAlternateField: Bool) throws(PaymentError) {
    guard MethodIdentifier.isMethod(offer.method) else { throw .malformed(.method) }
    guard MethodIdentifier.isIntent(offer.intent) else { throw .malformed(.intent) }
    guard !realm.isEmpty, QuotedString.isPrintable(realm) else { throw .controlCharacter(.realm) }
    guard !realm.utf8.contains(0x7C) else { throw .ambiguousBinding(.realm) }
    guard offer.description.map(QuotedString.isPrintable) ?? true else { throw .controlCharacter(.description) }
    (requestPrefix, requestSuffix) = try PreparedOffer.split(offer.request)
    bindingPrefix = Array("\(realm)|\(offer.method)|\(offer.intent)|".utf8)
    lineMiddle = PreparedOffer.octets { out in
      out.append("\", realm=" as StaticString)
      QuotedString.append(realm, to: &out)
      out.append(", method=\"\(offer.method)\", intent=\"\(offer.intent)\", request=\"")
    }
    lineEnd = PreparedOffer.octets { out in
      if let description = offer.description {
        out.append(", description=" as StaticString)
        QuotedString.append(description, to: &out)
      }
      if selectsAlternateField { out.append(", header=\"\(Challenge.alternateField)\"") }
      out.append(", opaque=\"" as StaticString)
    }
    invoicePrefix = PreparedOffer.octets { out in
      out.append("{\"amount\":\"\(offer.amount)\",\"currency\":")
      JCS.append(string: offer.currency, to: &out)
      out.append(",\"id\":\"" as StaticString)
    }
    invoiceMiddle = PreparedOffer.octets { out in
      out.append("\",\"intent\":\"\(offer.intent)\",\"method\":\"\(offer.method)\"")
      if let recipient = offer.recipient {
        out.append(",\"recipient\":" as StaticString)
        JCS.append(string: recipient, to: &out)
      }
      out.append(",\"request\":\"" as StaticString)
    }
  }

  /// Serialises the request with a mark in the resource's place, and cuts it there.
  private static func split(_ request: JSONObject) throws(PaymentError) -> ([UInt8], [UInt8]) {
    var request = request
    guard var details = request["methodDetails"]?.objectValue else { throw .malformed(.request) }
    // A control character that stands nowhere else in the request: its escape is found once.
    let plain = JCS.serialize(request)
    guard let code = (1...7).first(where: { find(escape($0), in: plain) == nil }) else { throw .controlCharacter(.request) }
    details.set("resource", .string(String(UnicodeScalar(UInt8(code)))))
    request.set("methodDetails", .object(details))
    let marked = JCS.serialize(request)
    let mark = escape(code)
    guard let start = find(mark, in: marked) else { throw .malformed(.request) }
    return (Array(marked[..<start]), Array(marked[(start + mark.count)...]))
  }

  private static func escape(_ code: Int) -> [UInt8] { Array("\"\\u000\(code)\"".utf8) }

  private static func find(_ needle: [UInt8], in octets: [UInt8]) -> Int? {
    guard octets.count >= needle.count else { return nil }
    return (0...(octets.count - needle.count)).first { octets[$0..<($0 + needle.count)].elementsEqual(needle) }
  }

  private static func octets(_ write: (inout ByteBuffer) -> Void) -> [UInt8] {
    var out = ByteBuffer()
    write(&out)
    return out.array()
  }
}
