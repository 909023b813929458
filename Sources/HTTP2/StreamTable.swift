import Bytes

/// What a stream's record remembers in one bit each.
struct StreamFlags: OptionSet {
  let rawValue: UInt16

  /// The driver knows the stream.
  static let announced = StreamFlags(rawValue: 1)
  /// The peer's message is complete.
  static let receivedEnd = StreamFlags(rawValue: 2)
  /// Our final head was submitted, or our request.
  static let submitted = StreamFlags(rawValue: 4)
  /// Nothing is appended to the queue any more.
  static let ending = StreamFlags(rawValue: 8)
  /// Trailer lines follow the queue.
  static let hasTrailers = StreamFlags(rawValue: 16)
  /// nghttp2 was told that the queue is empty, and waits to be woken.
  static let deferred = StreamFlags(rawValue: 32)
  /// The driver reset the stream and hears no more of it.
  static let resetHere = StreamFlags(rawValue: 64)
  /// nghttp2 has closed the stream.
  static let closed = StreamFlags(rawValue: 128)
  /// The driver was turned away and waits for room.
  static let full = StreamFlags(rawValue: 256)
  /// An extended CONNECT.
  static let tunnel = StreamFlags(rawValue: 512)
  /// The final response's head has come; header blocks after it are trailers.
  static let answered = StreamFlags(rawValue: 1024)
}

/// One stream of a session.
struct StreamRecord: ~Copyable {
  var id: Int32 = 0
  /// What the driver keeps here, its slab's index.
  var tag: UInt32 = .max
  var flags: StreamFlags = []
  /// Octets of content received and not yet used up.
  var held = 0
  /// Content that waits to go out.
  var queue = ByteBuffer()
  /// Trailer lines that go out behind the queue; of a tunnel in the client role, the protocol asked for.
  var trailers = ByteBuffer()
  /// The next free place, of a free one.
  var nextFree: UInt32 = .max
}

/// The streams of a session in stable numbered places, which are used again.
struct StreamTable: ~Copyable {
  private var records: UnsafeMutablePointer<StreamRecord>
  private var capacity: Int
  private var initialized = 0
  private var free: UInt32 = .max
  /// Streams in use.
  private(set) var count = 0

  /// Storage of a queue up to this many octets stays with its place, of the first few places.
  private static let keptStorage = 4096
  private static let placesThatKeep = 8

  init() {
    capacity = 4
    // Safe because: the table is the only owner, and initialises each record before it is used.
    records = .allocate(capacity: capacity)
  }

  deinit {
    // Safe because: exactly the first `initialized` records hold values.
    records.deinitialize(count: initialized)
    records.deallocate()
  }

  /// Takes a place for a stream.
  mutating func add(id: Int32) -> UInt32 {
    count += 1
    if free != .max {
      let place = free
      free = records[Int(place)].nextFree
      records[Int(place)].id = id
      return place
    }
    if initialized == capacity { grow() }
    // Safe because: the place lies inside the allocation and holds nothing yet.
    (records + initialized).initialize(to: StreamRecord(id: id))
    initialized += 1
    return UInt32(truncatingIfNeeded: initialized - 1)
  }

  private mutating func grow() {
    // Safe because: the records are moved, not copied, and the old storage is forgotten at once.
    let larger = UnsafeMutablePointer<StreamRecord>.allocate(capacity: capacity * 2)
    larger.moveInitialize(from: records, count: initialized)
    records.deallocate()
    records = larger
    capacity *= 2
  }

  /// Gives a place back.
  mutating func remove(_ place: UInt32) {
    let record = self[place]
    record.pointee.id = 0
    record.pointee.tag = .max
    record.pointee.flags = []
    record.pointee.held = 0
    if place < Self.placesThatKeep, record.pointee.queue.capacity <= Self.keptStorage {
      record.pointee.queue.removeAll()
    } else {
      record.pointee.queue.release()
    }
    record.pointee.trailers.release()
    record.pointee.nextFree = free
    free = place
    count -= 1
  }

  /// Gives the record of a place that was handed out; the pointer ends with the next `add`.
  subscript(place: UInt32) -> UnsafeMutablePointer<StreamRecord> {
    @inline(__always) get {
      precondition(place < initialized)
      // Safe because: the place is initialised, as just checked.
      return records + Int(place)
    }
  }

  /// Gives the record of a stream; nothing once the place serves another.
  @inline(__always)
  func record(_ stream: HTTP2Stream) -> UnsafeMutablePointer<StreamRecord>? {
    guard stream.place < initialized, stream.id != 0 else { return nil }
    // Safe because: the place is initialised, as just checked.
    let record = records + Int(stream.place)
    return record.pointee.id == stream.id ? record : nil
  }
}
