/// Names a stream of one session: the identifier of RFC 9113 section 5.1.1, and where the session keeps it.
///
/// A name stays harmless after the stream ended: what is asked of it then does nothing.
public struct HTTP2Stream: Hashable, Sendable {
  /// The stream's identifier, odd for requests.
  public let id: Int32
  let place: UInt32

  /// No stream.
  public static let none = HTTP2Stream(id: 0, place: .max)
}

/// What a session found in the octets that it was given, or what its output made happen.
public enum HTTP2Event: Hashable, Sendable {
  /// A head as HTTP/1.1 octets, its empty line included: a range of `headOctets`. In the client role also each interim one.
  ///
  /// `isTunnel` marks an extended CONNECT (RFC 8441), which is a GET with `Upgrade` and `Connection: Upgrade`; its
  /// 101 goes out as 200.
  case head(HTTP2Stream, Range<Int>, endsStream: Bool, isTunnel: Bool)
  /// Content: a range of the octets given to `receive`.
  case data(HTTP2Stream, Range<Int>)
  /// Trailer lines without the empty line: a range of `headOctets`. Those that no trailer section may have, and those of
  /// payment, are left out. `ended` follows.
  case trailers(HTTP2Stream, Range<Int>)
  /// The peer has sent all of its message.
  case ended(HTTP2Stream)
  /// The queue of a stream whose `send` turned octets away has fallen below the low mark.
  case writable(HTTP2Stream)
  /// Both messages are complete and in the output; nothing more comes of the stream.
  case closed(HTTP2Stream)
  /// The stream ended early: the peer reset it, or broke a rule. Nothing more comes of it.
  ///
  /// In the client role `refusedStream` says that the peer did nothing with the request (it is sent too for streams
  /// above the last one of a GOAWAY), so that it may be tried again elsewhere.
  case reset(HTTP2Stream, HTTP2ErrorCode)
  /// The peer takes no streams above `lastStream`.
  case goAway(lastStream: Int32, HTTP2ErrorCode)
  /// The peer's settings changed; more requests may be possible.
  case settings
}

/// An event as it is kept: offsets instead of ranges, so that one is 16 octets.
struct StoredEvent {
  enum Kind: UInt8 { case head, data, trailers, ended, writable, closed, reset, goAway, settings }

  var kind: Kind
  var endsStream = false
  var isTunnel = false
  var place: UInt32 = .max
  /// The range's start, the error's code.
  var first: UInt32 = 0
  /// The range's end, the last stream.
  var second: UInt32 = 0
}
