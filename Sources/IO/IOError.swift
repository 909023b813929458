/// What the operating system refused. `code` is the positive errno.
public enum IOError: Error, Equatable, Sendable {
  case cannotOpen(code: Int32)
  case cannotRegister(code: Int32)
  case cannotBind(code: Int32)
  case cannotListen(code: Int32)
  case cannotStartThread(code: Int32)
  case cannotResolve(code: Int32)
  case pathTooLong

  /// Gives the errno, or 0 where none belongs to the case.
  public var code: Int32 {
    switch self {
    case .cannotOpen(let code), .cannotRegister(let code), .cannotBind(let code), .cannotListen(let code),
      .cannotStartThread(let code), .cannotResolve(let code):
      code
    case .pathTooLong: 0
    }
  }
}
