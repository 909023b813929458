internal import Bytes

/// Decodes content as it passes, for an onlooker: octets in, cut anywhere, and decoded octets out, in pieces of bounded size. What
/// passes is not changed by it.
///
/// A gzip body may have several members, a zstd body several frames. After an error every later call throws the same.
public struct ContentDecoder: ~Copyable {
  /// Octets of the largest piece that comes out.
  public static let pieceSize = 16 << 10

  private enum State {
    /// `deflate` shows by its first two octets whether it is wrapped; the first of them may have come.
    case undecided(first: UInt8?)
    /// In the middle of a member.
    case inside(CodedStream)
    /// Between two members, or behind the only one.
    case between(CodedStream)
    case failed(CodingError)
  }

  private let limits: CodingLimits
  private var state: State
  private var output = ByteBuffer()
  private var isEmpty = true
  /// Octets that came, as they were sent.
  public private(set) var consumed: UInt64 = 0
  /// Octets that came out.
  public private(set) var produced: UInt64 = 0

  /// Begins with content in a coding; nil where there is nothing to decode.
  ///
  /// - Throws: `malformed` for a coding that cannot be read, `outOfMemory`.
  public init?(_ coding: ContentCoding, limits: CodingLimits = .standard) throws(CodingError) {
    switch coding {
    case .identity: return nil
    case .gzip: state = .inside(.zlib(try InflatingStream(.gzip)))
    case .deflate: state = .undecided(first: nil)
    case .brotli: state = .inside(.brotli(try BrotliStream()))
    case .zstandard: state = .inside(.zstandard(try ZstandardStream()))
    case .unreadable: throw .malformed
    }
    self.limits = limits
  }

  /// Takes what was sent next, and gives what comes out of it to `body`, piece by piece; a piece ends with the call.
  public mutating func decode(_ octets: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) throws(CodingError) {
    guard !octets.isEmpty else { return }
    isEmpty = false
    do throws(CodingError) {
      try take(octets, body)
    } catch {
      state = .failed(error)
      output.release()
      throw error
    }
  }

  /// Takes notice that the content ended whole.
  ///
  /// - Throws: `truncated` where it ended in the middle. No content at all is whole in every coding: answers to HEAD have none.
  public mutating func finish() throws(CodingError) {
    switch state {
    case .between: return
    case .undecided, .inside:
      guard !isEmpty else { return }
      state = .failed(.truncated)
      throw .truncated
    case .failed(let error): throw error
    }
  }

  private mutating func take(_ octets: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) throws(CodingError) {
    switch state {
    case .failed(let error): throw error
    case .undecided(nil):
      guard octets.count >= 2 else {
        state = .undecided(first: octets[0])
        return
      }
      state = .inside(.zlib(try InflatingStream(Self.wrapping(octets[0], octets[1]))))
      try run(octets, body)
    case .undecided(let first?):
      state = .inside(.zlib(try InflatingStream(Self.wrapping(first, octets[0]))))
      let kept: InlineArray<1, UInt8> = [first]
      try Self.lend(kept) { (one) throws(CodingError) in try run(one, body) }
      try run(octets, body)
    case .inside, .between: try run(octets, body)
    }
  }

  private static func lend(_ octet: InlineArray<1, UInt8>, _ body: (UnsafeRawBufferPointer) throws(CodingError) -> Void) throws(CodingError) {
    try octet.span.bytes.withUnsafeBytes(body)
  }

  /// Tells by its first octets whether deflated content is wrapped (RFC 1950, section 2.2), as its name says, or bare.
  private static func wrapping(_ first: UInt8, _ second: UInt8) -> InflatingStream.Wrapping {
    first & 0x0F == 8 && (UInt16(first) << 8 | UInt16(second)) % 31 == 0 ? .zlib : .none
  }

  private mutating func run(_ octets: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) throws(CodingError) {
    var rest = octets
    while true {
      let stream: CodedStream
      switch state {
      case .inside(let current): stream = current
      case .between(let ended):
        guard !rest.isEmpty else { return }
        guard ended.beginNext(rest) else { throw .trailingOctets }
        stream = ended
        state = .inside(ended)
      case .undecided: return
      case .failed(let error): throw error
      }
      let step = try step(stream, rest, body)
      rest = UnsafeRawBufferPointer(rebasing: rest[step.consumed...])
      switch step.state {
      case .ended: state = .between(stream)
      case .needsOutput: break
      case .needsInput: if rest.isEmpty || step.consumed == 0 { return }
      }
    }
  }

  /// Decodes one piece and gives it away.
  private mutating func step(
    _ stream: CodedStream, _ input: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void
  ) throws(CodingError) -> CodingStep {
    output.removeAll()
    var step = CodingStep(consumed: 0, produced: 0, state: .needsInput)
    try output.withUnsafeWritable(minimumCapacity: Self.pieceSize) { (space) throws(CodingError) in
      step = try stream.step(input, into: UnsafeMutableRawBufferPointer(rebasing: space[..<Self.pieceSize]))
      return step.produced
    }
    consumed &+= UInt64(step.consumed)
    produced &+= UInt64(step.produced)
    guard limits.allows(produced, of: consumed) else { throw .tooLarge }
    if !output.isEmpty { output.withUnsafeBytes(body) }
    return step
  }
}
