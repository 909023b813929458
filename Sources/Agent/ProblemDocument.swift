import Bytes
import Encoding
import Payments

/// Reads a problem document (RFC 9457) as far as an agent acts on it.
struct ProblemDocument: Sendable {
  /// The octets of a problem document that are read.
  static let byteLimit = 131_072

  /// The payment problem, nil where the type is something else: the upstream's own, for instance.
  let problem: PaymentProblem?
  /// The last part of the type, for messages.
  let name: String
  let detail: String
  /// What else the document says.
  let members: JSONObject

  /// Reads the document that the server of an address sent.
  ///
  /// - Returns: nil where it is not JSON, or has no type.
  init?(_ octets: [UInt8], from address: WebAddress) {
    guard let object = (try? JSON.parse(octets))?.objectValue, let type = object["type"]?.stringValue else { return nil }
    let own = Self.ownOrigin(of: type, from: address)
    problem = PaymentProblem.allCases.first { $0.isOwn ? $0.type(origin: own ?? "") == type : $0.type(origin: "") == type }
    name = type.split(separator: "/").last.map(String.init) ?? type
    detail = object["detail"]?.stringValue ?? ""
    members = object
  }

  /// The origin of a type, where it is the server's own or that of a parent domain: the ledger's realm may span hosts.
  private static func ownOrigin(of type: String, from address: WebAddress) -> String? {
    guard let named = try? WebAddress(type) else { return nil }
    let isParent = !address.isNumeric && address.host.hasSuffix("." + named.host)
    return named.host == address.host || isParent ? named.origin : nil
  }

  /// The invoice, which stands in the document as well as in the head.
  var invoice: String? { members["invoice"]?.stringValue }

  /// What an insufficient budget needs.
  var required: UInt128? { members["required"]?.stringValue.flatMap { DecimalUInt128.parse($0.utf8) } }

  /// The reference of the payment that stands.
  var reference: String? { members["reference"]?.stringValue }
}
