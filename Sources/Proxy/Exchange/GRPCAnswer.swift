import Bytes
import HTTP

/// Says what an answer of our own says in the words of gRPC, where a route is configured so: a library knows `grpc-status`, and shows
/// its user the other fields as trailing metadata, the challenge among them.
enum GRPCAnswer {
  /// Whether a request's content is gRPC's: its media type, with or without the name of a message format.
  static func isAsked(by head: borrowing RequestHead, _ octets: UnsafeRawBufferPointer) -> Bool {
    guard let field = head.first(.contentType) else { return false }
    let value = field.value(in: octets)
    let type: StaticString = "application/grpc"
    guard value.count >= type.utf8CodeUnitCount else { return false }
    let isType = type.withUTF8Buffer { expected in
      zip(value, expected).allSatisfy { octet, wanted in (0x41...0x5A).contains(octet) ? octet | 0x20 == wanted : octet == wanted }
    }
    guard isType, value.count > type.utf8CodeUnitCount else { return isType }
    switch value[type.utf8CodeUnitCount] {
    case UInt8(ascii: "+"), UInt8(ascii: ";"), 0x20, 0x09: return true
    default: return false
    }
  }

  /// The status of gRPC that comes closest. A client that may pay and try again learns that it is not authenticated.
  static func status(_ status: UInt16) -> UInt64 {
    switch status {
    case 400, 422, 431: 3  // INVALID_ARGUMENT
    case 401, 402: 16  // UNAUTHENTICATED
    case 403: 7  // PERMISSION_DENIED
    case 404, 405, 421, 501: 12  // UNIMPLEMENTED
    case 408, 504: 4  // DEADLINE_EXCEEDED
    case 409: 10  // ABORTED
    case 413, 429: 8  // RESOURCE_EXHAUSTED
    case 410: 9  // FAILED_PRECONDITION
    case 502, 503: 14  // UNAVAILABLE
    case 500: 13  // INTERNAL
    default: 2  // UNKNOWN
    }
  }

  /// Gives the status of HTTP by which a response's price is decided: one that consists of trailers only tells at once how the call
  /// ended, in place of HTTP's 200.
  static func status(of head: borrowing ResponseHead, _ octets: UnsafeRawBufferPointer) -> UInt16 {
    guard head.status == 200 else { return head.status }
    let name: StaticString = "grpc-status"
    for field in head.fields where field.name == .other && field.nameRange.count == name.utf8CodeUnitCount {
      let isName = name.withUTF8Buffer { zip(octets[field.nameRange], $0).allSatisfy { $0 | 0x20 == $1 } }
      if isName { return httpStatus(UnsafeRawBufferPointer(rebasing: octets[field.valueRange])) }
    }
    return head.status
  }

  /// The status of HTTP that gRPC's own mapping to it gives for a number.
  private static func httpStatus(_ number: UnsafeRawBufferPointer) -> UInt16 {
    switch String(decoding: number, as: UTF8.self) {
    case "0": 200  // OK
    case "1": 499  // CANCELLED
    case "3", "9", "11": 400  // INVALID_ARGUMENT, FAILED_PRECONDITION, OUT_OF_RANGE
    case "4": 504  // DEADLINE_EXCEEDED
    case "5": 404  // NOT_FOUND
    case "6", "10": 409  // ALREADY_EXISTS, ABORTED
    case "7": 403  // PERMISSION_DENIED
    case "8": 429  // RESOURCE_EXHAUSTED
    case "12": 501  // UNIMPLEMENTED
    case "14": 503  // UNAVAILABLE
    case "16": 401  // UNAUTHENTICATED
    default: 500  // UNKNOWN, INTERNAL, DATA_LOSS, and what is none
    }
  }

  /// The trailers of a call that ends for want of money; nil for other ends, which a reset tells.
  static func trailers(_ end: ExchangeEnd) -> StaticString? {
    switch end {
    case .holdTimeout: "grpc-status: 8\r\ngrpc-message: The session's budget is used up.\r\n"
    case .sessionStopped: "grpc-status: 9\r\ngrpc-message: The session was closed.\r\n"
    case .complete, .upstreamFailed, .upstreamBroke, .clientLeft, .abandoned, .ledgerLost: nil
    }
  }

  /// Makes a trailers-only answer of an error: all in one head, and no content.
  static func make(_ reply: Answer) -> Answer {
    var fields = ByteBuffer(capacity: reply.fields.count + 128)
    fields.append("Content-Type: application/grpc\r\nGrpc-Status: ")
    fields.append(decimal: status(reply.status))
    fields.append("\r\nGrpc-Message: ")
    // Reason phrases have nothing that would have to be escaped.
    fields.append(Status.reason(reply.status))
    fields.append("\r\n")
    for line in reply.fields.split(separator: 0x0A) where !isContentType(line) {
      fields.append(line)
      fields.append("\n")
    }
    return Answer(status: 200, fields: fields.array(), body: [], after: reply.after, closes: reply.closes)
  }

  private static func isContentType(_ line: ArraySlice<UInt8>) -> Bool {
    let name: StaticString = "content-type:"
    guard line.count >= name.utf8CodeUnitCount else { return false }
    return name.withUTF8Buffer { expected in zip(line, expected).allSatisfy { $0 | 0x20 == $1 | 0x20 } }
  }
}
