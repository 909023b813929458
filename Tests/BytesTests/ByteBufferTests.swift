import Bytes
import Testing

@Suite struct ByteBufferTests {
  @Test func appendsConsumesAndGrows() {
    var buffer = ByteBuffer()
    #expect(buffer.capacity == 0)
    var expected: [UInt8] = []
    var state: UInt64 = 7
    for _ in 0..<2000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let count = Int(state >> 33) % 90
      let octets = (0..<count).map { UInt8(truncatingIfNeeded: $0 &+ Int(state >> 40)) }
      buffer.append(octets)
      expected += octets
      let consumed = min(expected.count, Int(state >> 50) % 95)
      buffer.removeFirst(consumed)
      expected.removeFirst(consumed)
      guard buffer.count == expected.count, buffer.array() == expected else {
        Issue.record("the buffer differs from the model")
        return
      }
    }
    buffer.release()
    #expect(buffer.capacity == 0)
    #expect(buffer.count == 0)
    #expect(buffer.array().isEmpty)
  }

  @Test func appendsEveryKindOfText() {
    var buffer = ByteBuffer(capacity: 3)
    buffer.append("literal ")
    buffer.append("x")
    buffer.append("é")
    let text = "string \(1)"
    buffer.append(text)
    buffer.append(text.prefix(2))
    buffer.append(byte: 0x21)
    buffer.append(repeating: 0x2D, count: 3)
    buffer.append([1, 2, 3][1...])
    #expect(buffer.array() == [UInt8]("literal xéstring 1st!---".utf8) + [2, 3])
  }

  @Test func writesNumbers() {
    func written(_ body: (inout ByteBuffer) -> Void) -> String {
      var buffer = ByteBuffer()
      body(&buffer)
      return buffer.string()
    }
    var values: [UInt64] = [0, 1, 9, 10, 99, 100, .max, .max - 1]
    var power: UInt64 = 1
    for _ in 0..<19 {
      power *= 10
      values += [power - 1, power, power + 1]
    }
    for shift in 0..<64 { values.append(1 << UInt64(shift)) }
    for value in values {
      #expect(written { $0.append(decimal: value) } == String(value))
      #expect(written { $0.append(hexadecimal: value) } == String(value, radix: 16))
    }
    let wide: [UInt128] = [
      0, 9, UInt128(UInt64.max), UInt128(UInt64.max) + 1, 10_000_000_000_000_000_000, 100_000_000_000_000_000_000, .max,
    ]
    for value in wide { #expect(written { $0.append(decimal: value) } == String(value)) }
    #expect(written { $0.append(decimal: UInt64(7), digits: 3) } == "007")
    #expect(written { $0.append(decimal: 42 as Int) } == "42")
  }

  @Test func overwritesAndTruncates() {
    var buffer = ByteBuffer()
    buffer.append("xxabcdef")
    buffer.removeFirst(2)
    buffer.overwrite(at: 2, with: [UInt8]("YZ".utf8))
    #expect(buffer.string() == "abYZef")
    buffer.truncate(to: 3)
    #expect(buffer.string() == "abY")
    let storage = buffer.capacity
    buffer.removeAll()
    #expect(buffer.count == 0)
    #expect(buffer.capacity == storage)
  }

  @Test func writesInPlaceAndLendsItsOctets() {
    var buffer = ByteBuffer()
    let written = buffer.withUnsafeWritable(minimumCapacity: 100) { free in
      #expect(free.count >= 100)
      free[0] = 65
      free[1] = 66
      return 2
    }
    #expect(written == 2)
    var copy = ByteBuffer()
    copy.append(buffer.bytes)
    copy.append(buffer)
    #expect(copy.string() == "ABAB")
    #expect(ByteBuffer().bytes.byteCount == 0)
  }

  @Test func refusesToConsumeMoreThanThereIs() async {
    await #expect(processExitsWith: .failure) {
      var buffer = ByteBuffer()
      buffer.append("abc")
      buffer.removeFirst(4)
    }
    await #expect(processExitsWith: .failure) {
      var buffer = ByteBuffer()
      buffer.append("abc")
      buffer.overwrite(at: 2, with: [1, 2])
    }
  }
}
