import Configuration
import Gateway
import HTTP
import Ledger
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// Routes with a price for each model: which one is asked for, paid, and refused.
@Suite struct CashierVariantTests {
  private static func price(_ words: String) throws -> Price { try Price(parsing: words, currencies: [cashierCurrency]) }

  /// A shop whose route `chat` sells by model; with `own`, everything else costs that.
  private static func shop(own: String? = nil, member: String = "model", _ change: (inout Settings.Route) -> Void = { _ in }) throws -> Shop {
    var settings = try shopSettings()
    var chat = Settings.Route(id: "chat", path: .prefix("/chat"))
    chat.merchant = "acme"
    if let own { chat.offer = .priced(try price(own)) }
    chat.selector = .member(member)
    chat.variants = [
      Settings.Variant(name: "small*", patterns: ["small*"], price: try price("0.001 USDC per request")),
      Settings.Variant(name: "small-x*", patterns: ["small-x*"], price: try price("0.003 USDC per request")),
      Settings.Variant(name: "large", patterns: ["large"], price: try price("0.02 USDC per request"), description: "The large one"),
      Settings.Variant(name: "bytes", patterns: ["bytes"], price: try price("0.01 USDC per MB")),
      Settings.Variant(name: "gift", patterns: ["gift"], price: nil),
    ]
    change(&chat)
    settings.routes.append(chat)
    return try Shop(settings)
  }

