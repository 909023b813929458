import Bytes
import Crypto

/// Holds the first four octets of a function's or an error's hashed signature.
public struct Selector: Hashable, Sendable {
  /// The octets as a big-endian number.
  public let number: UInt32

  /// Takes the number.
  public init(_ number: UInt32) {
    self.number = number
  }

  /// Hashes a signature such as `transfer(address,uint256)`.
  public init(signature: String) {
    self.init(
      Keccak256.hash(signature).withUnsafeBytes { octets in
        // Safe because: a digest has 32 octets, and the load asks for no alignment.
        UInt32(bigEndian: octets.loadUnaligned(as: UInt32.self))
      })
  }

  /// Reads the first four octets of a call or of a reverted call's data; nil where there are fewer.
  public init?(of data: UnsafeRawBufferPointer) {
    guard data.count >= 4 else { return nil }
    // Safe because: four octets are there, and the load asks for no alignment.
    self.init(UInt32(bigEndian: data.loadUnaligned(as: UInt32.self)))
  }

  /// Reads the first four octets, as above.
  public init?(of data: [UInt8]) {
    guard let selector = data.withUnsafeBytes({ Selector(of: $0) }) else { return nil }
    self = selector
  }
}

/// Holds a contract's function: its name and the types that it takes and returns.
public struct ABIFunction: Hashable, Sendable {
  /// The name and the types of arguments, such as `transfer(address,uint256)`.
  public let signature: String
  /// What a call begins with.
  public let selector: Selector
  /// The types of the arguments.
  public let parameters: [ABIType]
  /// The types of what is returned.
  public let results: [ABIType]

  /// Takes a name and types.
  public init(_ name: String, _ parameters: [ABIType], returns results: [ABIType] = []) {
    signature = name + ABIType.names(parameters)
    selector = Selector(signature: signature)
    self.parameters = parameters
    self.results = results
  }

  /// Encodes a call.
  ///
  /// - Precondition: the values are of the function's types; the callers are the functions of this module's contracts.
  func call(_ values: ABIValue...) -> [UInt8] { call(values: values) }

  /// Encodes a call, as above.
  func call(values: [ABIValue]) -> [UInt8] {
    precondition(ABIValue.tuple(values).isOf(.tuple(parameters)))
    return encoding(of: values)
  }

  /// Encodes a call with values that come from elsewhere.
  ///
  /// - Throws: `wrongTypes` where the values are not of the function's types.
  public func call(with values: [ABIValue]) throws(EthereumError) -> [UInt8] {
    guard ABIValue.tuple(values).isOf(.tuple(parameters)) else { throw .abi(.wrongTypes, offset: 0) }
    return encoding(of: values)
  }

  private func encoding(of values: [ABIValue]) -> [UInt8] {
    var buffer = ByteBuffer(capacity: 4 + values.count * 32)
    withUnsafeBytes(of: selector.number.bigEndian) { buffer.append($0) }
    // The arguments are encoded apart: their offsets do not count the selector.
    buffer.append(ABI.encode(values))
    return buffer.array()
  }

  /// Decodes the arguments of a call, in canonical form unless asked otherwise.
  ///
  /// - Throws: `wrongSelector`, or the rule that the data breaks; offsets count from behind the selector.
  public func arguments(
    of data: UnsafeRawBufferPointer, form: ABI.Form = .canonical, limits: ABI.Limits = .standard
  ) throws(EthereumError) -> [ABIValue] {
    guard Selector(of: data) == selector else { throw .abi(.wrongSelector, offset: 0) }
    return try ABI.decode(UnsafeRawBufferPointer(rebasing: data[4...]), as: parameters, form: form, limits: limits)
  }

  /// Decodes the arguments of a call, as above.
  public func arguments(
    of data: [UInt8], form: ABI.Form = .canonical, limits: ABI.Limits = .standard
  ) throws(EthereumError) -> [ABIValue] {
    try data.withUnsafeBufferPointer { (octets) throws(EthereumError) in
      try arguments(of: UnsafeRawBufferPointer(octets), form: form, limits: limits)
    }
  }

  /// Decodes what a call returned.
  ///
  /// - Throws: the rule that the data breaks.
  public func results(of data: [UInt8], limits: ABI.Limits = .standard) throws(EthereumError) -> [ABIValue] {
    try ABI.decode(data, as: results, form: .bounded, limits: limits)
  }
}
