import Bytes
import Configuration
import Crypto
import Encoding
import Ethereum
import HTTP
import Metering
import Payments
import Testing

@testable import Proxy

@Suite struct DiscoveryTests {
  private let charge = Offer(
    method: "prepaid", intent: "charge", amount: 2_000, currency: "usdc", recipient: "acme", description: "Quotes", request: JSONObject())
  private let session = Offer(
    method: "prepaid", intent: "session", amount: 10_000, currency: "usdc", recipient: "acme", description: "Files", request: JSONObject())

  private func settings() throws -> Settings {
    let currencies = [try #require(Currency(code: "usdc", decimals: 6))]
    var settings = Settings()
    settings.origin = "https://api.example.com"
    settings.info.title = "Quotes and files"
    settings.info.version = "2.1"
    settings.info.description = "Sold by\nthe piece."
    var quotes = Settings.Route(id: "quotes", path: .exact("/quotes/today"))
    quotes.methods = MethodSet([.get, .post, .query]).withImpliedHead
    quotes.freeMethods = MethodSet(.post)
    quotes.offer = .priced(try Price(parsing: "0.002 USDC per request", currencies: currencies))
    quotes.description = "The quote of the day"
    var files = Settings.Route(id: "files", path: .prefix("/files/"))
    files.methods = MethodSet(.get)
    files.offer = .priced(try Price(parsing: "0.01 USDC per MB", currencies: currencies))
    files.hosts = ["files.example.com"]
    let user = Settings.Route(id: "user", path: .segments("/users/{id}/posts/{post}"))
    let shadowed = Settings.Route(id: "shadowed", path: .exact("/quotes/today"))
    let status = Settings.Route(id: "status", path: .prefix("/status"))
    settings.routes = [quotes, files, user, shadowed, status]
    return settings
  }

  private func discovery(_ keys: [Ed25519.PublicKey] = []) throws -> Discovery {
    Discovery(settings: try settings(), offers: [[charge, session], [session], [], [], []].map { RouteOffers(own: $0) }, keys: keys)
  }

  private func document(_ path: String, of discovery: Discovery) throws -> Discovery.Document {
    try #require(Array(path.utf8).withUnsafeBytes { discovery.document(at: $0) })
  }

  private func openAPI() throws -> JSONValue {
    try JSON.parse(document("/openapi.json", of: discovery()).body)
  }

  @Test func offersAreThoseOfThe402() throws {
    let info = try openAPI()["paths"]?["/quotes/today"]?["get"]?["x-payment-info"]
    let words = "0.002 USDC per request"
    #expect(
      info == [
        "offers": [
          ["intent": "charge", "method": "prepaid", "amount": "2000", "currency": "usdc", "description": .string(words)],
          ["intent": "session", "method": "prepaid", "amount": "10000", "currency": "usdc", "description": .string(words)],
        ]
      ])
  }

  @Test func payableOperationsDeclare402AndOthersDoNot() throws {
    let paths = try #require(openAPI()["paths"])
    #expect(paths["/quotes/today"]?["get"]?["responses"]?["402"]?["description"] == "Payment Required")
    #expect(paths["/quotes/today"]?["post"]?["responses"]?["402"] == nil)
    #expect(paths["/quotes/today"]?["post"]?["x-payment-info"] == nil)
    #expect(paths["/users/{id}/posts/{post}"]?["get"]?["responses"]?["402"] == nil)
    // OpenAPI 3.1 has no member for QUERY.
    #expect(paths["/quotes/today"]?.objectValue?.names == ["get", "post"])
  }

  @Test func requiredMembersArePresent() throws {
    let document = try openAPI()
    #expect(document["openapi"] == "3.1.0")
    #expect(document["info"] == ["title": "Quotes and files", "version": "2.1", "description": "Sold by\nthe piece."])
    #expect(document["servers"] == [["url": "https://api.example.com"]])
    #expect(document["paths"]?.objectValue?.names == ["/quotes/today", "/files/{path}", "/users/{id}/posts/{post}", "/status", "/status/{path}"])
  }

  @Test func pathParametersAreDeclared() throws {
    let paths = try #require(openAPI()["paths"])
    let names = paths["/users/{id}/posts/{post}"]?["get"]?["parameters"]?.arrayValue?.map { $0["name"] }
    #expect(names == ["id", "post"])
    let rest = try #require(paths["/files/{path}"]?["get"]?["parameters"]?.arrayValue?.first)
    #expect(rest["in"] == "path")
    #expect(rest["required"] == true)
    #expect(paths["/files/{path}"]?["get"]?["servers"] == [["url": "https://files.example.com"]])
    #expect(paths["/quotes/today"]?["get"]?["parameters"] == nil)
  }

  @Test func firstRouteOfAPathStands() throws {
    let operations = try #require(openAPI()["paths"]?["/quotes/today"])
    #expect(operations["get"]?["operationId"] == "quotes-get")
    #expect(operations["post"]?["operationId"] == "quotes-post")
  }

  @Test func operationsHaveIdsOfTheirOwn() throws {
    let items = try #require(openAPI()["paths"]?.objectValue).members.compactMap(\.value.objectValue)
    let ids = items.flatMap(\.members).map { $0.value["operationId"]?.stringValue ?? "" }
    #expect(ids.count == 9)
    #expect(Set(ids).count == ids.count)
  }

