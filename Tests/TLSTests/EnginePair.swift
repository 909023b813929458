import Bytes

@testable import TLS

/// A client and a server, with what is on its way between them.
struct EnginePair: ~Copyable {
  var client: TLSEngine
  var server: TLSEngine
  var toServer: ByteBuffer
  var toClient = ByteBuffer()
  /// What each side has got.
  var atServer: [UInt8] = []
  var atClient: [UInt8] = []
  /// Why each side gave up.
  var clientError: TLSError?
  var serverError: TLSError?

  init(
    _ server: TLSServerContext, _ client: TLSClientContext, name: String? = "first.test", protocols: [TLSApplicationProtocol]? = nil
  ) throws {
    let accepted = try TLSEngine(server: server)
    var opened = try TLSEngine(client: client, serverName: name, protocols: protocols)
    var hello = ByteBuffer()
    try opened.start(output: &hello)
    self.server = accepted
    self.client = opened
    toServer = hello
  }

  /// Carries everything to and fro, `piece` octets a call, until nothing is on its way.
  mutating func run(piece: Int = .max) {
    while !toServer.isEmpty || !toClient.isEmpty {
      Self.deliver(&toServer, to: &server, piece, &toClient, &atServer, &serverError)
      Self.deliver(&toClient, to: &client, piece, &toServer, &atClient, &clientError)
    }
  }

  static func deliver(
    _ input: inout ByteBuffer, to engine: inout TLSEngine, _ piece: Int, _ output: inout ByteBuffer, _ got: inout [UInt8],
    _ failure: inout TLSError?
  ) {
    while !input.isEmpty {
      let count = min(piece, input.count)
      if failure == nil {
        do throws(TLSError) {
          got += try input.withUnsafeBytes { (octets) throws(TLSError) in
            try engine.receive(UnsafeRawBufferPointer(rebasing: octets[..<count]), output: &output)
          }
        } catch {
          failure = error
        }
      }
      input.removeFirst(count)
    }
  }
}

extension TLSEngine {
  /// Receives into an array that has exactly the room that is asked for.
  mutating func receive(_ ciphertext: UnsafeRawBufferPointer, output: inout ByteBuffer) throws(TLSError) -> [UInt8] {
    var plaintext = [UInt8](repeating: 0, count: ciphertext.count + TLSEngine.slack)
    var failure: TLSError?
    let count = plaintext.withUnsafeMutableBytes { room in
      do throws(TLSError) { return try receive(ciphertext, into: room, output: &output) } catch {
        failure = error
        return 0
      }
    }
    if let failure { throw failure }
    return [UInt8](plaintext[..<count])
  }

  mutating func send(_ plaintext: [UInt8], output: inout ByteBuffer) throws {
    try plaintext.withUnsafeBytes { try send($0, output: &output) }
  }
}
