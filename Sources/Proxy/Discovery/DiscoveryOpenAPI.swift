import Configuration
import Encoding
import HTTP
import Payments

/// Builds the OpenAPI 3.1 document with `x-payment-info` (draft-payment-discovery-00).
enum OpenAPIDocument {
  /// The methods that an OpenAPI path item has members for.
  private static let methods: [HTTP.Method] = [.get, .put, .post, .delete, .options, .head, .patch, .trace]

  static func object(settings: Settings, operations: [DiscoveryOperation]) -> JSONObject {
    var info: JSONObject = ["title": .string(settings.info.title), "version": .string(settings.info.version)]
    if !settings.info.description.isEmpty { info.set("description", .string(settings.info.description)) }
    return [
      "openapi": "3.1.0",
      "info": .object(info),
      "servers": [["url": .string(settings.origin)]],
      "x-service-info": ["docs": ["llms": .string("\(settings.origin)/llms.txt")]],
      "paths": .object(paths(settings, operations)),
    ]
  }

  /// Collects the operations of each path; of two for one method the first stands, as the router has it.
  private static func paths(_ settings: Settings, _ operations: [DiscoveryOperation]) -> JSONObject {
    var paths = JSONObject()
    for operation in operations where methods.contains(operation.method) {
      var item = paths[operation.path]?.objectValue ?? JSONObject()
      let member = operation.member
      guard item[member] == nil else { continue }
      item.set(member, .object(self.operation(settings, operation)))
      paths.set(operation.path, .object(item))
    }
    return paths
  }

  private static func operation(_ settings: Settings, _ operation: DiscoveryOperation) -> JSONObject {
    var object: JSONObject = ["operationId": .string(operation.id)]
    if let description = operation.description { object.set("summary", .string(description)) }
    if !operation.hosts.isEmpty {
      let scheme = settings.origin.hasPrefix("http:") ? "http" : "https"
      object.set("servers", .array(operation.hosts.map { ["url": .string("\(scheme)://\($0)")] }))
    }
    if !operation.parameters.isEmpty {
      object.set("parameters", .array(operation.parameters.map { .object(parameter($0, of: operation)) }))
    }
    var responses: JSONObject = ["200": ["description": "Successful response"]]
    let offers = operation.variants.flatMap { variant in
      let words = variant.price.map { "\(operation.selector) \(variant.name): \($0)" }
      return variant.offers.map { JSONValue.object(offer($0, price: words)) }
    } + operation.offers.map { .object(offer($0, price: operation.price, isDynamic: operation.isDynamic)) }
    // Network, asset and payee have no place in the draft's object.
    let chains = operation.variants.flatMap { variant in variant.chains.map { $0.json(isDynamic: false) } }
      + operation.chains.map { $0.json(isDynamic: operation.isDynamic) }
    if !offers.isEmpty { object.set("x-payment-info", ["offers": .array(offers)]) }
    if !chains.isEmpty { object.set("x-chain-offers", .array(chains)) }
    if !offers.isEmpty || !chains.isEmpty { responses.set("402", .object(paymentRequired(operation))) }
    object.set("responses", .object(responses))
    return object
  }

  /// Describes a segment of the template.
  private static func parameter(_ name: String, of operation: DiscoveryOperation) -> JSONObject {
    var object: JSONObject = [
      "name": .string(name), "in": "path", "required": true, "schema": ["type": "string"],
    ]
    if operation.path.hasSuffix("/{path}"), name == "path" {
      object.set("description", "The rest of the path; it may hold slashes.")
    }
    return object
  }

  /// The offer object has no other members (its schema forbids them).
  private static func offer(_ offer: Offer, price: String?, isDynamic: Bool = false) -> JSONObject {
    var object: JSONObject = [
      "intent": .string(offer.intent), "method": .string(offer.method), "amount": isDynamic ? .null : .string(String(offer.amount)),
      "currency": .string(offer.currency),
    ]
    if let price { object.set("description", .string(price)) }
    return object
  }

  private static func paymentRequired(_ operation: DiscoveryOperation) -> JSONObject {
    var headers: JSONObject = [
      "WWW-Authenticate": ["description": "One Payment challenge per offer", "schema": ["type": "string"]],
      "Payment-Invoice": ["description": "The signed invoice, a compact JWS", "schema": ["type": "string"]],
    ]
    if operation.isSoldByX402 {
      headers.set("PAYMENT-REQUIRED", ["description": "The offers of x402, JSON in base64", "schema": ["type": "string"]])
    }
    return [
      "description": "Payment Required", "headers": .object(headers), "content": ["application/problem+json": ["schema": ["type": "object"]]],
    ]
  }
}

extension DiscoveryOperation {
  /// Whether anything of it is paid by x402's fields.
  var isSoldByX402: Bool { chains.contains { $0.isX402 } || variants.contains { $0.chains.contains { $0.isX402 } } }
}

extension DiscoveryOperation {
  /// Unique: the route, the method, and for what is below a prefix that is a path itself, which of the two.
  fileprivate var id: String { "\(route)-\(member)" + (path.hasSuffix("/{path}") ? "-path" : "") }

  /// The path item's member.
  fileprivate var member: String { "\(method.name)".lowercased() }
}
