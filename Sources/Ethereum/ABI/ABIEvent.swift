import Bytes
import Crypto

/// Holds a contract's event: its name and the types of what it tells.
public struct ABIEvent: Hashable, Sendable {
  /// Holds a parameter's type, and whether it is a topic of its own.
  public struct Parameter: Hashable, Sendable {
    /// The type.
    public let type: ABIType
    /// Whether it stands among the topics.
    public let isIndexed: Bool

    /// Makes a parameter among the topics, of a type of at most 32 octets.
    public static func indexed(_ type: ABIType) -> Parameter { Parameter(type: type, isIndexed: true) }
    /// Makes a parameter in the data.
    public static func plain(_ type: ABIType) -> Parameter { Parameter(type: type, isIndexed: false) }
  }

  /// The name and the types, such as `Transfer(address,address,uint256)`.
  public let signature: String
  /// The signature's hash, which is the first topic.
  public let topic: Digest32
  /// The parameters in their order.
  public let parameters: [Parameter]

  /// Takes a name and parameters.
  public init(_ name: String, _ parameters: [Parameter]) {
    signature = name + ABIType.names(parameters.map(\.type))
    topic = Keccak256.hash(signature)
    self.parameters = parameters
  }

  /// Reads what a log tells, in the order of the parameters; nil where it is another event, or one of the same name with other topics.
  public func values(of log: Log) -> [ABIValue]? {
    let indexed = parameters.filter(\.isIndexed)
    guard log.topics.first == topic, log.topics.count == indexed.count + 1 else { return nil }
    let plain = parameters.filter { !$0.isIndexed }.map(\.type)
    guard var rest = (try? ABI.decode(log.data, as: plain, form: .bounded))?[...] else { return nil }
    var topics = log.topics.dropFirst()
    var values: [ABIValue] = []
    for parameter in parameters {
      if parameter.isIndexed {
        guard let word = topics.popFirst(), let value = try? ABI.decode(word.bytes, as: [parameter.type]) else { return nil }
        values += value
      } else if let value = rest.popFirst() {
        values.append(value)
      }
    }
    return values
  }
}
