internal import Bytes
internal import CLibSSL
internal import Glibc

/// Stands where libssl expects a network: what it reads comes straight out of the octets of the call in progress, and what it
/// writes goes straight into the caller's buffer.
struct RecordPassage {
  /// The octets of the call in progress that libssl has not taken yet.
  var input: UnsafeRawPointer?
  var inputCount = 0
  /// The buffer of the call in progress.
  var output: UnsafeMutablePointer<ByteBuffer>?
  /// Where a client's sessions are kept, and under which name.
  var shelf: SessionShelf?
  var serverName = ""
  /// Whether the handshake is over; what libssl does of its own from then on is counted.
  var isEstablished = false
  /// Octets that came from the network since then.
  var receivedCount: UInt64 = 0
  private var steps: UInt64 = 0

  /// Steps of the handshake's machine that a peer may cause after the handshake (tickets, and three or four for each KeyUpdate), and
  /// octets received that allow one more: a KeyUpdate has 27 octets and costs ten times the work of a small record.
  private static let stepLimit: UInt64 = 512
  private static let octetsPerStep: UInt64 = 16 << 10

  /// Whether the peer has made more work of that kind than it may.
  var isFlooded: Bool { steps > Self.stepLimit + receivedCount / Self.octetsPerStep }

  /// Counts what libssl's handshake machine does because of what was received; when it is too much, libssl finds no more input.
  static let stepped: @convention(c) (OpaquePointer?, Int32, Int32) -> Void = { session, happened, _ in
    // Safe because: every connection has its passage there, for as long as libssl knows the connection.
    guard happened & SSL_CB_LOOP != 0, let passage = libssl_index_data(session)?.assumingMemoryBound(to: RecordPassage.self),
      passage.pointee.isEstablished, passage.pointee.input != nil
    else { return }
    passage.pointee.steps &+= 1
    if passage.pointee.isFlooded { passage.pointee.inputCount = 0 }
  }

  /// libssl's table of functions, made once.
  struct Functions: @unchecked Sendable {
    // Safe because: the table is only read after it was made.
    static let shared = Functions()
    let pointer: OpaquePointer?

    private init() {
      pointer = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "farebox")
      BIO_meth_set_read_ex(pointer, RecordPassage.read)
      BIO_meth_set_write_ex(pointer, RecordPassage.write)
      BIO_meth_set_ctrl(pointer, RecordPassage.control)
    }
  }

  private static let read: @convention(c) (OpaquePointer?, UnsafeMutablePointer<CChar>?, Int, UnsafeMutablePointer<Int>?) -> Int32 = {
    bio, destination, wanted, count in
    libssl_bio_clear_retry(bio)
    // Safe because: the engine that owns the BIO owns the passage too, and its pointers hold for the call in progress.
    guard let passage = BIO_get_data(bio)?.assumingMemoryBound(to: RecordPassage.self), let destination, let count else { return 0 }
    guard let input = passage.pointee.input, passage.pointee.inputCount > 0 else {
      libssl_bio_retry_read(bio)
      return 0
    }
    let taken = min(wanted, passage.pointee.inputCount)
    memcpy(destination, input, taken)
    passage.pointee.input = input + taken
    passage.pointee.inputCount &-= taken
    count.pointee = taken
    return 1
  }

  private static let write: @convention(c) (OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<Int>?) -> Int32 = {
    bio, source, offered, count in
    guard let passage = BIO_get_data(bio)?.assumingMemoryBound(to: RecordPassage.self), let count else { return 0 }
    guard let output = passage.pointee.output else { return 0 }
    output.pointee.append(UnsafeRawBufferPointer(start: source, count: offered))
    count.pointee = offered
    return 1
  }

  private static let control: @convention(c) (OpaquePointer?, Int32, Int, UnsafeMutableRawPointer?) -> Int = { _, command, _, _ in
    command == BIO_CTRL_FLUSH ? 1 : 0
  }
}
