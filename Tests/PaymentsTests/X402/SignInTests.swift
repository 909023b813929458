import Bytes
import Encoding
import Ethereum
import Testing

@testable import Payments

/// Proofs made by PyPI x402 2.25.0 with signinwithethereum and eth-account; the key is 32 octets of 0x11.
private enum SignInVector {
  static let full = """
    eyJkb21haW4iOiAiYXBpLmV4YW1wbGUuY29tIiwgImFkZHJlc3MiOiAiMHgxOUU3RTM3NkU3QzIxM0I3RTdlN2U0NmNjNzBBNWREMDg2REFmZjJBIiwgInVy\
    aSI6ICJodHRwczovL2FwaS5leGFtcGxlLmNvbS9wcmVtaXVtLWRhdGEiLCAidmVyc2lvbiI6ICIxIiwgImNoYWluSWQiOiAiZWlwMTU1Ojg0NTMiLCAidHlw\
    ZSI6ICJlaXAxOTEiLCAibm9uY2UiOiAiYTFiMmMzZDRlNWY2Nzg5MGExYjJjM2Q0ZTVmNjc4OTAiLCAiaXNzdWVkQXQiOiAiMjAyNi0xMS0yMVQxMjowMDow\
    MC4wMDBaIiwgInNpZ25hdHVyZSI6ICIweGU2ZDg5ZDQ1ZDgyOTNhNWZkYTk2NjM2ODI5N2RjNjllOTZiMDhhNTg4MzVhYmFhYjU0Mzc1MTcwMTQ2MWFhZGI2\
    ODU5N2M3YTBjM2U5NTZlZTU0NGMzYjlhMmFmNzU5MzBlODM2YzhiZWI5NWI4MWVmZDQ4ZDZlMzA2NDZlODljMWMiLCAic3RhdGVtZW50IjogIlNpZ24gaW4g\
    dG8gYWNjZXNzIHByZW1pdW0gZGF0YSIsICJleHBpcmF0aW9uVGltZSI6ICIyMDI2LTExLTIxVDEyOjA1OjAwLjAwMFoiLCAicmVzb3VyY2VzIjogWyJodHRw\
    czovL2FwaS5leGFtcGxlLmNvbS9wcmVtaXVtLWRhdGEiXX0=
    """
  static let fullMessage = """
    api.example.com wants you to sign in with your Ethereum account:
    0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A

    Sign in to access premium data

    URI: https://api.example.com/premium-data
    Version: 1
    Chain ID: 8453
    Nonce: a1b2c3d4e5f67890a1b2c3d4e5f67890
    Issued At: 2026-11-21T12:00:00.000Z
    Expiration Time: 2026-11-21T12:05:00.000Z
    Resources:
    - https://api.example.com/premium-data
    """
  static let bare = """
    eyJkb21haW4iOiAiYXBpLmV4YW1wbGUuY29tIiwgImFkZHJlc3MiOiAiMHgxOUU3RTM3NkU3QzIxM0I3RTdlN2U0NmNjNzBBNWREMDg2REFmZjJBIiwgInVy\
    aSI6ICJodHRwczovL2FwaS5leGFtcGxlLmNvbS9wcmVtaXVtLWRhdGEiLCAidmVyc2lvbiI6ICIxIiwgImNoYWluSWQiOiAiZWlwMTU1Ojg0NTMiLCAidHlw\
    ZSI6ICJlaXAxOTEiLCAibm9uY2UiOiAiYTFiMmMzZDRlNWY2Nzg5MGExYjJjM2Q0ZTVmNjc4OTAiLCAiaXNzdWVkQXQiOiAiMjAyNi0xMS0yMVQxMjowMDow\
    MC4wMDBaIiwgInNpZ25hdHVyZSI6ICIweGU3ZjM4MjFhZTIwZWE4NDllMWRlNTg4ZTJmOTk3Mzg0MjM0OTUwNWZjMjllZTg4MWUyZDFhY2U4MTM5NGFkNTUy\
    OWZlMGJjYWVkNTk1NGRkYWU3OGI5MWJlNWRkZTZjZmU2YzZlNDBiMTQ0ZjVlNjQzMmU5MDUwM2NhZjY4YmRjMWMifQ==
    """
  static let bareMessage = """
    api.example.com wants you to sign in with your Ethereum account:
    0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A


    URI: https://api.example.com/premium-data
    Version: 1
    Chain ID: 8453
    Nonce: a1b2c3d4e5f67890a1b2c3d4e5f67890
    Issued At: 2026-11-21T12:00:00.000Z
    """
  static let every = """
    eyJkb21haW4iOiAiYXBpLmV4YW1wbGUuY29tIiwgImFkZHJlc3MiOiAiMHgxOUU3RTM3NkU3QzIxM0I3RTdlN2U0NmNjNzBBNWREMDg2REFmZjJBIiwgInVy\
    aSI6ICJodHRwczovL2FwaS5leGFtcGxlLmNvbS9wcmVtaXVtLWRhdGEiLCAidmVyc2lvbiI6ICIxIiwgImNoYWluSWQiOiAiZWlwMTU1Ojg0NTMiLCAidHlw\
    ZSI6ICJlaXAxOTEiLCAibm9uY2UiOiAiYTFiMmMzZDRlNWY2Nzg5MGExYjJjM2Q0ZTVmNjc4OTAiLCAiaXNzdWVkQXQiOiAiMjAyNi0xMS0yMVQxMjowMDow\
    MC4wMDBaIiwgInNpZ25hdHVyZSI6ICIweDMwNTNhZDFiZjgzNDY0MjA0MTkwOWI4NDJjNjc4ZTYzZTEzYjk0NTQ1NTE4ZTRmMTY3ZWY5YWU5YWFiOTdkYWUy\
    NDU3ZGQxMDZlMzA2OGRlODVjYzlkNDgxMjE1ZjY0M2I4YmRkMGJiYjE3ZDUyMzA0YzRlMDg1NWIwMGU3YjVmMWMiLCAibm90QmVmb3JlIjogIjIwMjYtMTEt\
    MjFUMTE6NTk6MDBaIiwgInJlcXVlc3RJZCI6ICJyLTEiLCAiZXhwaXJhdGlvblRpbWUiOiAiMjAyNi0xMS0yMVQxMjowNTowMFoiLCAicmVzb3VyY2VzIjog\
    WyJodHRwczovL2FwaS5leGFtcGxlLmNvbS9hIiwgImh0dHBzOi8vYXBpLmV4YW1wbGUuY29tL2IiXX0=
    """
  static let everyMessage = """
    api.example.com wants you to sign in with your Ethereum account:
    0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A


    URI: https://api.example.com/premium-data
    Version: 1
    Chain ID: 8453
    Nonce: a1b2c3d4e5f67890a1b2c3d4e5f67890
    Issued At: 2026-11-21T12:00:00.000Z
    Expiration Time: 2026-11-21T12:05:00Z
    Not Before: 2026-11-21T11:59:00Z
    Request ID: r-1
    Resources:
    - https://api.example.com/a
    - https://api.example.com/b
    """
}

