import Bytes
import Encoding
import HTTP
import MCP
import Payments

/// Says what an answer of our own says in messages of JSON-RPC (draft-payment-transport-mcp-00, "Error Handling").
///
/// In the words of x402 (`transports-v2/mcp.md`) a tool that has to be paid for answers with a result, in place of an error.
enum MCPReply {
  /// The lines of every answer.
  static var fields: [UInt8] { Array("Content-Type: application/json\r\nCache-Control: no-store\r\n".utf8) }

  /// The response to one request that an answer stands for.
  static func response(to call: MCPExchange.Call, _ answer: Answer) -> [UInt8] {
    if answer.isMessage, let renamed = answer.body.withUnsafeBytes({ MCPAnswer.renamed($0, call.identifier) }) { return renamed }
    if call.speaksX402, answer.status == 402, case .call(let target) = call.subject, target.kind == .tool,
      let required = lines(answer.fields, of: "payment-required").first.flatMap({ Base64.decode($0) })
    {
      return RPCReply.paymentRequired(call.identifier, required)
    }
    guard answer.status == 200 || answer.status == 204, call.manages, case .call(let target) = call.subject else {
      return error(call.identifier, answer, presentsCredential: call.presentsCredential)
    }
    let receipt = lines(answer.fields, of: "payment-receipt").first.flatMap { RPCCredential.receipt($0) }
    let object = receipt.flatMap { try? JSON.parse($0) }?.objectValue
    // An answer of channels has no content: its receipt says it all.
    let text = answer.body.isEmpty ? object.map { JSON.serialize(.object($0)) } ?? [] : answer.body
    return RPCReply.management(call.identifier, target.kind, text: String(decoding: text, as: UTF8.self), receipt: object)
  }

  /// The error that a problem document stands for.
  static func error(_ id: RPCIdentifier, _ answer: Answer, presentsCredential: Bool) -> [UInt8] {
    let problem = (try? JSON.parse(answer.body))?.objectValue
    let name = problem?["type"]?.stringValue.map { String($0.split(separator: "/").last ?? "") } ?? ""
    let challenges = lines(answer.fields, of: "www-authenticate").compactMap { line in
      (try? Challenge.parse(String(decoding: line, as: UTF8.self))).flatMap { RPCCredential.object(of: $0) }
    }
    var data: JSONObject = ["httpStatus": .integer(answer.status)]
    if !challenges.isEmpty { data.set("challenges", .array(challenges.map { .object($0) })) }
    let code = code(answer.status, name, presentsCredential: presentsCredential)
    if code == .verificationFailed {
      var failure: JSONObject = ["reason": .string(name)]
      if let detail = problem?["detail"] { failure.set("detail", detail) }
      data.set("failure", .object(failure))
    }
    if let problem { data.set("problem", .object(problem)) }
    // That money has moved must not be hidden by what failed afterwards.
    if let line = lines(answer.fields, of: "payment-response").first, let settlement = Base64.decode(line).flatMap({ try? JSON.parse($0) }) {
      data.set(X402Transport.responseMember, settlement)
    }
    return RPCReply.error(id, code, data: data)
  }

  /// A client may pay again on -32042 and -32043, so what paying again cannot help has neither code.
  private static func code(_ status: UInt16, _ name: String, presentsCredential: Bool) -> RPCCode {
    switch status {
    case 402 where name == "malformed-credential": .invalidParams
    case 402: presentsCredential ? .verificationFailed : .paymentRequired
    case 400, 414: .invalidParams
    case 500...599: .internalError
    default: .refused
    }
  }

  /// The answer to content that is no message, or one that is refused.
  static func refusal(_ rule: MCPError, id: RPCIdentifier) -> Answer {
    let code: RPCCode =
      switch rule {
      case .notJSON, .tooDeep: .parseError
      case .emptyBatch, .tooManyMessages, .invalidMessage, .duplicateMember, .ambiguousMember, .invalidIdentifier, .repeatedIdentifier,
        .severalCredentials:
        .invalidRequest
      case .missingTarget, .targetTooLong, .ambiguousURI, .credentialTooLarge, .credentialNotJSON, .credentialMalformed: .invalidParams
      }
    return refusal(code, id: id, detail: rule.detail)
  }

  /// 400 with an error.
  static func refusal(_ code: RPCCode, id: RPCIdentifier, detail: String) -> Answer {
    Answer(status: 400, fields: fields, body: RPCReply.error(id, code, data: ["httpStatus": 400, "detail": .string(detail)]))
  }

