import CBrotliEncoder
import CZlib
import CZstandard

/// What the libraries themselves make of octets.
enum Encoders {
  static func deflated(_ octets: [UInt8], windowBits: Int32, level: Int32 = 6) -> [UInt8] {
    let stream = UnsafeMutablePointer<z_stream>.allocate(capacity: 1)
    stream.initialize(to: z_stream())
    defer { stream.deallocate() }
    precondition(zlib_start_deflating(stream, level, windowBits) == Z_OK)
    var out = [UInt8](repeating: 0, count: octets.count * 2 + 256)
    var input = octets
    let count = input.withUnsafeMutableBufferPointer { input in
      out.withUnsafeMutableBufferPointer { out in
        stream.pointee.next_in = input.baseAddress
        stream.pointee.avail_in = UInt32(input.count)
        stream.pointee.next_out = out.baseAddress
        stream.pointee.avail_out = UInt32(out.count)
        precondition(deflate(stream, Z_FINISH) == Z_STREAM_END)
        return out.count - Int(stream.pointee.avail_out)
      }
    }
    deflateEnd(stream)
    return Array(out[..<count])
  }

  static func gzip(_ octets: [UInt8]) -> [UInt8] { deflated(octets, windowBits: 15 + 16) }

  static func brotli(_ octets: [UInt8]) -> [UInt8] {
    var count = BrotliEncoderMaxCompressedSize(octets.count) + 64
    var out = [UInt8](repeating: 0, count: count)
    let isDone = BrotliEncoderCompress(5, 18, BROTLI_MODE_GENERIC, octets.count, octets, &count, &out)
    precondition(isDone == BROTLI_TRUE)
    return Array(out[..<count])
  }

  static func zstandard(_ octets: [UInt8], level: Int32 = 3) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: ZSTD_compressBound(octets.count))
    let count = ZSTD_compress(&out, out.count, octets, octets.count, level)
    precondition(ZSTD_isError(count) == 0)
    return Array(out[..<count])
  }
}