private func proof(_ value: String) throws -> SignInProof {
  try Array(value.utf8).withUnsafeBytes { try SignInProof(fieldValue: $0) }
}

private func proof(_ path: [String], _ value: JSONValue?) throws -> SignInProof {
  try proof(Base64.encode(JSON.serialize(.object(try changed(try decoded(SignInVector.full), path, value)))))
}

private let declared = try? SignInWithX(
  origin: "https://api.example.com", statement: "Sign in to access premium data", networks: [X402Network(chainID: 8453)])

@Suite struct SignInTests {
  @Test func messagesAreThoseThatWereSigned() throws {
    let full = try proof(SignInVector.full)
    #expect(full.message == SignInVector.fullMessage)
    #expect(try proof(SignInVector.bare).message == SignInVector.bareMessage)
    #expect(try proof(SignInVector.every).message == SignInVector.everyMessage)
    #expect(full.network == X402Network(chainID: 8453) && full.signature.count == 65 && full.nonce == "a1b2c3d4e5f67890a1b2c3d4e5f67890")
    #expect(full.address == Address(wire: "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A") && "\(full)" == "<sign-in>")
  }

  @Test func faultsAreFound() throws {
    let declared = try #require(declared)
    let soon = noon + .seconds(10)
    #expect(try proof(SignInVector.full).fault(declared, now: soon) == nil)
    #expect(try proof(SignInVector.every).fault(declared, now: soon) == nil)
    let cases: [([String], JSONValue, SignInProof.Fault)] = [
      (["domain"], "evil.example", .domainMismatch), (["domain"], "API.example.com", .domainMismatch),
      (["uri"], "https://evil.example/premium-data", .uriMismatch), (["uri"], "http://api.example.com/", .uriMismatch),
      (["uri"], "https://api.example.com:444/", .uriMismatch), (["uri"], "https://api.example.com@evil.example/", .uriMismatch),
      (["uri"], "/premium-data", .uriMismatch), (["uri"], "", .uriMismatch), (["chainId"], "eip155:1", .unsupportedChain),
      (["issuedAt"], "yesterday", .malformedIssuedAt), (["issuedAt"], "2026-11-21T12:01:00Z", .issuedInFuture),
      (["issuedAt"], "2026-11-21T11:55:00Z", .tooOld), (["expirationTime"], "never", .malformedExpirationTime),
      (["expirationTime"], "2026-11-21T12:00:10Z", .expired), (["notBefore"], "x", .malformedNotBefore),
      (["notBefore"], "2026-11-21T12:00:11Z", .notYetValid),
    ]
    for (path, value, fault) in cases {
      #expect(try proof(path, value).fault(declared, now: soon) == fault, "\(path)")
    }
    let port = try SignInWithX(origin: "http://127.0.0.1:8402", networks: [])
    #expect(port.domain == "127.0.0.1:8402")
    for wrong in ["", "api.example.com", "https://", "://x", "https://user@host"] {
      #expect(throws: X402Error.malformed(.uri)) { try SignInWithX(origin: wrong, networks: []) }
    }
  }

