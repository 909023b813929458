import Bytes
import HTTP
import IO
import Ledger

/// The paths that are ours whatever the routes say.
enum OwnPath {
  /// Tells cheaply that a path is surely not one of ours.
  @inline(__always)
  static func mayBe(_ path: UnsafeRawBufferPointer) -> Bool {
    guard path.count >= 7 else { return false }
    switch path[1] {
    case UInt8(ascii: "."), UInt8(ascii: "h"), UInt8(ascii: "r"), UInt8(ascii: "o"), UInt8(ascii: "l"), UInt8(ascii: "p"):
      return true
    default:
      return false
    }
  }

  static func equals(_ path: UnsafeRawBufferPointer, _ other: StaticString) -> Bool {
    guard path.count == other.utf8CodeUnitCount else { return false }
    return other.withUTF8Buffer { path.elementsEqual($0) }
  }

  static func begins(_ path: UnsafeRawBufferPointer, _ prefix: StaticString) -> Bool {
    guard path.count >= prefix.utf8CodeUnitCount else { return false }
    return prefix.withUTF8Buffer { UnsafeRawBufferPointer(rebasing: path[..<$0.count]).elementsEqual($0) }
  }
}

extension Worker {
  /// Answers a path of our own; false where it is none.
  mutating func answerOwnPath(
    _ index: Int, _ octets: UnsafeRawBufferPointer, _ path: UnsafeRawBufferPointer, _ query: UnsafeRawBufferPointer?
  ) -> Bool {
    if OwnPath.equals(path, "/healthz") { return answerProbe(index, isReady: true) }
    if OwnPath.equals(path, "/readyz") { return answerProbe(index, isReady: isReady) }
    guard
      OwnPath.begins(path, "/.well-known/") || OwnPath.begins(path, "/problems/") || OwnPath.equals(path, "/openapi.json")
        || OwnPath.equals(path, "/llms.txt")
    else { return false }
    guard cashier.owns(path) else { return false }
    if let refused = refusedByAddress(index) {
      answer(index, refused)
      return true
    }
    let request = paidRequest(index, nil, octets, path, query)
    switch cashier.answerOwn(request, at: wall) {
    case .free, .paid: return false
    case .answer(let reply): answer(index, reply)
    case .pending, .awaitPrice, .awaitSettlement: return false
    case .collectBody(let limit): startCollecting(index, octets, limit: limit)
    }
    return true
  }

  /// Whether paid requests can be served and none is turned away because of the end.
  private var isReady: Bool {
    guard !isDraining || successor != nil else { return false }
    guard let ledger else { return true }
    switch ledger.availability {
    case .selling: return true
    case .closingOnly, .unavailable: return false
    }
  }

  private mutating func answerProbe(_ index: Int, isReady: Bool) -> Bool {
    let method = downstreams.pointer(index).pointee.method
    guard method == .get || method == .head else {
      fail(index, .methodNotAllowed([MethodSet(.get), MethodSet(.head)]))
      return true
    }
    guard isReady else {
      fail(index, .notReady)
      return true
    }
    let fields = Array("Content-Type: text/plain\r\nCache-Control: no-store\r\n".utf8)
    answer(index, Answer(status: 200, fields: fields, body: Array("ok\n".utf8)))
    return true
  }

  /// Answers `OPTIONS *`, which asks about the server and not about a resource.
  mutating func answerAsterisk(_ index: Int) {
    answer(index, Answer(status: 204, fields: Array("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY\r\n".utf8), body: []))
  }
}