  /// The first route is paid on a chain too, and the third one on it alone.
  private func onChains() throws -> Discovery {
    var settings = try settings()
    let usdc = try #require(Currency(code: "usdc", decimals: 6))
    let address = try #require(Address("0x036CbD53842c5426634e7929541eC2318f3dCF7e"))
    var chain = Settings.Chain(name: "base-sepolia", id: 84532)
    chain.tokens = [
      Settings.Token(currency: usdc, address: address, domain: .init(name: "USDC", version: "2"), transfers: .eip3009)
    ]
    chain.signer = .file("/none")
    settings.chains = [chain]
    var merchant = Settings.Merchant(id: settings.routes[0].merchant, displayName: "Shop")
    merchant.addresses = ["base-sepolia": address]
    settings.merchants = [merchant]
    settings.routes[0].rails = [.prepaid, .x402(chain: 0), .evm(chain: 0)]
    let price = try #require(settings.routes[0].price)
    let rails = try RouteRails(settings.routes[0], price, settings)
    settings.routes[4].offer = settings.routes[0].offer
    return Discovery(
      settings: settings,
      offers: [
        RouteOffers(own: [charge], chains: rails.discovered), RouteOffers(own: [session]), RouteOffers(), RouteOffers(),
        RouteOffers(chains: Array(rails.discovered.prefix(1))),
      ], keys: [])
  }

  @Test func offersOnChainsStandBesideTheOthers() throws {
    let discovery = try onChains()
    let paths = try #require(try JSON.parse(document("/openapi.json", of: discovery).body)["paths"])
    let quotes = try #require(paths["/quotes/today"]?["get"])
    let token: JSONValue = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
    #expect(
      quotes["x-chain-offers"] == [
        [
          "protocol": "x402", "scheme": "exact", "network": "eip155:84532", "amount": "2000", "asset": token, "payTo": token,
          "extra": ["name": "USDC", "version": "2"],
        ],
        [
          "protocol": "mpp", "method": "evm", "intent": "charge", "network": "eip155:84532", "amount": "2000", "asset": token, "payTo": token,
          "extra": ["credentialTypes": ["authorization", "transaction"]],
        ],
      ])
    #expect(quotes["x-payment-info"]?["offers"]?.arrayValue?.count == 1)
    #expect(quotes["responses"]?["402"]?["headers"]?["PAYMENT-REQUIRED"] != nil)
    #expect(paths["/quotes/today"]?["post"]?["x-chain-offers"] == nil)
    #expect(paths["/files/{path}"]?["get"]?["responses"]?["402"]?["headers"]?["PAYMENT-REQUIRED"] == nil)
    let alone = try #require(paths["/status"]?["get"])
    #expect(alone["x-payment-info"] == nil && alone["x-chain-offers"]?.arrayValue?.count == 1 && alone["responses"]?["402"] != nil)
    let text = String(decoding: try document("/llms.txt", of: discovery).body, as: UTF8.self)
    #expect(text.contains("— 0.002 USDC per request (prepaid/charge, x402)\n  - x402 exact: 0.002 USDC of the token 0x036CbD53"))
    #expect(text.contains("\n  - mpp evm/charge: 0.002 USDC of the token 0x036CbD53842c5426634e7929541eC2318f3dCF7e on eip155:84532 to 0x"))
    #expect(text.contains("PAYMENT-SIGNATURE"))
  }

  @Test func modelsAreTold() throws {
    let text = String(decoding: try document("/llms.txt", of: discovery()).body, as: UTF8.self)
    #expect(text.hasPrefix("# Quotes and files\n\n> Sold by the piece.\n\n"))
    #expect(text.contains("- `GET /quotes/today`: The quote of the day — 0.002 USDC per request (prepaid/charge, prepaid/session)\n"))
    #expect(text.contains("- `POST /quotes/today`: The quote of the day — free\n"))
    #expect(text.contains("- `GET /files/{path}` on files.example.com — 0.01 USDC per MB (prepaid/session)\n"))
  }

  @Test func keysAreServedCurrentAndRetired() throws {
    let keys = [Ed25519.SigningKey.generate().publicKey, Ed25519.SigningKey.generate().publicKey]
    let set = try JSON.parse(document("/.well-known/jwks.json", of: discovery(keys)).body)
    let read = try #require(set["keys"]?.arrayValue).compactMap { JWK.parse($0) }
    #expect(read.map(\.key) == keys)
    #expect(read.map(\.kid) == keys.map { JWK.thumbprint($0) })
  }

  @Test func eachHasItsTypeAndMayBeRead() throws {
    let discovery = try discovery()
    for (path, type) in [("/openapi.json", "application/json"), ("/llms.txt", "text/plain; charset=utf-8"), ("/.well-known/jwks.json", "application/jwk-set+json")] {
      let fields = String(decoding: try document(path, of: discovery).fields, as: UTF8.self)
      #expect(fields == "Content-Type: \(type)\r\nCache-Control: max-age=300\r\nAccess-Control-Allow-Origin: *\r\n")
    }
    #expect(Array("/openapi.jso".utf8).withUnsafeBytes { discovery.document(at: $0) } == nil)
  }
}