  private static func body(_ model: String) -> String { #"{"messages":[],"model":"\#(model)"}"# }

  private func amount(_ shop: Shop, _ model: String) throws -> String? {
    try shop.challenge("/chat/completions", "charge", method: "POST", body: Self.body(model)).requestObject()["amount"]?.stringValue
  }

  @Test func theLongestNameThatMatchesDecides() throws {
    let shop = try Self.shop(own: "0.5 USDC per request")
    for (model, expected) in [("small", "1000"), ("small-1", "1000"), ("small-x", "3000"), ("small-xl", "3000"), ("large", "20000"), ("large2", "500000"), ("", "500000")] {
      #expect(try amount(shop, model) == expected, "\(model)")
    }
    guard case .free = try shop.send("/chat", method: "POST", body: Self.body("gift")) else { throw ShopError.unexpectedVerdict }
    // What names no model costs what all others cost.
    #expect(try shop.challenge("/chat", "charge", method: "POST", body: "{}").requestObject()["amount"]?.stringValue == "500000")
    #expect(try shop.challenge("/chat", "charge").requestObject()["amount"]?.stringValue == "500000")
    // What is metered is sold by session only.
    let answer = try shop.answer("/chat", method: "POST", body: Self.body("bytes"))
    #expect(answer.challenges.map(\.intent) == ["session"])
  }

  @Test func whatHasNoPriceIsNotSold() throws {
    let shop = try Self.shop()
    for (body, problem) in [
      (Self.body("huge"), "not-sold"), ("{}", "not-sold"), (#"{"model":"small","model":"large"}"#, "bad-request"), (#"{"Model":"small"}"#, "bad-request"),
      (#"{"model":7}"#, "bad-request"), ("model=small", "bad-request"), ("", "not-sold"),
    ] {
      let answer = try shop.answer("/chat", method: "POST", body: body.isEmpty ? nil : body)
      #expect(answer.status == 400 && answer.problem == problem, "\(body)")
    }
    let coded = try shop.answer("/chat", method: "POST", [("Content-Encoding", "gzip")], body: Self.body("small"))
    #expect(coded.status == 400)
  }

  @Test func contentIsCollectedBeforeThePriceIsKnown() throws {
    let shop = try Self.shop()
    for fields in [[], [("Prepaid-Session", "x")]] {
      guard case .collectBody(let limit) = try shop.send("/chat", method: "POST", fields, body: Self.body("small"), streaming: true) else {
        throw ShopError.unexpectedVerdict
      }
      #expect(limit == 8 << 20)
    }
  }

  @Test func aChallengePaysForItsModelOnly() throws {
    let shop = try Self.shop(own: "0.5 USDC per request")
    let fields = try shop.chargeFields("/chat", method: "POST", body: Self.body("small"))
    for model in ["large", "small-x", "huge"] {
      let answer = try shop.answer("/chat", method: "POST", fields, body: Self.body(model))
      #expect(answer.status == 402 && answer.problem == "invalid-challenge", "\(model)")
    }
    #expect(shop.funds == 1_000_000_000)
    var exchange = try shop.pay("/chat", method: "POST", fields, body: Self.body("small-9"))
    try shop.finish(&exchange)
    #expect(shop.earned() == 1000)
    shop.settleBooks()
  }

  @Test func aSessionPaysEachModelByItsOwnTerms() throws {
    let shop = try Self.shop()
    func challenge(_ model: String) throws -> Challenge { try shop.challenge("/chat", "session", method: "POST", body: Self.body(model)) }
    let secret = SessionSecret.generate()
    let open = authorization(PrepaidCredential.open(try challenge("small"), deposit: 1_000_000, secret: secret, wallet: shop.wallet))
    var exchange = try shop.pay("/chat", method: "POST", open, body: Self.body("small"))
    try shop.finish(&exchange)
    exchange = try shop.pay("/chat", method: "POST", short(secret), body: Self.body("small-2"))
    try shop.finish(&exchange)
    // The session knows no terms of the other model until a credential with its challenge adds them.
    #expect(try shop.answer("/chat", method: "POST", short(secret), body: Self.body("large")).status == 402)
    let bearer = authorization(PrepaidCredential.bearer(try challenge("large"), secret: secret))
    for _ in 0..<2 {
      exchange = try shop.pay("/chat", method: "POST", bearer, body: Self.body("large"))
      try shop.finish(&exchange)
    }
    exchange = try shop.pay("/chat", method: "POST", short(secret), body: Self.body("large"))
    try shop.finish(&exchange)
    #expect(try shop.answer("/chat", method: "POST", bearer, body: Self.body("small-x")).status == 402)
    let view = try #require(shop.ledger.session(secret.id).flatMap { shop.ledger.view($0) })
    #expect(view.spent == 2 * 1000 + 3 * 20000)
    #expect(view.terms.routes.map(\.routeID) == ["chat#small*", "chat#large"])
    // The session is managed on the route whatever it costs: no model is named, and none is sold without one.
    let close = authorization(PrepaidCredential.close(try challenge("large"), secret: secret))
    let answer = try shop.answer("/chat", method: "POST", close)
    #expect(answer.status == 200 && answer.json["spent"]?.stringValue == "62000")
    shop.settleBooks()
  }

  @Test func thePathNamesGeminisModel() throws {
    let shop = try Self.shop()
    func amount(_ path: String, _ body: String) throws -> String? {
      try shop.challenge("/chat\(path)", "charge", method: "POST", body: body).requestObject()["amount"]?.stringValue
    }
    #expect(try amount("/v1beta/models/large:generateContent", "{}") == "20000")
    // What the content says is not what Gemini goes by.
    #expect(try amount("/v1beta/models/large:streamGenerateContent", Self.body("small")) == "20000")
    // Elsewhere a path that looks like it decides nothing.
    #expect(try amount("/models/large:x/completions", Self.body("small")) == "1000")
  }

  @Test func anotherMemberMayDecide() throws {
    let shop = try Self.shop(member: "engine")
    let body = #"{"model":"large","engine":"small"}"#
    #expect(try shop.challenge("/chat", "charge", method: "POST", body: body).requestObject()["amount"]?.stringValue == "1000")
  }

  @Test func freeMethodsNeedNoModel() throws {
    let shop = try Self.shop { $0.freeMethods = MethodSet(.options) }
    guard case .free = try shop.send("/chat", method: "OPTIONS") else { throw ShopError.unexpectedVerdict }
  }

  @Test func pricesOfModelsAreReloaded() throws {
    let shop = try Self.shop()
    let paid = try shop.chargeFields("/chat", method: "POST", body: Self.body("small"))
    let large = try shop.chargeFields("/chat", method: "POST", body: Self.body("large"))
    var after = shop.settings
    let chat = after.routes.count - 1
    after.routes[chat].variants[0].price = try Self.price("0.005 USDC per request")
    after.routes[chat].variants.remove(at: 2)
    var places = PlanPlaces(shop.settings)
    try #require(places.replace(after, before: shop.settings) == true)
    var former = FormerOffers()
    former.replace(shop.settings, with: after, at: shop.now)
    shop.cashier.adopt(try Sale(after, layout: places.layout, former: former, ledger: shop.ledger))
    let place = Int(places.layout.routes[chat])
    let table = try #require(shop.cashier.variants[place])
    #expect(table.find("small") == .priced(places.layout.variants[chat][0]) && table.find("large") == .none)
    let small = try #require(shop.cashier.routes[Int(places.layout.variants[chat][0])])
    #expect(small.id == "chat#small*" && small.price.chargeAmount == 5000 && small.former.map(\.price.chargeAmount) == [1000])
    // The places of the configuration before are still there for what began with it.
    #expect(shop.cashier.routes[chat] == nil && shop.cashier.variants[chat] != nil)
    _ = (paid, large)
  }

  @Test func discoverySaysWhatThe402Says() throws {
    let shop = try Self.shop(own: "0.5 USDC per request")
    let documents = shop.cashier.discovery.documents.map { String(decoding: $0.body, as: UTF8.self) }
    let llms = try #require(documents.first { $0.hasPrefix("# ") })
    #expect(llms.contains("`POST /chat/{path}` — by `model`:\n  - `small*` — 0.001 USDC per request (prepaid/charge, prepaid/session)\n"))
    #expect(llms.contains("  - `large`: The large one — 0.02 USDC per request") && llms.contains("  - `gift` — free\n"))
    #expect(llms.contains("  - any other — 0.5 USDC per request"))
    let openAPI = try #require(documents.first { $0.contains("openapi") && !$0.hasPrefix("# ") })
    #expect(openAPI.contains("model large: 0.02 USDC per request") && openAPI.contains("\"20000\""))
  }
}

extension PlanPlacesTests {
  @Test func placesOfVariantsComeBackWithTheirRoutes() throws {
    var settings = Settings()
    settings.upstreams = [Settings.Upstream(name: "a", endpoint: .unix(path: "/a"))]
    var first = Settings.Route(id: "x", path: .exact("/x"))
    first.selector = .member("model")
    first.variants = ["a", "b"].map { Settings.Variant(name: $0, patterns: [$0], price: nil) }
    settings.routes = [first, Settings.Route(id: "y", path: .exact("/y"))]
    var places = PlanPlaces(settings)
    #expect(places.layout.routes == [0, 1] && places.layout.variants == [[2, 3], []])
    try #require(places.replace(settings, before: settings) == true)
    #expect(places.layout.routes == [4, 5] && places.layout.variants == [[6, 7], []])
    // An exchange on the route keeps its variants' places too.
    places.reclaim(unless: [0])
    #expect(places.retired == [0, 2, 3])
    try #require(places.replace(settings, before: settings) == true)
    #expect(places.layout.routes == [1, 8] && places.layout.variants == [[9, 10], []])
    places.reclaim(unless: [])
    #expect(places.retired.isEmpty)
  }
}

@Suite struct PlanPlacesTests {}
