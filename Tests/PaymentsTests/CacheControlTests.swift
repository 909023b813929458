import Bytes
import Testing

@testable import Payments

@Suite struct CacheControlTests {
  private func merged(_ upstream: String?) -> String {
    var out = ByteBuffer()
    if let upstream {
      Array(upstream.utf8).withUnsafeBytes { CacheControl.appendPrivate(upstream: $0, to: &out) }
    } else {
      CacheControl.appendPrivate(upstream: nil, to: &out)
    }
    return out.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  @Test(arguments: [
    (nil, "private"), ("", "private"), ("no-store", "no-store, private"), ("max-age=60", "max-age=60, private"),
    ("public, max-age=60", "public, max-age=60, private"), ("private", "private"), ("Private", "Private"),
    ("max-age=1 , PRIVATE\t", "max-age=1 , PRIVATE\t"), ("private=\"set-cookie\"", "private=\"set-cookie\", private"),
    ("ext=\"a, private, b\"", "ext=\"a, private, b\", private"), ("privately", "privately, private"), ("x=\"\\\", private", "x=\"\\\", private, private"),
  ])
  func addsPrivate(upstream: String?, expected: String) { #expect(merged(upstream) == expected) }
}

@Suite struct CORSTests {
  private func fields(_ origins: [String], _ origin: String) -> String {
    var out = ByteBuffer()
    Array(origin.utf8).withUnsafeBytes { CORS(origins: origins).appendFields(origin: $0, to: &out) }
    return out.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  private func preflight(_ origins: [String], _ origin: String, _ method: String, _ requested: String?) -> String {
    var out = ByteBuffer()
    octets(method, origin, "", requested) { method, origin, _, requested in
      CORS(origins: origins).appendPreflight(origin: origin, method: method, fields: requested, to: &out)
    }
    return out.withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
  }

  @Test func exposesWhatPayersRead() {
    let expected =
      "Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\nAccess-Control-Expose-Headers: WWW-Authenticate, Payment-Receipt, Payment-Invoice, PAYMENT-REQUIRED, PAYMENT-RESPONSE, Payment-Session\r\n"
    #expect(fields(["https://a.example"], "https://a.example") == expected)
    #expect(fields(["*"], "https://b.example").hasPrefix("Access-Control-Allow-Origin: *\r\n"))
    #expect(fields(["https://a.example"], "https://b.example") == "Vary: Origin\r\n")
    #expect(fields([], "https://a.example") == "")
  }

  @Test func preflightGrantsWhatIsAskedFor() {
    #expect(preflight(["https://a.example"], "https://a.example", "POST", "content-type, x-key") == """
      Access-Control-Allow-Origin: https://a.example\r
      Vary: Origin\r
      Access-Control-Allow-Methods: POST\r
      Access-Control-Allow-Headers: Authorization, Payment-Authorization, Accept-Payment, PAYMENT-SIGNATURE, Payment-Session, Prepaid-Session, Idempotency-Key, content-type, x-key\r
      Access-Control-Max-Age: 600\r

      """)
    #expect(preflight(["https://a.example"], "https://b.example", "POST", nil) == "Vary: Origin\r\n")
  }

  @Test func nothingOddIsEchoed() {
    #expect(!preflight(["*"], "https://a.example", "GET, PUT", nil).contains("Allow-Methods"))
    #expect(!preflight(["*"], "https://a.example", "GET", "x: y").contains("x: y"))
    #expect(!preflight(["*"], "https://a.example", "GET", String(repeating: "a", count: 2_000)).contains("aaa"))
  }
}
