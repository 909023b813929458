import Encoding

/// The extension `bazaar`: what a facilitator's catalogue says of a route or a tool.
public enum Bazaar {
  /// The extension's key.
  public static let key = "bazaar"

  /// The kind of a body's example.
  public enum BodyType: String, Sendable, Hashable {
    case json
    case formData = "form-data"
    case text
  }

  /// An example of what is answered.
  public struct Output: Sendable, Hashable {
    /// `json`, `text`.
    public var type: String
    public var example: JSONValue?
    /// The example's schema.
    public var schema: JSONObject

    public init(type: String, example: JSONValue? = nil, schema: JSONObject = JSONObject()) {
      self.type = type
      self.example = example
      self.schema = schema
    }
  }

  /// How a route is called.
  public struct Route: Sendable, Hashable {
    /// GET, HEAD, DELETE; or POST, PUT, PATCH, which have a body.
    public var method: String
    /// Examples of query parameters, and their schema.
    public var queryParams: JSONObject
    public var querySchema: JSONObject
    /// An example of a body, its kind and schema.
    public var body: JSONValue?
    public var bodyType: BodyType
    public var bodySchema: JSONObject
    /// Examples of what the path's parameters are.
    public var pathParams: JSONObject
    /// The path with `:name` for its parameters; nil for a route of one path.
    public var template: String?

    public init(
      method: String, queryParams: JSONObject = JSONObject(), querySchema: JSONObject = JSONObject(), body: JSONValue? = nil,
      bodyType: BodyType = .json, bodySchema: JSONObject = JSONObject(), pathParams: JSONObject = JSONObject(), template: String? = nil
    ) {
      self.method = method
      self.queryParams = queryParams
      self.querySchema = querySchema
      self.body = body
      self.bodyType = bodyType
      self.bodySchema = bodySchema
      self.pathParams = pathParams
      self.template = template
    }
  }

  /// How a tool of an MCP server is called.
  public struct Tool: Sendable, Hashable {
    public var name: String
    public var description: String?
    /// The schema of its arguments, as the server declares it.
    public var inputSchema: JSONObject
    /// An example of its arguments.
    public var example: JSONObject?
    /// `streamable-http`, the default, or `sse`.
    public var transport: String?

    public init(name: String, description: String? = nil, inputSchema: JSONObject, example: JSONObject? = nil, transport: String? = nil) {
      self.name = name
      self.description = description
      self.inputSchema = inputSchema
      self.example = example
      self.transport = transport
    }
  }

  /// Declares a route; nil for a method that the extension has no words for, or a template that facilitators discard.
  public static func declaration(_ route: Route, output: Output? = nil) -> ExtensionDeclaration? {
    let hasBody: Bool
    switch route.method {
    case "GET", "HEAD", "DELETE": hasBody = false
    case "POST", "PUT", "PATCH": hasBody = true
    default: return nil
    }
    guard route.template.map(isTemplate) ?? true else { return nil }
    var input: JSONObject = ["type": "http", "method": .string(route.method)]
    var properties: JSONObject = [
      "type": ["type": "string", "const": "http"],
      "method": ["type": "string", "enum": hasBody ? ["POST", "PUT", "PATCH"] : ["GET", "HEAD", "DELETE"]],
    ]
    var required: [JSONValue] = ["type", "method"]
    if !route.queryParams.isEmpty || !route.querySchema.isEmpty {
      if !route.queryParams.isEmpty { input.set("queryParams", .object(route.queryParams)) }
      properties.set("queryParams", .object(typed(route.querySchema)))
    }
    if hasBody {
      input.set("bodyType", .string(route.bodyType.rawValue))
      input.set("body", route.body ?? [:])
      properties.set("bodyType", ["type": "string", "enum": ["json", "form-data", "text"]])
      properties.set("body", .object(route.bodySchema))
      required += ["bodyType", "body"]
    }
    if !route.pathParams.isEmpty {
      input.set("pathParams", .object(route.pathParams))
      properties.set("pathParams", ["type": "object"])
    }
    return declaration(
      input: input, properties: properties, required: required, output: output,
      further: route.template.map { ["routeTemplate": .string($0)] } ?? [:])
  }

  /// Declares a tool.
  public static func declaration(_ tool: Tool, output: Output? = nil) -> ExtensionDeclaration {
    var input: JSONObject = ["type": "mcp", "toolName": .string(tool.name)]
    var properties: JSONObject = [
      "type": ["type": "string", "const": "mcp"], "toolName": ["type": "string"], "inputSchema": ["type": "object"],
    ]
    if let description = tool.description {
      input.set("description", .string(description))
      properties.set("description", ["type": "string"])
    }
    if let transport = tool.transport {
      input.set("transport", .string(transport))
      properties.set("transport", ["type": "string", "enum": ["streamable-http", "sse"]])
    }
    input.set("inputSchema", .object(tool.inputSchema))
    if let example = tool.example {
      input.set("example", .object(example))
      properties.set("example", ["type": "object"])
    }
    return declaration(input: input, properties: properties, required: ["type", "toolName", "inputSchema"], output: output, further: [:])
  }

  private static func declaration(
    input: JSONObject, properties: JSONObject, required: [JSONValue], output: Output?, further: JSONObject
  ) -> ExtensionDeclaration {
    var info: JSONObject = ["input": .object(input)]
    var parts: JSONObject = [
      "input": [
        "type": "object", "properties": .object(properties), "required": .array(required), "additionalProperties": false,
      ]
    ]
    if let output {
      var object: JSONObject = ["type": .string(output.type)]
      if let example = output.example { object.set("example", example) }
      info.set("output", .object(object))
      parts.set(
        "output",
        ["type": "object", "properties": ["type": ["type": "string"], "example": .object(output.schema)], "required": ["type"]])
    }
    return ExtensionDeclaration(
      key: key, info: info,
      schema: [
        "$schema": .string(ExtensionDeclaration.dialect), "type": "object", "properties": .object(parts), "required": ["input"],
      ], further: further)
  }

  private static func typed(_ schema: JSONObject) -> JSONObject {
    JSONObject([("type", "object")] + schema.members.map { ($0.name, $0.value) })
  }

  /// Whether facilitators take the template as a key of their catalogue ("`routeTemplate` Validation Rules"); one with escapes is not
  /// taken here, since what they hide would have to be looked at.
  static func isTemplate(_ text: String) -> Bool {
    guard text.utf8.first == 0x2F, text.utf8.count > 1, !text.contains(".."), !text.contains("://") else { return false }
    return text.utf8.allSatisfy { octet in
      switch octet {
      case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F, 0x2F, 0x3A, 0x2E, 0x2D, 0x7E: true
      default: false
      }
    }
  }

  /// The declaration without its example of an answer.
  static func withoutOutput(_ declaration: ExtensionDeclaration) -> ExtensionDeclaration {
    var (info, schema) = (declaration.info, declaration.schema)
    info.remove("output")
    if var properties = schema["properties"]?.objectValue {
      properties.remove("output")
      schema.set("properties", .object(properties))
    }
    return ExtensionDeclaration(key: declaration.key, info: info, schema: schema, further: declaration.further)
  }
}
