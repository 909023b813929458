import Bytes
import Encoding

/// Holds an endpoint's answer: what was asked for, or why there is none.
public enum RPCReply: Sendable {
  /// Holds what was asked for.
  case result(JSONValue)
  /// Holds why there is no result.
  case failure(RPCFailure)

  /// The most of an answer: 4 mebioctets, 16 levels.
  public static let limits = JSONLimits(octets: 1 << 22, depth: 16)

  /// Reads an answer to the call with the identifier; an error without identifier is one to a text that the endpoint could not read.
  ///
  /// - Throws: `reply` with the rule that the answer breaks.
  public init(_ text: UnsafeRawBufferPointer, id: UInt64, limits: JSONLimits = limits) throws(EthereumError) {
    let value: JSONValue
    do {
      value = try JSON.parse(text, limits: limits)
    } catch {
      throw .reply(.malformed)
    }
    guard let object = value.objectValue, object["jsonrpc"]?.stringValue == "2.0" else { throw .reply(.notRPC) }
    // Some endpoints write the absent one of the two as null, and null is a result of its own.
    let failure = value.optional("error")
    let isMatching = object["id"]?.intValue.flatMap { UInt64(exactly: $0) } == id
    if let failure {
      guard object["result"]?.isNull ?? true else { throw .reply(.notRPC) }
      guard isMatching || object["id"]?.isNull == true else { throw .reply(.wrongIdentifier) }
      self = .failure(try RPCFailure(failure))
    } else {
      guard let result = object["result"] else { throw .reply(.notRPC) }
      guard isMatching else { throw .reply(.wrongIdentifier) }
      self = .result(result)
    }
  }

  /// Reads an answer, as above.
  public init(_ text: [UInt8], id: UInt64, limits: JSONLimits = limits) throws(EthereumError) {
    self = try text.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try RPCReply(UnsafeRawBufferPointer(octets), id: id, limits: limits)
    }
  }

  /// The result, nil for a failure.
  public var result: JSONValue? { if case .result(let value) = self { value } else { nil } }
  /// The failure, nil for a result.
  public var failure: RPCFailure? { if case .failure(let failure) = self { failure } else { nil } }
}

/// Says why an endpoint gives no result.
public struct RPCFailure: Hashable, Sendable {
  /// The most octets of a message that are kept; it is the endpoint's own text.
  public static let maximumMessage = 512
  /// The code of a call that the contract reverted.
  public static let executionReverted = 3

  /// The code.
  public var code: Int
  /// What the endpoint says.
  public var message: String
  /// What the contract returned when it reverted the call, where the endpoint tells.
  public var data: [UInt8]?

  /// Takes the members.
  public init(code: Int, message: String, data: [UInt8]? = nil) {
    self.code = code
    self.message = message
    self.data = data
  }

  init(_ value: JSONValue) throws(EthereumError) {
    guard let code = value["code"]?.intValue, let message = value["message"]?.stringValue else { throw .reply(.notRPC) }
    self.code = code
    // A character that is cut in two becomes U+FFFD.
    self.message = String(decoding: message.utf8.prefix(Self.maximumMessage), as: UTF8.self)
    data = Self.octets(value["data"])
  }

  /// The data is the octets themselves, or an object that holds them.
  private static func octets(_ value: JSONValue?) -> [UInt8]? {
    (value?.stringValue ?? value?["data"]?.stringValue).flatMap { HexData.parse($0) }
  }

  /// Why the contract reverted the call; nil where the endpoint does not tell.
  public var revertReason: RevertReason? { data.map { RevertReason($0) } }
}
