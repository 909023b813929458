import Bytes
import Encoding

/// Reads `WWW-Authenticate` as a client: several challenges in a value, quoted strings, other schemes between
/// (RFC 9110 section 11.3, draft-httpauth-payment-02 "Challenge").
public enum ChallengeList {
  /// The most octets of a field value that are read.
  public static let valueLimit = 64 * 1024
  /// The most Payment challenges that are taken from one field value.
  public static let challengeLimit = 32

  /// Returns the Payment challenges that are complete and well formed, in order; others are passed over.
  public static func parse(_ fieldValue: String) -> [Challenge] {
    results(fieldValue).compactMap { try? $0.get() }
  }

  /// Returns the Payment challenges of several field lines.
  public static func parse(_ fieldValues: [String]) -> [Challenge] {
    fieldValues.flatMap { parse($0) }
  }

  static func results(_ fieldValue: String) -> [Result<Challenge, PaymentError>] {
    guard fieldValue.utf8.count <= valueLimit else { return [.failure(.tooLarge(limit: valueLimit))] }
    var scanner = ChallengeScanner(Array(fieldValue.utf8))
    return scanner.scan()
  }
}

extension Challenge {
  /// Reads the first Payment challenge of a field value, and says why it is refused.
  ///
  /// - Throws: `notPaymentScheme`, `missing`, `duplicate`, `malformed`, `notBase64URL`, `malformedJSON`, `notAnObject`,
  ///   `tooLarge` or `malformedChallenge`.
  public static func parse(_ fieldValue: String) throws(PaymentError) -> Challenge {
    guard let first = ChallengeList.results(fieldValue).first else { throw .notPaymentScheme }
    return try first.get()
  }
}

/// Walks through the elements of one field value.
///
/// What follows a syntax error is dropped, the parameters before it stand: servers that forget to escape a
/// description are met in the field, and only what was read whole is ever used.
private struct ChallengeScanner {
  private let octets: [UInt8]
  private var position = 0
  private var results: [Result<Challenge, PaymentError>] = []
  private var current: ChallengeParameters?

  init(_ octets: [UInt8]) { self.octets = octets }

  mutating func scan() -> [Result<Challenge, PaymentError>] {
    while results.count < ChallengeList.challengeLimit {
      skip { $0 == 0x20 || $0 == 0x09 || $0 == 0x2C }
      guard position < octets.count, element() else { break }
    }
    finish()
    return results
  }

  /// Reads one list element; false where the syntax ends.
  private mutating func element() -> Bool {
    let name = token()
    guard !name.isEmpty else { return false }
    let end = position
    skip { $0 == 0x20 || $0 == 0x09 }
    if position < octets.count, octets[position] == 0x3D {
      return parameter(name)
    }
    guard position == octets.count || octets[position] == 0x2C || position > end else { return false }
    finish()
    current = name == "payment" ? ChallengeParameters() : nil
    return current != nil ? firstParameter() : otherCredentials()
  }

  /// Reads what follows the Payment scheme: a parameter, or nothing.
  private mutating func firstParameter() -> Bool {
    guard position < octets.count, octets[position] != 0x2C else { return true }
    let name = token()
    skip { $0 == 0x20 || $0 == 0x09 }
    guard !name.isEmpty, position < octets.count, octets[position] == 0x3D else { return false }
    return parameter(name)
  }

  /// Passes over the token68 or the first parameter of another scheme.
  private mutating func otherCredentials() -> Bool {
    var quoted = false
    while position < octets.count {
      let octet = octets[position]
      if quoted, octet == 0x5C {
        position += 1
      } else if octet == 0x22 {
        quoted.toggle()
      } else if octet == 0x2C, !quoted {
        break
      }
      position += 1
    }
    position = min(position, octets.count)
    return true
  }

