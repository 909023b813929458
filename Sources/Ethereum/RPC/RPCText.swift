import Bytes
import Encoding

/// Writes the values of JSON-RPC's parameters; nothing in them needs an escape.
enum RPCText {
  static func append(quantity: UInt64, to buffer: inout ByteBuffer) {
    buffer.append("\"0x")
    buffer.append(hexadecimal: quantity)
    buffer.append(byte: 0x22)
  }

  static func append(quantity: Word256, to buffer: inout ByteBuffer) {
    buffer.append(byte: 0x22)
    buffer.append(quantity.quantity)
    buffer.append(byte: 0x22)
  }

  static func append(data: [UInt8], to buffer: inout ByteBuffer) {
    buffer.append(byte: 0x22)
    HexData.append(data, to: &buffer)
    buffer.append(byte: 0x22)
  }

  static func append(_ digest: Digest32, to buffer: inout ByteBuffer) {
    buffer.append("\"0x")
    buffer.append(hex: digest)
    buffer.append(byte: 0x22)
  }

  static func append(_ address: Address, to buffer: inout ByteBuffer) {
    buffer.append(byte: 0x22)
    buffer.append(address)
    buffer.append(byte: 0x22)
  }

  /// Writes an array, its elements by a closure.
  static func append<T>(_ elements: [T], to buffer: inout ByteBuffer, _ write: (T, inout ByteBuffer) -> Void) {
    buffer.append(byte: 0x5B)
    for (index, element) in elements.enumerated() {
      if index > 0 { buffer.append(byte: 0x2C) }
      write(element, &buffer)
    }
    buffer.append(byte: 0x5D)
  }
}

/// Writes an object member by member.
struct RPCObject {
  private var isFirst = true

  mutating func member(_ name: StaticString, in buffer: inout ByteBuffer) {
    buffer.append(byte: isFirst ? 0x7B : 0x2C)
    isFirst = false
    buffer.append(byte: 0x22)
    buffer.append(name)
    buffer.append("\":")
  }

  mutating func end(in buffer: inout ByteBuffer) {
    if isFirst { buffer.append(byte: 0x7B) }
    buffer.append(byte: 0x7D)
  }
}
