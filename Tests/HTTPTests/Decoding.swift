import Bytes

@testable import HTTP

/// What a decoder made of some octets: a head, a refusal, or nothing yet.
enum Outcome<Head> {
  case head(Head)
  case refused(HTTPError)
  case incomplete
}

func decodeRequest(_ octets: [UInt8], limits: HeadLimits = .standard) -> Outcome<RequestHead> {
  var head = RequestHead()
  do {
    let isComplete = try octets.withUnsafeBytes { bytes in
      try RequestDecoder.decode(bytes, limits: limits, into: &head)
    }
    return isComplete ? .head(head) : .incomplete
  } catch let error as HTTPError {
    return .refused(error)
  } catch {
    return .incomplete
  }
}

/// Decodes what arrives in pieces that end at the given counts, in one head.
func decodeRequest(_ octets: [UInt8], arrivingAt counts: [Int], limits: HeadLimits = .standard) -> Outcome<RequestHead> {
  var head = RequestHead()
  for count in counts {
    do {
      let isComplete = try octets.withUnsafeBytes { bytes in
        try RequestDecoder.decode(UnsafeRawBufferPointer(rebasing: bytes[..<count]), limits: limits, into: &head)
      }
      if isComplete { return .head(head) }
    } catch let error as HTTPError {
      return .refused(error)
    } catch {
      return .incomplete
    }
  }
  return .incomplete
}

func decodeResponse(
  _ octets: [UInt8], arrivingAt counts: [Int]? = nil, method: Method = .get, limits: HeadLimits = .standard
) -> Outcome<ResponseHead> {
  var head = ResponseHead()
  for count in counts ?? [octets.count] {
    do {
      let isComplete = try octets.withUnsafeBytes { bytes in
        try ResponseDecoder.decode(
          UnsafeRawBufferPointer(rebasing: bytes[..<count]), limits: limits, requestMethod: method, into: &head)
      }
      if isComplete { return .head(head) }
    } catch let error as HTTPError {
      return .refused(error)
    } catch {
      return .incomplete
    }
  }
  return .incomplete
}

extension Outcome {
  var head: Head? { if case .head(let head) = self { head } else { nil } }
  var error: HTTPError? { if case .refused(let error) = self { error } else { nil } }
  var isIncomplete: Bool { if case .incomplete = self { true } else { false } }
}

/// Makes a request of a request line and field lines.
func request(_ line: String = "GET / HTTP/1.1", _ fields: String..., host: String? = "Host: example.com") -> [UInt8] {
  Array(([line] + (host.map { [$0] } ?? []) + fields + ["", ""]).joined(separator: "\r\n").utf8)
}

func text(_ octets: [UInt8], _ range: Range<Int>) -> String { String(decoding: octets[range], as: UTF8.self) }

/// A small generator with a seed (splitmix64), so that a failing case can be had again.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}
