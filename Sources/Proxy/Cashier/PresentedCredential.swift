import HTTP
import Payments

/// What a request carries to pay with, before anything of it is read.
enum PresentedCredential {
  /// Nothing.
  case none
  /// More than one, repeated, folded or in several fields: two readers might see two payers.
  case several
  /// A Payment credential whose token stands at these octets of the head.
  case token(Range<Int>, CredentialField)
  /// The short form's value.
  case short(Range<Int>)
  /// A payment of x402, by the field that it stands in.
  case x402(Range<Int>, PaymentPayload.Field)

  /// The fields that may carry one.
  private static let fields = FieldSet([.authorization, .paymentAuthorization, .prepaidSession, .paymentSignature, .xPayment])

  /// A field value that may have been resolved before, and the field that it stands in: the same octets in another field are
  /// another credential.
  struct Value {
    let octets: UnsafeRawBufferPointer
    let field: FieldName
  }

  /// The value of the only field that carries a credential; nil where none does, or several do.
  static func only(_ octets: UnsafeRawBufferPointer, _ head: UnsafePointer<RequestHead>) -> Value? {
    let present = head.pointee.present.intersection(fields)
    guard !present.isEmpty, head.pointee.repeated.isDisjoint(with: fields) else { return nil }
    let name: FieldName
    switch present {
    case FieldSet(.authorization): name = .authorization
    case FieldSet(.paymentAuthorization): name = .paymentAuthorization
    case FieldSet(.prepaidSession): name = .prepaidSession
    case FieldSet([.authorization, .prepaidSession]):
      // The short form leaves Authorization to the upstream's own scheme.
      guard let other = head.pointee.first(.authorization), case .none = CredentialScan(other.value(in: octets)) else { return nil }
      name = .prepaidSession
    default: return nil
    }
    return head.pointee.first(name).map { Value(octets: $0.value(in: octets), field: name) }
  }

  /// Finds the credential of a request.
  init(_ octets: UnsafeRawBufferPointer, _ head: UnsafePointer<RequestHead>) {
    let present = head.pointee.present.intersection(Self.fields)
    guard !present.isEmpty else {
      self = .none
      return
    }
    guard head.pointee.repeated.isDisjoint(with: Self.fields) else {
      self = .several
      return
    }
    var found = PresentedCredential.none
    if let field = head.pointee.first(.authorization) {
      switch CredentialScan(field.value(in: octets)) {
      case .none: break
      case .several:
        self = .several
        return
      case .one(let token): found = .token(Self.shift(token, by: field), .authorization)
      }
    }
    if let field = head.pointee.first(.paymentAuthorization) {
      guard case .none = found else {
        self = .several
        return
      }
      switch CredentialScan(field.value(in: octets)) {
      case .several:
        self = .several
        return
      // Another scheme has no business in this field: an empty token is a malformed credential.
      case .none: found = .token(field.valueRange.upperBound..<field.valueRange.upperBound, .paymentAuthorization)
      case .one(let token): found = .token(Self.shift(token, by: field), .paymentAuthorization)
      }
    }
    if let field = head.pointee.first(.prepaidSession) {
      guard case .none = found else {
        self = .several
        return
      }
      found = .short(field.valueRange)
    }
    for (name, kind) in [(FieldName.paymentSignature, PaymentPayload.Field.paymentSignature), (.xPayment, .xPayment)] {
      guard let field = head.pointee.first(name) else { continue }
      guard case .none = found else {
        self = .several
        return
      }
      found = .x402(field.valueRange, kind)
    }
    self = found
  }

  private static func shift(_ range: Range<Int>, by field: Field) -> Range<Int> {
    range.lowerBound + Int(field.valueStart)..<range.upperBound + Int(field.valueStart)
  }
}
