import Bytes
import CNghttp2

/// The table of functions that nghttp2 calls, made once for all sessions.
///
/// Each finds its session's state behind the user data. Safe because: a session outlives every call into nghttp2, is confined to
/// one thread, and none of its methods holds an access to the state across a call that comes back here.
struct SessionCallbacks: @unchecked Sendable {
  // Safe because: nghttp2 copies the table into each session and never writes to it, so it is shared without a lock.
  let table: OpaquePointer

  static let shared = SessionCallbacks()

  private init() {
    var table: OpaquePointer?
    nghttp2_session_callbacks_new(&table)
    guard let table else { preconditionFailure("no memory for nghttp2's table of functions") }
    nghttp2_session_callbacks_set_on_begin_frame_callback(table) { session, header, user in
      guard let session, let header, let user else { return 0 }
      return SessionCallbacks.beginFrame(session, header.pointee, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(table) { session, frame, user in
      guard let session, let frame, let user else { return 0 }
      return SessionCallbacks.beginHeaders(session, frame, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_header_callback(table) { session, frame, name, nameCount, value, valueCount, _, user in
      guard let session, let name, let value, let user else { return 0 }
      return SessionCallbacks.header(
        session, UnsafeRawBufferPointer(start: name, count: nameCount), UnsafeRawBufferPointer(start: value, count: valueCount), SessionCallbacks.state(user))
    }
    // What nghttp2 would drop silently ends the stream, as RFC 9113 section 8.1.1 demands.
    nghttp2_session_callbacks_set_on_invalid_header_callback(table) { _, _, _, _, _, _, _, _ in
      NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
    }
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(table) { session, _, id, data, count, user in
      guard let session, let data, let user else { return 0 }
      return SessionCallbacks.data(session, id, UnsafeRawPointer(data), count, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_frame_recv_callback(table) { session, frame, user in
      guard let session, let frame, let user else { return 0 }
      return SessionCallbacks.frame(session, frame, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_frame_send_callback(table) { session, frame, user in
      guard let session, let frame, let user else { return 0 }
      return SessionCallbacks.sent(session, frame, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_frame_not_send_callback(table) { session, frame, _, user in
      guard let session, let frame, let user else { return 0 }
      return SessionCallbacks.unsent(session, frame, SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_send_data_callback(table) { _, _, header, count, source, user in
      guard let header, let source, let user else { return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue }
      return SessionCallbacks.write(header, count, SessionCallbacks.place(source.pointee.ptr), SessionCallbacks.state(user))
    }
    nghttp2_session_callbacks_set_on_stream_close_callback(table) { session, id, code, user in
      guard let session, let user else { return 0 }
      return SessionCallbacks.closed(session, id, code, SessionCallbacks.state(user))
    }
    self.table = table
  }

  /// Makes the source of a stream's content.
  static func provider(_ place: UInt32) -> nghttp2_data_provider {
    nghttp2_data_provider(source: nghttp2_data_source(ptr: pointer(place))) { session, id, _, room, flags, source, user in
      guard let session, let flags, let source, let user else { return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue) }
      return SessionCallbacks.offer(session, id, room, flags, SessionCallbacks.place(source.pointee.ptr), SessionCallbacks.state(user))
    }
  }

  /// Keeps a place in a pointer's bits; place 0 is not the null pointer.
  static func pointer(_ place: UInt32) -> UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: UInt(place) + 1) }

  private static func place(_ pointer: UnsafeMutableRawPointer?) -> UInt32 { UInt32(truncatingIfNeeded: UInt(bitPattern: pointer)) &- 1 }

  @inline(__always)
  private static func state(_ user: UnsafeMutableRawPointer) -> UnsafeMutablePointer<SessionState> {
    // Safe because: the session handed this very pointer to nghttp2.
    user.assumingMemoryBound(to: SessionState.self)
  }

  /// Finds the place of a stream that nghttp2 knows.
  @inline(__always)
  private static func place(of id: Int32, _ session: OpaquePointer) -> UInt32? {
    guard let pointer = nghttp2_session_get_stream_user_data(session, id) else { return nil }
    return place(pointer)
  }

  /// Ends the connection: the peer makes too much work.
  static func calm(_ session: OpaquePointer, _ state: UnsafeMutablePointer<SessionState>) {
    guard state.pointee.failure == nil else { return }
    state.pointee.failure = .enhanceYourCalm
    nghttp2_session_terminate_session(session, HTTP2ErrorCode.enhanceYourCalm.rawValue)
  }

  // MARK: Receiving

  private static func beginFrame(
    _ session: OpaquePointer, _ header: nghttp2_frame_hd, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let flags = UInt32(header.flags)
    let isAllowed =
      switch UInt32(header.type) {
      case NGHTTP2_HEADERS.rawValue: state.pointee.beginBlock()
      case NGHTTP2_CONTINUATION.rawValue: state.pointee.continueBlock()
      case NGHTTP2_DATA.rawValue:
        header.length > 1 || (header.length == 1 && flags & NGHTTP2_FLAG_PADDED.rawValue == 0)
          || flags & NGHTTP2_FLAG_END_STREAM.rawValue != 0 || state.pointee.allows(.emptyData)
      case NGHTTP2_WINDOW_UPDATE.rawValue: state.pointee.allows(.windowUpdate)
      case NGHTTP2_RST_STREAM.rawValue:
        // A server can only reset what was asked of it.
        !state.pointee.isServer || state.pointee.allows(nghttp2_session_get_stream_user_data(session, header.stream_id) == nil ? .stray : .reset)
      case NGHTTP2_SETTINGS.rawValue: flags & NGHTTP2_FLAG_ACK.rawValue != 0 || state.pointee.allows(.settings)
      case NGHTTP2_PING.rawValue: flags & NGHTTP2_FLAG_ACK.rawValue != 0 || state.pointee.allows(.ping)
      case NGHTTP2_PRIORITY.rawValue: state.pointee.allows(.stray)
      default: true
      }
    if !isAllowed { calm(session, state) }
    return 0
  }

  private static func beginHeaders(
    _ session: OpaquePointer, _ frame: UnsafePointer<nghttp2_frame>, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let id = frame.pointee.hd.stream_id
    if state.pointee.isServer, frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST {
      guard state.pointee.openCount < state.pointee.limits.concurrentStreams else {
        if !state.pointee.allows(.stray) { calm(session, state) }
        nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, HTTP2ErrorCode.refusedStream.rawValue)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
      }
      state.pointee.openCount += 1
      let place = state.pointee.streams.add(id: id)
      nghttp2_session_set_stream_user_data(session, id, pointer(place))
      // All streams share the connection evenly: one long response must not hold up the others.
      var priority = nghttp2_extpri(urgency: UInt32(NGHTTP2_EXTPRI_DEFAULT_URGENCY), inc: 1)
      nghttp2_session_change_extpri_stream_priority(session, id, &priority, 1)
      state.pointee.reader.begin(.request, place: place)
      return 0
    }
    guard let place = place(of: id, session) else { return 0 }
    let flags = state.pointee.streams[place].pointee.flags
    if state.pointee.isServer || flags.contains(.answered) {
      state.pointee.reader.begin(.trailers, place: place)
    } else {
      state.pointee.reader.begin(.response, place: place, isAsked: flags.contains(.tunnel))
    }
    return 0
  }

  @inline(__always)
  private static func header(
    _ session: OpaquePointer, _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let limits = state.pointee.limits
    let verdict = state.pointee.reader.add(name, value, limits)
    guard verdict != .accepted else { return 0 }
    return refuse(session, verdict, state)
  }

  /// Resets the stream whose block is being received; nghttp2 goes on decoding the block for its table only.
  private static func refuse(
    _ session: OpaquePointer, _ verdict: HeaderBlockReader.Verdict, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let place = state.pointee.reader.place
    state.pointee.reader.abandon()
    guard place != .max else { return 0 }
    let code: HTTP2ErrorCode = verdict == .tooLarge ? .enhanceYourCalm : .protocolError
    nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), state.pointee.streams[place].pointee.id, code.rawValue)
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
  }

  @inline(__always)
  private static func data(
    _ session: OpaquePointer, _ id: Int32, _ data: UnsafeRawPointer, _ count: Int, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    // The connection's window opens at once: what a stream may keep waiting is bounded by its own window.
    nghttp2_session_consume_connection(session, count)
    guard let place = place(of: id, session), let input = state.pointee.input else { return 0 }
    let record = state.pointee.streams[place]
    // nghttp2 has reset a stream that disregarded its window, and reports the octets all the same. Before our SETTINGS have
    // arrived the window is that of RFC 9113 section 6.9.2.
    let window = max(state.pointee.limits.streamWindow, 65_535)
    guard !record.pointee.flags.contains(.resetHere), record.pointee.held &+ count <= window else { return 0 }
    record.pointee.held &+= count
    let start = data - input
    state.pointee.note(.data, place, UInt32(truncatingIfNeeded: start), UInt32(truncatingIfNeeded: start &+ count))
    return 0
  }

  private static func frame(
    _ session: OpaquePointer, _ frame: UnsafePointer<nghttp2_frame>, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let endsStream = UInt32(frame.pointee.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
    switch UInt32(frame.pointee.hd.type) {
    case NGHTTP2_HEADERS.rawValue: return endBlock(session, endsStream, state)
    case NGHTTP2_DATA.rawValue:
      guard endsStream, let place = place(of: frame.pointee.hd.stream_id, session) else { return 0 }
      end(place, state)
    case NGHTTP2_SETTINGS.rawValue:
      if UInt32(frame.pointee.hd.flags) & NGHTTP2_FLAG_ACK.rawValue == 0 { state.pointee.note(.settings, .max) }
    case NGHTTP2_GOAWAY.rawValue:
      state.pointee.isGoingAway = true
      let last = UInt32(truncatingIfNeeded: frame.pointee.goaway.last_stream_id)
      state.pointee.note(.goAway, .max, frame.pointee.goaway.error_code, last)
    default: break
    }
    return 0
  }

  private static func end(_ place: UInt32, _ state: UnsafeMutablePointer<SessionState>) {
    state.pointee.streams[place].pointee.flags.insert(.receivedEnd)
    state.pointee.note(.ended, place)
  }

  private static func endBlock(
    _ session: OpaquePointer, _ endsStream: Bool, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let kind = state.pointee.reader.kind
    let place = state.pointee.reader.place
    guard kind != .none else { return 0 }
    let record = state.pointee.streams[place]
    let limits = state.pointee.limits
    if kind == .response, state.pointee.reader.isTunnel { state.pointee.reader.append(upgrade: record.pointee.trailers) }
    let verdict = state.pointee.reader.complete(limits)
    guard verdict == .accepted else {
      _ = refuse(session, verdict, state)
      return 0
    }
    let isTunnel = state.pointee.reader.isTunnel
    let isFinal = state.pointee.reader.status >= 200
    let range = state.pointee.reader.finish()
    let (first, second) = (UInt32(truncatingIfNeeded: range.lowerBound), UInt32(truncatingIfNeeded: range.upperBound))
    if endsStream { record.pointee.flags.insert(.receivedEnd) }
    switch kind {
    case .none: break
    case .trailers:
      if !range.isEmpty { state.pointee.note(.trailers, place, first, second) }
      if endsStream { state.pointee.note(.ended, place) }
    case .request, .response:
      record.pointee.flags.insert(.announced)
      if kind == .request, isTunnel { record.pointee.flags.insert(.tunnel) }
      if kind == .response, isFinal { record.pointee.flags.insert(.answered) }
      state.pointee.note(StoredEvent(kind: .head, endsStream: endsStream, isTunnel: isTunnel, place: place, first: first, second: second))
    }
    return 0
  }

  private static func closed(
    _ session: OpaquePointer, _ id: Int32, _ code: UInt32, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    guard let place = place(of: id, session) else { return 0 }
    if state.pointee.reader.place == place { state.pointee.reader.abandon() }
    let record = state.pointee.streams[place]
    let isComplete = code == 0 && record.pointee.flags.isSuperset(of: [.receivedEnd, .ending]) && record.pointee.queue.isEmpty
    record.pointee.flags.insert(.closed)
    record.pointee.queue.removeAll()
    state.pointee.openCount -= 1
    state.pointee.note(isComplete ? .closed : .reset, place, code)
    return 0
  }

  // MARK: Sending

  /// Says how many octets of a stream's content the next frame takes.
  private static func offer(
    _ session: OpaquePointer, _ id: Int32, _ room: Int, _ flags: UnsafeMutablePointer<UInt32>, _ place: UInt32,
    _ state: UnsafeMutablePointer<SessionState>
  ) -> Int {
    let record = state.pointee.streams[place]
    let queued = record.pointee.queue.count
    let isEnding = record.pointee.flags.contains(.ending)
    guard queued > 0 || isEnding else {
      record.pointee.flags.insert(.deferred)
      return Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
    let count = min(room, queued)
    if count < queued, count < state.pointee.limits.trickle {
      if !state.pointee.allows(.trickle) { calm(session, state) }
    } else {
      state.pointee.allowAnswers()
    }
    flags.pointee |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue
    guard isEnding, count == queued else { return count }
    flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue
    guard record.pointee.flags.contains(.hasTrailers) else { return count }
    flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
    submitTrailers(session, id, record, state)
    return count
  }

  private static func submitTrailers(
    _ session: OpaquePointer, _ id: Int32, _ record: UnsafeMutablePointer<StreamRecord>, _ state: UnsafeMutablePointer<SessionState>
  ) {
    record.pointee.trailers.withUnsafeBytes { lines in
      do throws(HTTP2Error) { try state.pointee.fields.readTrailers(lines) } catch { preconditionFailure("trailers of our own are lines") }
    }
    nghttp2_submit_trailer(session, id, state.pointee.fields.fields, state.pointee.fields.count)
  }

  /// Writes a DATA frame from the stream's queue.
  private static func write(
    _ header: UnsafePointer<UInt8>, _ count: Int, _ place: UInt32, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    guard let output = state.pointee.output else { return NGHTTP2_ERR_WOULDBLOCK.rawValue }
    let record = state.pointee.streams[place]
    output.pointee.reserve(frameHeader &+ count)
    output.pointee.append(UnsafeRawBufferPointer(start: header, count: frameHeader))
    record.pointee.queue.withUnsafeBytes { queue in
      output.pointee.append(UnsafeRawBufferPointer(rebasing: queue[..<count]))
    }
    record.pointee.queue.removeFirst(count)
    if record.pointee.flags.contains(.full), record.pointee.queue.count < state.pointee.limits.streamLowMark {
      record.pointee.flags.remove(.full)
      state.pointee.note(.writable, place)
    }
    // Paused, nghttp2 begins no further frame; it has counted this one as sent.
    return output.pointee.count < state.pointee.outputEnd ? 0 : NGHTTP2_ERR_PAUSE.rawValue
  }

  /// A head that nghttp2 could not write, being larger than it takes, must not leave its stream waiting for ever.
  private static func unsent(
    _ session: OpaquePointer, _ frame: UnsafePointer<nghttp2_frame>, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let id = frame.pointee.hd.stream_id
    guard state.pointee.isServer, UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue, place(of: id, session) != nil else { return 0 }
    nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, HTTP2ErrorCode.internalError.rawValue)
    return 0
  }

  /// Octets of a frame's header (RFC 9113 section 4.1).
  private static let frameHeader = 9

  private static func sent(
    _ session: OpaquePointer, _ frame: UnsafePointer<nghttp2_frame>, _ state: UnsafeMutablePointer<SessionState>
  ) -> Int32 {
    let id = frame.pointee.hd.stream_id
    switch UInt32(frame.pointee.hd.type) {
    case NGHTTP2_DATA.rawValue, NGHTTP2_HEADERS.rawValue:
      guard state.pointee.isServer, UInt32(frame.pointee.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0,
        let place = place(of: id, session), !state.pointee.streams[place].pointee.flags.contains(.receivedEnd)
      else { return 0 }
      // The answer is complete before the request: the client need not send the rest (RFC 9113 section 8.1).
      nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), id, HTTP2ErrorCode.noError.rawValue)
    case NGHTTP2_RST_STREAM.rawValue:
      // A client may also make us reset its streams, one broken rule each.
      guard let place = place(of: id, session), frame.pointee.rst_stream.error_code != 0,
        !state.pointee.streams[place].pointee.flags.contains(.resetHere)
      else { return 0 }
      if state.pointee.isServer, !state.pointee.allows(.reset) { calm(session, state) }
    case NGHTTP2_GOAWAY.rawValue:
      let code = frame.pointee.goaway.error_code
      if code != 0, state.pointee.failure == nil { state.pointee.failure = HTTP2ErrorCode(code: code) }
    default: break
    }
    return 0
  }
}
