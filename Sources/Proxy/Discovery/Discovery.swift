import Configuration
import Crypto
import Encoding
import Payments

/// The documents by which clients find out what is sold and whose signatures to trust, as prebuilt octets:
/// `/openapi.json` (draft-payment-discovery-00), `/llms.txt` and `/.well-known/jwks.json`.
struct Discovery: Sendable {
  /// One document and how it is served.
  struct Document: Sendable {
    let path: String
    let contentType: String
    let body: [UInt8]

    /// Field lines, each with CRLF: type, caching, and leave for pages of every origin to read it.
    let fields: [UInt8]

    init(path: String, contentType: String, body: [UInt8]) {
      self.path = path
      self.contentType = contentType
      self.body = body
      let lines = "Content-Type: \(contentType)\r\nCache-Control: max-age=300\r\nAccess-Control-Allow-Origin: *\r\n"
      fields = Array(lines.utf8)
    }
  }

  let documents: [Document]

  /// Builds the documents.
  ///
  /// - Parameters:
  ///   - offers: by route index what its 402 offers; empty for a free route.
  ///   - keys: the keys of receipts and invoices, the current one first; retired ones stay for ever.
  init(settings: Settings, offers: [RouteOffers], keys: [Ed25519.PublicKey]) {
    let operations = DiscoveryOperation.list(settings: settings, offers: offers)
    documents = [
      Document(
        path: "/openapi.json", contentType: "application/json",
        body: JSON.serialize(.object(OpenAPIDocument.object(settings: settings, operations: operations)))),
      Document(
        path: "/llms.txt", contentType: "text/plain; charset=utf-8",
        body: Array(LLMSDocument.text(settings: settings, operations: operations).utf8)),
      Document(path: "/.well-known/jwks.json", contentType: "application/jwk-set+json", body: Discovery.keySet(keys)),
    ]
  }

  /// Returns the document at a canonical path.
  func document(at path: UnsafeRawBufferPointer) -> Document? {
    documents.first { $0.path.utf8.elementsEqual(path) }
  }

  /// Serialises a JWK set (RFC 7517 section 5); the `kid` is the thumbprint.
  private static func keySet(_ keys: [Ed25519.PublicKey]) -> [UInt8] {
    let values = keys.map { JWK.publicJSON($0, kid: JWK.thumbprint($0)) }
    return JSON.serialize(.object(["keys": .array(values)]), pretty: true)
  }
}
