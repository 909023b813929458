internal import CZstandard

/// libzstd's state (RFC 8878).
final class ZstandardStream {
  /// The largest window that a content coding may ask for: 8 MiB (RFC 9659).
  private static let windowLog: Int32 = 23

  private let context: OpaquePointer

  init() throws(CodingError) {
    guard let context = ZSTD_createDCtx() else { throw .outOfMemory }
    guard ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, Self.windowLog)) == 0 else {
      ZSTD_freeDCtx(context)
      throw .outOfMemory
    }
    self.context = context
  }

  deinit {
    // Safe because: this object is the only owner.
    ZSTD_freeDCtx(context)
  }

  func step(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) throws(CodingError) -> CodingStep {
    // Safe because: the pointers are used during the call only.
    var source = ZSTD_inBuffer(src: input.baseAddress, size: input.count, pos: 0)
    var destination = ZSTD_outBuffer(dst: output.baseAddress, size: output.count, pos: 0)
    let result = ZSTD_decompressStream(context, &destination, &source)
    guard ZSTD_isError(result) == 0 else { throw Self.error(result) }
    let state: CodingStep.State
    if result == 0 {
      state = .ended
    } else {
      state = destination.pos == destination.size ? .needsOutput : .needsInput
    }
    return CodingStep(consumed: source.pos, produced: destination.pos, state: state)
  }

  private static func error(_ result: Int) -> CodingError {
    switch ZSTD_getErrorCode(result) {
    case ZSTD_error_memory_allocation, ZSTD_error_frameParameter_windowTooLarge: .outOfMemory
    default: .malformed
    }
  }
}
