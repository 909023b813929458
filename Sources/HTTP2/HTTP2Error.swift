/// The error codes of RFC 9113 section 7; codes outside the registry count as `internalError`.
public enum HTTP2ErrorCode: UInt32, Error, Sendable, CaseIterable {
  case noError = 0x0
  case protocolError = 0x1
  case internalError = 0x2
  case flowControlError = 0x3
  case settingsTimeout = 0x4
  case streamClosed = 0x5
  case frameSizeError = 0x6
  case refusedStream = 0x7
  case cancel = 0x8
  case compressionError = 0x9
  case connectError = 0xA
  case enhanceYourCalm = 0xB
  case inadequateSecurity = 0xC
  case http11Required = 0xD

  init(code: UInt32) { self = HTTP2ErrorCode(rawValue: code) ?? .internalError }
}

/// Says why a call of a session failed.
public enum HTTP2Error: Error, Hashable, Sendable {
  /// What the client sent first is not the preface of RFC 9113 section 3.4; nothing can be answered.
  case prefaceInvalid
  /// The connection is ended with GOAWAY of this code, which is in the output.
  case connectionError(HTTP2ErrorCode)
  /// nghttp2 gave up (memory, or its own bound on unread acknowledgements); the connection is closed without more.
  case sessionFailed
  /// The stream is closed, or was never open.
  case streamClosed
  /// A head of the proxy's own is no HTTP/1.1 head; the offset is where.
  case headInvalid(at: Int)
  /// The peer takes no more requests now: its limit is reached, or it is going away.
  case requestRefused
}
