/// Says why a contract reverted a call, as far as the data that it returned tells.
public enum RevertReason: Hashable, Sendable {
  /// A text of the contract's author, `Error(string)`; it is the contract's own and not to be trusted.
  case message(String)
  /// A broken assertion, overflow or the like, `Panic(uint256)`, with the compiler's code.
  case panic(Word256)
  /// An error of the contract's own by its selector, with its arguments.
  case custom(Selector, [UInt8])
  /// Nothing was said.
  case none

  /// The selector of `Error(string)`.
  public static let messageFunction = ABIFunction("Error", [.string])
  /// The selector of `Panic(uint256)`.
  public static let panicFunction = ABIFunction("Panic", [.uint256])

  /// Reads the data of a reverted call; what is not one of the compiler's two errors is the contract's own.
  public init(_ data: [UInt8]) {
    guard let selector = Selector(of: data) else {
      self = .none
      return
    }
    if selector == Self.messageFunction.selector,
      let text = try? Self.messageFunction.arguments(of: data, form: .bounded).first?.stringValue
    {
      self = .message(text)
    } else if selector == Self.panicFunction.selector,
      let code = try? Self.panicFunction.arguments(of: data, form: .bounded).first?.uintValue
    {
      self = .panic(code)
    } else {
      self = .custom(selector, [UInt8](data.dropFirst(4)))
    }
  }
}
