import Bytes
import CNghttp2

/// Which end of a connection a session is.
public enum HTTP2Role: Hashable, Sendable {
  /// Receives requests.
  case server
  /// Sends requests, as `https` or `http`.
  case client(isSecure: Bool)
}

/// One HTTP/2 connection (RFC 9113), without I/O: received octets go in, events and octets to send come out.
///
/// A session belongs to one thread. Heads are HTTP/1.1 octets on both sides, so that one decoder and one set of rules serve every
/// protocol. What a driver does: `receive`, `nextEvent` until there is none, `takeOutput`, and `nextEvent` again, because frames that
/// are written close streams and make room.
public struct HTTP2Session: ~Copyable {
  private let session: OpaquePointer
  private let state: UnsafeMutablePointer<SessionState>

  /// Makes a session and its first SETTINGS, which the next `takeOutput` gives. `now` is a monotonic clock in nanoseconds.
  public init(role: HTTP2Role, limits: HTTP2Limits = .standard, now: Int64) {
    let isServer = role == .server
    state = .allocate(capacity: 1)
    state.initialize(to: SessionState(isServer: isServer, isSecure: role == .client(isSecure: true), limits: limits, now: now))
    var option: OpaquePointer?
    var session: OpaquePointer?
    nghttp2_option_new(&option)
    nghttp2_option_set_no_auto_window_update(option, 1)
    nghttp2_option_set_no_closed_streams(option, 1)
    nghttp2_option_set_max_settings(option, limits.settingsEntries)
    // Of a block that is looked at they are counted here, so that a GOAWAY can say why it was one too many.
    nghttp2_option_set_max_continuations(option, limits.continuations * 2)
    nghttp2_option_set_max_outbound_ack(option, limits.outboundFrames)
    nghttp2_option_set_max_send_header_block_length(option, limits.sentBlock)
    nghttp2_option_set_max_reserved_remote_streams(option, 0)
    // Resets are counted here, with the streams that a client makes us reset.
    nghttp2_option_set_stream_reset_rate_limit(option, .max / 2, 1 << 32)
    let failure =
      isServer
      ? nghttp2_session_server_new2(&session, SessionCallbacks.shared.table, state, option)
      : nghttp2_session_client_new2(&session, SessionCallbacks.shared.table, state, option)
    nghttp2_option_del(option)
    guard failure == 0, let session else { preconditionFailure("no memory for an HTTP/2 session") }
    self.session = session
    submitSettings(isServer, limits)
  }

  deinit {
    // Safe because: the session is the only owner of both, and nghttp2 is gone before the state that it points to.
    nghttp2_session_del(session)
    state.deinitialize(count: 1)
    state.deallocate()
  }

