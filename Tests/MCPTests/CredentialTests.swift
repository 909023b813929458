import Bytes
import Crypto
import Encoding
import Payments
import Testing

@testable import MCP

@Suite struct CredentialTests {
  @Test func aChallengeComesBackAsItWasIssued() throws {
    let secrets = try ChallengeSecrets(current: SecretBytes(Array("a-secret-of-tests-with-enough-octets".utf8)))
    let challenge = try Challenge(
      realm: "api.example.com", method: "prepaid", intent: "charge", request: ["amount": "2000", "currency": "usdc"],
      expires: try #require(Timestamp(rfc3339: "2026-11-21T12:00:00Z")), opaque: ["n": "x", "route": "r"], description: "a call", secrets: secrets)
    let object = try #require(RPCCredential.object(of: challenge))
    #expect(object["request"]?.objectValue?["amount"] == "2000")
    #expect(object["opaque"]?.objectValue?["route"] == "r")
    let credential: JSONObject = ["challenge": .object(object), "payload": ["type": "transfer"], "source": "did:key:z"]
    // Another order of members and other white space are the same credential.
    let text = JSON.serialize(.object(JSONObject(credential.members.reversed().map { ($0.name, $0.value) })), pretty: true)
    let read = try text.withUnsafeBytes { try RPCCredential.textForm($0) }
    #expect(read == ["challenge": .object(challenge.echo), "payload": ["type": "transfer"], "source": "did:key:z"])
  }

  @Test func whatIsNoCredentialIsRefused() {
    func error(_ text: String) -> MCPError? {
      do {
        try Array(text.utf8).withUnsafeBufferPointer { (octets) throws(MCPError) in
          _ = try RPCCredential.textForm(UnsafeRawBufferPointer(octets))
        }
        return nil
      } catch { return error }
    }
    #expect(error("[]") == .credentialMalformed)
    #expect(error("null") == .credentialMalformed)
    #expect(error("{}") == .credentialMalformed)
    #expect(error(#"{"challenge":[]}"#) == .credentialMalformed)
    #expect(error(#"{"challenge":{"request":3}}"#) == .credentialMalformed)
    #expect(error(#"{"challenge":{"opaque":null}}"#) == .credentialMalformed)
    #expect(error(#"{"challenge":{},"challenge":{}}"#) == .credentialNotJSON)
    #expect(error("{\"challenge\":{\"id\":\"\(String(repeating: "a", count: 65_536))\"}}") == .credentialTooLarge)
  }

  @Test func managementAnswersInItsMethodsShape() throws {
    func reply(_ kind: CallKind) throws -> JSONValue {
      try JSON.parse(RPCReply.management(.null, kind, text: #"{"status":"ok"}"#, receipt: ["status": "success"]))
    }
    let tool = try reply(.tool)["result"]
    #expect(tool?["content"]?.arrayValue?.first?["text"] == #"{"status":"ok"}"#)
    #expect(tool?["_meta"]?["org.paymentauth/receipt"]?["status"] == "success")
    #expect(try reply(.resource)["result"]?["contents"]?.arrayValue?.count == 1)
    #expect(try reply(.prompt)["result"]?["messages"]?.arrayValue?.count == 1)
  }
}
