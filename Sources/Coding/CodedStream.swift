/// What one call of a library has come to.
struct CodingStep {
  /// Octets of the input that are used up.
  var consumed: Int
  /// Octets that were written to the output.
  var produced: Int
  var state: State

  enum State {
    /// Everything that could be said of the input has been said.
    case needsInput
    /// The output was too small for all of it.
    case needsOutput
    /// The coded content is whole; what follows is something else.
    case ended
  }
}

/// One library's state in the middle of content.
enum CodedStream {
  case zlib(InflatingStream)
  case brotli(BrotliStream)
  case zstandard(ZstandardStream)

  /// Decodes as much as fits.
  func step(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(CodingError) -> CodingStep {
    switch self {
    case .zlib(let stream): try stream.step(input, into: output)
    case .brotli(let stream): try stream.step(input, into: output)
    case .zstandard(let stream): try stream.step(input, into: output)
    }
  }

  /// Begins with another member behind one that ended, where the coding has several; false where it has none, or these octets begin none.
  func beginNext(_ rest: UnsafeRawBufferPointer) -> Bool {
    switch self {
    case .zlib(let stream): stream.beginNext(rest)
    case .brotli: false
    // Any number of frames, one behind another (RFC 8878, section 3.1); the library sees by itself whether it is one.
    case .zstandard: true
    }
  }
}