  private func submitSettings(_ isServer: Bool, _ limits: HTTP2Limits) {
    func entry(_ id: nghttp2_settings_id, _ value: Int) -> nghttp2_settings_entry {
      nghttp2_settings_entry(settings_id: Int32(id.rawValue), value: UInt32(clamping: value))
    }
    var entries = [
      entry(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, limits.streamWindow), entry(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.head),
    ]
    if isServer {
      entries.append(entry(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, Int(Int32.max)))
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1))
      entries.append(entry(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1))
    } else {
      entries.append(entry(NGHTTP2_SETTINGS_ENABLE_PUSH, 0))
    }
    nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), entries, entries.count)
    nghttp2_session_set_local_window_size(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, Int32(clamping: limits.connectionWindow))
  }

  // MARK: Receiving

  /// Takes all of `octets`. Events refer to them and to `headOctets` until the next call.
  ///
  /// A stream error costs only its stream. After an error nothing more is received; after a `connectionError` the output still has a
  /// GOAWAY to send. Some connection errors show only in the output: look at `isFinished` when it is taken.
  /// - Precondition: all events were taken.
  public mutating func receive(_ octets: UnsafeRawBufferPointer, now: Int64) throws(HTTP2Error) {
    if let failure = state.pointee.failure { throw .connectionError(failure) }
    precondition(!state.pointee.hasEvents, "events are taken before more octets are given")
    state.pointee.reader.forgetHeads()
    state.pointee.now = now
    state.pointee.input = octets.baseAddress
    let count = nghttp2_session_mem_recv(session, octets.baseAddress?.assumingMemoryBound(to: UInt8.self), octets.count)
    state.pointee.input = nil
    guard count >= 0 else { throw giveUp(nghttp2_error(Int32(truncatingIfNeeded: count))) }
    if nghttp2_session_get_outbound_queue_size(session) > state.pointee.limits.outboundFrames { SessionCallbacks.calm(session, state) }
    if let failure = state.pointee.failure { throw .connectionError(failure) }
  }

  /// Notes that nghttp2 does nothing any more: what is left to say is a GOAWAY.
  private mutating func giveUp(_ error: nghttp2_error) -> HTTP2Error {
    guard !state.pointee.isDead else { return .sessionFailed }
    state.pointee.isDead = true
    switch error {
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
      state.pointee.failure = .protocolError
      state.pointee.isFarewellDue = false
      return .prefaceInvalid
    case NGHTTP2_ERR_FLOODED, NGHTTP2_ERR_TOO_MANY_CONTINUATIONS: state.pointee.failure = .enhanceYourCalm
    default: state.pointee.failure = .internalError
    }
    state.pointee.isFarewellDue = true
    return .connectionError(state.pointee.failure ?? .internalError)
  }

  /// Takes the next event. The name of a `closed` or `reset` stream, and its tag, are good until the next call.
  public mutating func nextEvent() -> HTTP2Event? { state.pointee.takeEvent() }

  /// Calls `body` with the octets that `head` and `trailers` events refer to.
  public borrowing func withHeadOctets<R: ~Copyable, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    try state.pointee.reader.arena.withUnsafeBytes(body)
  }

  /// Gives the peer room for as many octets of a stream's content as the driver has used up.
  public mutating func consumed(_ stream: HTTP2Stream, _ count: Int) {
    // Who has sent everything needs no more room.
    guard let record = openRecord(stream, without: [.closed, .receivedEnd]) else { return }
    let count = min(count, record.pointee.held)
    guard count > 0 else { return }
    record.pointee.held &-= count
    nghttp2_session_consume_stream(session, stream.id, count)
  }

  // MARK: Streams

  /// Keeps a number of the driver's with a stream.
  public mutating func setTag(_ stream: HTTP2Stream, _ tag: UInt32) { state.pointee.streams.record(stream)?.pointee.tag = tag }

  /// Gives the driver's number; `UInt32.max` where none was set.
  public borrowing func tag(_ stream: HTTP2Stream) -> UInt32 { state.pointee.streams.record(stream)?.pointee.tag ?? .max }

  /// Counts the streams that are open, or whose end was not heard of yet.
  public borrowing func streamCount() -> Int { state.pointee.streams.count }

  /// Answers a request with an HTTP/1.1 response head; 101 answers a tunnel.
  ///
  /// Fields of the connection and chunk framing are left out. `endsStream` says that no content follows.
  public mutating func submitHead(_ stream: HTTP2Stream, _ head: UnsafeRawBufferPointer, endsStream: Bool) throws(HTTP2Error) {
    guard let record = openRecord(stream, without: [.closed, .resetHere, .submitted]) else { throw .streamClosed }
    _ = try state.pointee.fields.readResponse(head, isTunnel: record.pointee.flags.contains(.tunnel))
    record.pointee.flags.insert(.submitted)
    if endsStream {
      record.pointee.flags.insert(.ending)
      nghttp2_submit_response(session, stream.id, state.pointee.fields.fields, state.pointee.fields.count, nil)
    } else {
      var provider = SessionCallbacks.provider(stream.place)
      nghttp2_submit_response(session, stream.id, state.pointee.fields.fields, state.pointee.fields.count, &provider)
    }
  }

  /// Sends an interim response (1xx), before the final head.
  public mutating func submitInterim(_ stream: HTTP2Stream, _ head: UnsafeRawBufferPointer) throws(HTTP2Error) {
    guard openRecord(stream, without: [.closed, .resetHere, .submitted]) != nil else { throw .streamClosed }
    guard try state.pointee.fields.readResponse(head, isTunnel: false) < 200 else { throw .headInvalid(at: 9) }
    let none = UInt8(NGHTTP2_FLAG_NONE.rawValue)
    nghttp2_submit_headers(session, none, stream.id, nil, state.pointee.fields.fields, state.pointee.fields.count, nil)
  }

  /// Finds a stream of which nothing of `flags` is true yet; none once nghttp2 has given up, for it must not be called then.
  @inline(__always)
  private func openRecord(_ stream: HTTP2Stream, without flags: StreamFlags) -> UnsafeMutablePointer<StreamRecord>? {
    guard !state.pointee.isDead, let record = state.pointee.streams.record(stream) else { return nil }
    return record.pointee.flags.isDisjoint(with: flags) ? record : nil
  }

  /// Sends a request's HTTP/1.1 head; `GET` with `Upgrade` goes out as an extended CONNECT.
  ///
  /// `Host` becomes `:authority`. Refused while `canRequest` is false.
  public mutating func request(_ head: UnsafeRawBufferPointer, endsStream: Bool, tag: UInt32 = .max) throws(HTTP2Error) -> HTTP2Stream {
    guard canRequest() else { throw .requestRefused }
    var protocolName = ByteBuffer()
    try state.pointee.fields.readRequest(head, isSecure: state.pointee.isSecure, protocolName: &protocolName)
    let isTunnel = !protocolName.isEmpty
    let place = state.pointee.streams.add(id: 0)
    let (fields, count) = (state.pointee.fields.fields, state.pointee.fields.count)
    let user = SessionCallbacks.pointer(place)
    let id: Int32
    if endsStream, !isTunnel {
      id = nghttp2_submit_request(session, nil, fields, count, nil, user)
    } else {
      var provider = SessionCallbacks.provider(place)
      id = nghttp2_submit_request(session, nil, fields, count, &provider, user)
    }
    guard id > 0 else {
      state.pointee.streams.remove(place)
      throw .requestRefused
    }
    state.pointee.openCount += 1
    let record = state.pointee.streams[place]
    record.pointee.id = id
    record.pointee.tag = tag
    record.pointee.flags = [.announced, .submitted]
    if endsStream, !isTunnel { record.pointee.flags.insert(.ending) }
    if isTunnel {
      record.pointee.flags.insert(.tunnel)
      swap(&record.pointee.trailers, &protocolName)
    }
    return HTTP2Stream(id: id, place: place)
  }

  /// Tells whether the peer takes another request now.
  public borrowing func canRequest() -> Bool {
    guard !state.pointee.isServer, !state.pointee.isGoingAway, state.pointee.failure == nil else { return false }
    let peers = Int(nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
    return state.pointee.openCount < min(peers, state.pointee.limits.concurrentStreams)
      && nghttp2_session_check_request_allowed(session) != 0
  }

  /// Tells whether the peer takes extended CONNECT (RFC 8441).
  public borrowing func canTunnel() -> Bool {
    nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1
  }

  // MARK: Content

  /// Queues content of a stream and tells how many octets it took: what the queue has room for, and nothing of a closed stream.
  ///
  /// After less than all was taken, `writable` comes when the queue is low again.
  public mutating func send(_ stream: HTTP2Stream, _ octets: UnsafeRawBufferPointer) -> Int {
    guard let record = openRecord(stream, without: [.closed, .resetHere, .ending]) else { return 0 }
    let count = min(octets.count, max(0, state.pointee.limits.streamQueue - record.pointee.queue.count))
    record.pointee.queue.append(UnsafeRawBufferPointer(rebasing: octets[..<count]))
    if count < octets.count { record.pointee.flags.insert(.full) }
    wake(record, stream)
    return count
  }

  /// Ends a stream's content, with trailer lines or none.
  public mutating func end(_ stream: HTTP2Stream, trailers: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)) {
    guard let record = openRecord(stream, without: [.closed, .resetHere, .ending]) else { return }
    record.pointee.flags.insert(.ending)
    if !trailers.isEmpty {
      record.pointee.flags.insert(.hasTrailers)
      record.pointee.trailers.removeAll()
      record.pointee.trailers.append(trailers)
    }
    wake(record, stream)
  }

  @inline(__always)
  private func wake(_ record: UnsafeMutablePointer<StreamRecord>, _ stream: HTTP2Stream) {
    guard record.pointee.flags.contains(.deferred) else { return }
    record.pointee.flags.remove(.deferred)
    nghttp2_session_resume_data(session, stream.id)
  }

  /// Counts the octets of a stream's content that were accepted and are not in the output yet.
  public borrowing func queuedCount(_ stream: HTTP2Stream) -> Int { state.pointee.streams.record(stream)?.pointee.queue.count ?? 0 }

  /// Ends a stream at once with RST_STREAM. No event comes of it any more.
  public mutating func reset(_ stream: HTTP2Stream, _ code: HTTP2ErrorCode) {
    guard let record = openRecord(stream, without: [.closed, .resetHere]) else { return }
    record.pointee.flags.insert(.resetHere)
    record.pointee.queue.removeAll()
    nghttp2_submit_rst_stream(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), stream.id, code.rawValue)
  }

  // MARK: Output

  /// Appends frames until there are no more, or `limit` octets are there; the last frame may pass it by its length, at most 16 KiB.
  public mutating func takeOutput(into buffer: inout ByteBuffer, limit: Int) {
    let (session, state) = (session, state)
    guard !state.pointee.isDead else { return sayFarewell(&buffer) }
    var failed: nghttp2_error?
    withUnsafeMutablePointer(to: &buffer) { output in
      // Safe because: the pointer is forgotten before it ends, and only this thread writes through it meanwhile.
      state.pointee.output = output
      state.pointee.outputEnd = output.pointee.count + limit
      while output.pointee.count < state.pointee.outputEnd {
        var frame: UnsafePointer<UInt8>?
        let count = nghttp2_session_mem_send(session, &frame)
        guard count > 0 else {
          if count < 0 { failed = nghttp2_error(Int32(truncatingIfNeeded: count)) }
          break
        }
        output.pointee.append(UnsafeRawBufferPointer(start: frame, count: count))
        if !state.pointee.isLimitAnnounced { Self.announceLimit(count, state, &output.pointee) }
      }
      state.pointee.output = nil
    }
    if let failed {
      _ = giveUp(failed)
      sayFarewell(&buffer)
    }
    if state.pointee.streams.count == 0 { state.pointee.reader.release() }
  }

  /// Writes the GOAWAY that nghttp2 does not write any more. Every frame before it is whole.
  private mutating func sayFarewell(_ buffer: inout ByteBuffer) {
    guard state.pointee.isFarewellDue, let failure = state.pointee.failure else { return }
    state.pointee.isFarewellDue = false
    let last = UInt32(bitPattern: nghttp2_session_get_last_proc_stream_id(session)).bigEndian
    let code = failure.rawValue.bigEndian
    buffer.append([0, 0, 8, UInt8(NGHTTP2_GOAWAY.rawValue), 0, 0, 0, 0, 0])
    withUnsafeBytes(of: (last, code)) { buffer.append($0) }
  }

  /// Writes the limit of streams into the first SETTINGS, which are the last `count` octets.
  ///
  /// nghttp2 would end the connection for a stream too many; RFC 9113 section 5.1.2 asks for that stream's end only.
  private static func announceLimit(_ count: Int, _ state: UnsafeMutablePointer<SessionState>, _ output: inout ByteBuffer) {
    let (header, entry, type) = (9, 6, 3)
    let limit = UInt32(clamping: state.pointee.limits.concurrentStreams)
    let isServer = state.pointee.isServer
    state.pointee.isLimitAnnounced = output.withUnsafeMutableBytes { octets in
      let frame = UnsafeMutableRawBufferPointer(rebasing: octets[(octets.count - count)...])
      guard isServer else { return true }
      guard count >= header, frame[type] == UInt8(NGHTTP2_SETTINGS.rawValue) else { return false }
      for at in stride(from: header, to: count - entry + 1, by: entry)
      where frame[at] == 0 && frame[at + 1] == UInt8(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue) {
        frame.storeBytes(of: limit.bigEndian, toByteOffset: at + 2, as: UInt32.self)
      }
      return true
    }
  }

  /// Tells whether `takeOutput` has something to give.
  public borrowing func wantsOutput() -> Bool {
    state.pointee.isDead ? state.pointee.isFarewellDue : nghttp2_session_want_write(session) != 0
  }

  /// Tells whether the connection has served its purpose: close it when the output is flushed.
  public borrowing func isFinished() -> Bool {
    if state.pointee.isDead { return !state.pointee.isFarewellDue }
    return nghttp2_session_want_read(session) == 0 && nghttp2_session_want_write(session) == 0
  }

  /// The code of the GOAWAY with which this end gave up, once that is known.
  public var failure: HTTP2ErrorCode? { state.pointee.failure }

  /// Begins a graceful end: the peer is told, streams that are on their way are still taken (RFC 9113 section 6.8).
  public mutating func startDrain() {
    guard !state.pointee.isDead, state.pointee.isServer else { return }
    nghttp2_submit_shutdown_notice(session)
  }

  /// Ends a drain, a round trip after its start: no new streams are taken; `isFinished` comes with the last stream's end.
  public mutating func finishDrain() {
    guard !state.pointee.isDead else { return }
    let last = nghttp2_session_get_last_proc_stream_id(session)
    nghttp2_submit_goaway(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), last, HTTP2ErrorCode.noError.rawValue, nil, 0)
  }

  /// Ends the connection with GOAWAY of the code.
  public mutating func terminate(_ code: HTTP2ErrorCode) {
    guard state.pointee.failure == nil else { return }
    state.pointee.failure = code
    nghttp2_session_terminate_session(session, code.rawValue)
  }
}