  /// Reads `"=" BWS ( token / quoted-string )`, standing at the sign.
  private mutating func parameter(_ name: String) -> Bool {
    position += 1
    skip { $0 == 0x20 || $0 == 0x09 }
    guard let value = position < octets.count && octets[position] == 0x22 ? quotedString() : tokenValue() else { return false }
    current?.take(name, value)
    skip { $0 == 0x20 || $0 == 0x09 }
    return position == octets.count || octets[position] == 0x2C
  }

  /// Reads a quoted-string; nil where it does not end.
  private mutating func quotedString() -> [UInt8]? {
    var value: [UInt8] = []
    position += 1
    while position < octets.count {
      switch octets[position] {
      case 0x22:
        position += 1
        return value
      case 0x5C:
        guard position + 1 < octets.count else { return nil }
        value.append(octets[position + 1])
        position += 2
      case let octet:
        value.append(octet)
        position += 1
      }
    }
    return nil
  }

  private mutating func tokenValue() -> [UInt8]? {
    let start = position
    skip { ChallengeScanner.isTokenOctet($0) }
    return position > start ? Array(octets[start..<position]) : nil
  }

  /// Reads a token in lower case: scheme and parameter names have no case.
  private mutating func token() -> String {
    let start = position
    skip { ChallengeScanner.isTokenOctet($0) }
    return String(decoding: octets[start..<position], as: UTF8.self).lowercased()
  }

  private mutating func finish() {
    if let parameters = current { results.append(parameters.challenge()) }
    current = nil
  }

  private mutating func skip(while condition: (UInt8) -> Bool) {
    while position < octets.count, condition(octets[position]) { position += 1 }
  }

  private static func isTokenOctet(_ octet: UInt8) -> Bool {
    switch octet {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    case 0x21, 0x23...0x27, 0x2A, 0x2B, 0x2D, 0x2E, 0x5E, 0x5F, 0x60, 0x7C, 0x7E: true
    default: false
    }
  }
}

/// Collects the parameters of one Payment challenge.
private struct ChallengeParameters {
  private var values: [PaymentError.Member: [UInt8]] = [:]
  private var failure: PaymentError?

  private static let known: [String: PaymentError.Member] = [
    "id": .id, "realm": .realm, "method": .method, "intent": .intent, "request": .request, "expires": .expires,
    "digest": .digest, "opaque": .opaque, "header": .header, "description": .description,
  ]

  /// Keeps a parameter; names that are unknown are ignored, as the draft demands.
  mutating func take(_ name: String, _ value: [UInt8]) {
    guard let member = ChallengeParameters.known[name] else { return }
    if values.updateValue(value, forKey: member) != nil, failure == nil { failure = .duplicate(member) }
  }

  func challenge() -> Result<Challenge, PaymentError> {
    do { return .success(try checked()) } catch { return .failure(error) }
  }

  private func checked() throws(PaymentError) -> Challenge {
    if let failure { throw failure }
    let method = try required(.method)
    guard MethodIdentifier.isMethod(method) else { throw .malformed(.method) }
    let intent = try required(.intent)
    guard MethodIdentifier.isIntent(intent) else { throw .malformed(.intent) }
    let header = try optional(.header)
    guard header == nil || header == Challenge.alternateField else { throw .malformed(.header) }
    let opaque = try optional(.opaque)
    if let opaque { try Challenge.checkFlat(try EncodedObject.decode(opaque, limit: Challenge.requestLimit)) }
    let challenge = Challenge(
      id: try required(.id), realm: try required(.realm), method: method, intent: intent,
      request: try required(.request), expires: try optional(.expires), digest: try optional(.digest), opaque: opaque,
      selectsAlternateField: header != nil,
      description: values[.description].map { String(decoding: $0, as: UTF8.self) })
    _ = try challenge.requestObject()
    return challenge
  }

  private func required(_ member: PaymentError.Member) throws(PaymentError) -> String {
    guard let text = try optional(member), !text.isEmpty else { throw .missing(member) }
    return text
  }

  private func optional(_ member: PaymentError.Member) throws(PaymentError) -> String? {
    guard let value = values[member] else { return nil }
    guard let text = String(validating: value, as: UTF8.self) else { throw .malformed(member) }
    return text
  }
}