  @Test func malformedProofsAreRefused() throws {
    let cases: [([String], JSONValue?, X402Error)] = [
      (["domain"], nil, .missing(.domain)), (["statement"], "a\nb", .controlCharacter(.statement)),
      (["uri"], "https://api.example.com/\nVersion: 2", .controlCharacter(.uri)), (["resources"], ["a\r"], .controlCharacter(.resources)),
      (["resources"], "a", .malformed(.resources)), (["version"], "2", .malformed(.version)), (["type"], "ed25519", .unknownNetwork),
      (["chainId"], "solana:x", .unknownNetwork), (["address"], "0x12", .malformed(.address)), (["nonce"], "short", .malformed(.nonce)),
      (["nonce"], "a1b2c3d4-e5f6", .malformed(.nonce)), (["signature"], "0x", .malformed(.signature)),
      (["resources"], .array(Array(repeating: "a", count: 33)), .tooMany(.resources, limit: 32)),
    ]
    for (path, value, error) in cases { #expect(throws: error, "\(path)") { try proof(path, value) } }
    let octets = Array(SignInVector.full.utf8)
    for count in 0..<octets.count - 2 {
      #expect(throws: X402Error.self) { try proof(String(decoding: octets[..<count], as: UTF8.self)) }
    }
  }

  @Test func declarationsAreFilledInForEachRequest() throws {
    let printer = try PaymentRequiredPrinter(offers: [offer()], resource: ResourceInfo(), signIn: declared)
    try asked("/premium-data", "a=\"1\"") { occasion in
      var out = ByteBuffer()
      printer.append(json: occasion, to: &out)
      let entry = try #require(try object(out.string())["extensions"]?["sign-in-with-x"]?.objectValue)
      let url: JSONValue = "https://api.example.com/premium-data?a=\"1\""
      #expect(
        entry["info"] == [
          "domain": "api.example.com", "uri": url, "version": "1", "nonce": "01000000000000000200000000000000",
          "issuedAt": "2026-11-21T12:00:00.000Z", "expirationTime": "2026-11-21T12:05:00.000Z",
          "statement": "Sign in to access premium data", "resources": [url],
        ])
      #expect(entry["supportedChains"] == [["chainId": "eip155:8453", "type": "eip191"]])
    }
  }
}