  /// The values of the field lines of a name, which is in lower case.
  static func lines(_ fields: [UInt8], of name: String) -> [[UInt8]] {
    fields.split(separator: 0x0A).compactMap { line in
      guard let colon = line.firstIndex(of: 0x3A), String(decoding: line[..<colon], as: UTF8.self).lowercased() == name else { return nil }
      return Array(line[(colon + 1)...].drop { $0 == 0x20 }.prefix { $0 != 0x0D })
    }
  }

  /// The field lines of an answer that stay with it when its content becomes a message.
  static func kept(_ fields: [UInt8], withChallenge: Bool) -> [UInt8] {
    var out: [UInt8] = []
    for line in fields.split(separator: 0x0A) {
      let name = String(decoding: line.prefix { $0 != 0x3A }, as: UTF8.self).lowercased()
      switch name {
      case "content-type", "cache-control": continue
      case "www-authenticate", "payment-invoice", "payment-receipt", "payment-required", "payment-response": if !withChallenge { continue }
      default: break
      }
      out += line + [0x0A]
    }
    return out
  }
}

extension MCPExchange {
  /// Says an answer of our own, to all of the exchange's requests that wait for one, in the client's dialect.
  func translated(_ answer: Answer) -> Answer {
    guard !isTranslated else { return answer }
    isTranslated = true
    if case .fields = dialect {
      guard answer.isMessage, let call = calls.first else { return answer }
      var reply = answer
      reply.fields = MCPReply.fields + MCPReply.kept(answer.fields, withChallenge: true)
      reply.body = MCPReply.response(to: call, answer)
      return reply
    }
    let tellsStatus = if case .both = dialect { true } else { false }
    var reply = answer
    if calls.isEmpty {
      reply.body = MCPReply.error(.null, answer, presentsCredential: false)
    } else if isBatch {
      reply.body = RPCReply.batch(calls.map { MCPReply.response(to: $0, $0.answer ?? answer) })
    } else {
      reply.body = MCPReply.response(to: calls[0], answer)
    }
    reply.fields = MCPReply.fields + MCPReply.kept(answer.fields, withChallenge: tellsStatus)
    // What concerns payment is told in the message, as a server of MCP would tell it; a failure of ours or the upstream's keeps its status.
    switch answer.status {
    case 204: reply.status = 200
    case 400, 402, 403, 409, 410, 414, 422: if !tellsStatus { reply.status = 200 }
    default: break
    }
    return reply
  }

  /// The answer to a batch in which a call was refused: nothing of it is run, so that a second try runs nothing twice.
  func refusedBatch() -> Answer {
    let notRun = Answer(
      status: 424, fields: [],
      body: Array(#"{"type":"about:blank","title":"Failed Dependency","status":424,"detail":"Not run: another call of the batch was refused. Nothing is charged."}"#.utf8))
    let answers = calls.compactMap(\.answer)
    let status = answers.first { $0.status == 402 }?.status ?? answers.first?.status ?? 200
    var reply = notRun
    reply.status = status
    if let first = answers.first(where: { $0.status == status }) {
      // Challenges for several calls would read as alternatives in fields.
      reply.fields = answers.count == 1 ? first.fields : MCPReply.kept(first.fields, withChallenge: false)
    }
    reply.after = answers.map(\.after).max() ?? 0
    for index in calls.indices where calls[index].answer == nil { calls[index].answer = notRun }
    return translated(reply)
  }
}

extension MCPError {
  /// A sentence for the client; it names members, never octets that were sent.
  var detail: String {
    switch self {
    case .notJSON(let offset): "The content is not one JSON value in UTF-8, at octet \(offset)."
    case .tooDeep: "The content is nested too deeply."
    case .emptyBatch: "The batch is empty."
    case .tooManyMessages: "The batch has more than \(RPCText.messageLimit) messages."
    case .invalidMessage: "The content is no message of JSON-RPC 2.0."
    case .duplicateMember(let offset): "A member stands there twice, at octet \(offset)."
    case .ambiguousMember(let offset): "A member's name differs by its case only from one that has a meaning, at octet \(offset)."
    case .invalidIdentifier: "The id is neither a string nor a number nor null."
    case .repeatedIdentifier: "Two requests of the batch have the same id."
    case .missingTarget: "The params do not name what is asked for."
    case .targetTooLong: "The name or URI is too long."
    case .ambiguousURI: "The URI is not in its normal form."
    case .severalCredentials: "The request carries more than one payment credential."
    case .credentialTooLarge: "The credential is too large."
    case .credentialNotJSON: "The credential is not strict JSON."
    case .credentialMalformed: "The credential has no challenge, or one that is malformed."
    }
  }
}
