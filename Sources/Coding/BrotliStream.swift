internal import CBrotli

/// libbrotlidec's state (RFC 7932). Its window is at most 16 MiB, and takes memory as it fills.
final class BrotliStream {
  private let state: OpaquePointer

  init() throws(CodingError) {
    guard let state = BrotliDecoderCreateInstance(nil, nil, nil) else { throw .outOfMemory }
    self.state = state
  }

  deinit {
    // Safe because: this object is the only owner.
    BrotliDecoderDestroyInstance(state)
  }

  func step(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(CodingError) -> CodingStep {
    // Safe because: the pointers are used during the call only.
    var next = input.baseAddress?.assumingMemoryBound(to: UInt8.self)
    var space = output.baseAddress?.assumingMemoryBound(to: UInt8.self)
    var (left, room) = (input.count, output.count)
    let result = BrotliDecoderDecompressStream(state, &left, &next, &room, &space, nil)
    let (consumed, produced) = (input.count - left, output.count - room)
    switch result {
    case BROTLI_DECODER_RESULT_SUCCESS: return CodingStep(consumed: consumed, produced: produced, state: .ended)
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT: return CodingStep(consumed: consumed, produced: produced, state: .needsInput)
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT: return CodingStep(consumed: consumed, produced: produced, state: .needsOutput)
    default: throw Self.isOutOfMemory(state) ? .outOfMemory : .malformed
    }
  }

  private static func isOutOfMemory(_ state: OpaquePointer) -> Bool {
    let code = BrotliDecoderGetErrorCode(state).rawValue
    return code <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES.rawValue && code >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES.rawValue
  }
}
