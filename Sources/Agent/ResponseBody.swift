import Encoding
import HTTP

/// Reads the body of one answer, piece by piece, as the caller asks for it.
///
/// Nothing is read ahead of the caller, so a slow caller slows the server down rather than filling memory.
final class ResponseBody {
  /// What one read brought.
  enum Part: Equatable {
    case octets([UInt8])
    /// Nothing came until the given instant; the body goes on.
    case silent
    case end
  }

  /// The octets of one piece at most.
  static let pieceByteCount = 65536

  /// The octets handed out until now.
  private(set) var byteCount: UInt64 = 0
  /// The trailer fields, once the end was reached.
  private(set) var trailers: [AgentRequest.Field] = []

  private enum State {
    case length(UInt64)
    case chunked
    case untilClose
    case ended
  }

  private let connection: HTTPConnection
  private var state: State
  private var chunks = ChunkedDecoder()

  init(connection: HTTPConnection, framing: BodyFraming) {
    self.connection = connection
    switch framing {
    case .none: state = .ended
    case .length(let count): state = count == 0 ? .ended : .length(count)
    case .chunked: state = .chunked
    case .untilClose: state = .untilClose
    }
    if isEnded { connection.rest() }
  }

  /// Whether all of the body was read.
  var isEnded: Bool {
    switch state {
    case .ended: true
    case .length, .chunked, .untilClose: false
    }
  }

  /// Waits for the next piece until the instant, nil meaning as long as the limits allow.
  ///
  /// - Throws: `.cutShort` where the connection ends before the body does.
  func next(until: Instant? = nil) throws(AgentError) -> Part {
    let part: Part
    switch state {
    case .ended: return .end
    case .length(let left): part = try nextCounted(left, until: until)
    case .chunked: part = try nextChunk(until: until)
    case .untilClose: part = try nextUntilClose(until: until)
    }
    if case .octets(let octets) = part { byteCount += UInt64(octets.count) }
    if isEnded { connection.rest() }
    return part
  }

  private func nextCounted(_ left: UInt64, until: Instant?) throws(AgentError) -> Part {
    let read = try connection.read(until: until) { octets throws(AgentError) -> ([UInt8], Int) in
      let count = Int(min(left, UInt64(octets.count), UInt64(Self.pieceByteCount)))
      return ([UInt8](octets.prefix(count)), count)
    }
    switch read {
    case .silent: return .silent
    case .closed: throw .cutShort(received: byteCount)
    case .some(let octets):
      let rest = left - UInt64(octets.count)
      state = rest == 0 ? .ended : .length(rest)
      return .octets(octets)
    }
  }

  private func nextUntilClose(until: Instant?) throws(AgentError) -> Part {
    let read = try connection.read(until: until) { octets throws(AgentError) -> ([UInt8], Int) in
      ([UInt8](octets.prefix(Self.pieceByteCount)), min(octets.count, Self.pieceByteCount))
    }
    switch read {
    case .silent: return .silent
    case .closed:
      state = .ended
      connection.spoil()
      return .end
    case .some(let octets): return .octets(octets)
    }
  }

  private enum Step {
    case octets([UInt8])
    case more
    case end
  }

  private func nextChunk(until: Instant?) throws(AgentError) -> Part {
    while true {
      let read = try connection.read(until: until) { octets throws(AgentError) -> (Step, Int) in
        try self.decode(octets)
      }
      switch read {
      case .silent: return .silent
      case .closed: throw .cutShort(received: byteCount)
      case .some(.octets(let octets)): return .octets(octets)
      case .some(.end):
        state = .ended
        trailers = Self.fields(of: chunks.trailers)
        return .end
      case .some(.more): continue
      }
    }
  }

  private func decode(_ octets: UnsafeRawBufferPointer) throws(AgentError) -> (Step, Int) {
    var used = 0
    do throws(HTTPError) {
      switch try chunks.decode(octets, consumed: &used) {
      case .needMore: return (.more, used)
      case .data(let range): return (.octets([UInt8](octets[range])), used)
      case .end: return (.end, used)
      }
    } catch {
      throw .malformedResponse(error)
    }
  }

  /// Splits the trailer section that the decoder has validated into its lines.
  private static func fields(of trailers: [UInt8]) -> [AgentRequest.Field] {
    trailers.split(whereSeparator: { $0 == 0x0A }).compactMap { line in
      let line = line.last == 0x0D ? line.dropLast() : line
      guard let colon = line.firstIndex(of: UInt8(ascii: ":")) else { return nil }
      let value = line[(colon + 1)...].drop { $0 == 0x20 || $0 == 9 }
      return AgentRequest.Field(
        name: String(decoding: line[..<colon], as: UTF8.self), value: String(decoding: value, as: UTF8.self))
    }
  }

  /// Reads the rest where that is cheap, so that the connection can be used again; otherwise gives the connection up.
  func discard() {
    var left = HTTPLimits.drainByteLimit
    while !isEnded {
      guard left > 0, let part = try? next(until: Instant.now() + .milliseconds(200)) else { return connection.spoil() }
      switch part {
      case .octets(let octets): left -= octets.count
      case .silent: return connection.spoil()
      case .end: return
      }
    }
  }

  /// Reads all of a small document.
  ///
  /// - Throws: `.responseTooLarge` over `limit` octets.
  func collect(limit: Int) throws(AgentError) -> [UInt8] {
    var all: [UInt8] = []
    while true {
      switch try next() {
      case .octets(let octets):
        guard octets.count <= limit - all.count else {
          connection.spoil()
          throw .responseTooLarge
        }
        all += octets
      case .silent: continue
      case .end: return all
      }
    }
  }
}
