import Bytes
import Testing

@testable import HTTP

/// Writes a frame as a peer would.
func webSocketFrame(
  _ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, mask: [UInt8]? = nil, reserved: UInt8 = 0
) -> [UInt8] {
  var octets = [(isFinal ? 0x80 : 0) | reserved | opcode]
  let bit: UInt8 = mask == nil ? 0 : 0x80
  switch payload.count {
  case ...125: octets.append(bit | UInt8(payload.count))
  case ...0xFFFF: octets += [bit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
  default:
    octets.append(bit | 127)
    octets += (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
  }
  guard let mask else { return octets + payload }
  return octets + mask + payload.enumerated().map { $0.element ^ mask[$0.offset & 3] }
}

/// What a scanner saw in octets that came in pieces.
private struct Seen: Equatable {
  var frames: [WebSocketFrame] = []
  var starts: [Int] = []
  var error: WebSocketError?
  var isBetweenFrames = true
  var isClosed = false
}

private func scan(_ octets: [UInt8], cuts: [Int] = [], _ sender: WebSocketScanner.Sender, _ extensions: WebSocketExtensions = .none) -> Seen {
  var scanner = WebSocketScanner(sender: sender, extensions: extensions)
  var seen = Seen()
  var position = 0
  for end in cuts + [octets.count] {
    while position < end {
      if !scanner.isBetweenFrames {
        let count = min(end - position, Int(scanner.payloadLeft))
        scanner.pass(count)
        position += count
        continue
      }
      do {
        let frame = try octets.withUnsafeBytes { try scanner.begin(UnsafeRawBufferPointer(rebasing: $0[position..<end])) }
        guard let frame else { break }
        seen.frames.append(frame)
        seen.starts.append(position)
        position += frame.headerCount
      } catch {
        seen.error = error as? WebSocketError
        return seen
      }
    }
  }
  seen.isBetweenFrames = scanner.isBetweenFrames && position == octets.count
  seen.isClosed = scanner.isClosed
  return seen
}

private let mask: [UInt8] = [1, 2, 3, 4]

@Suite struct WebSocketTests {
  /// Every length form, fragments with control frames between them, and a Close at the end.
  static func conversation(_ mask: [UInt8]?) -> [UInt8] {
    webSocketFrame(1, Array("hello".utf8), mask: mask) + webSocketFrame(2, [], mask: mask)
      + webSocketFrame(1, Array("a".utf8), isFinal: false, mask: mask) + webSocketFrame(9, [7, 7], mask: mask)
      + webSocketFrame(0, [UInt8](repeating: 1, count: 126), isFinal: false, mask: mask) + webSocketFrame(10, [], mask: mask)
      + webSocketFrame(0, [9], mask: mask) + webSocketFrame(2, [UInt8](repeating: 2, count: 65_536), mask: mask)
      + webSocketFrame(8, [3, 232], mask: mask)
  }

  @Test(arguments: [WebSocketScanner.Sender.client, .server])
  func seesFramesAndMessages(sender: WebSocketScanner.Sender) {
    let octets = Self.conversation(sender == .client ? mask : nil)
    let seen = scan(octets, sender)
    #expect(seen.error == nil)
    #expect(seen.frames.map(\.opcode) == [.text, .binary, .text, .ping, .continuation, .pong, .continuation, .binary, .close])
    #expect(seen.frames.map(\.payloadCount) == [5, 0, 1, 2, 126, 0, 1, 65_536, 2])
    #expect(seen.frames.filter(\.startsMessage).count == 4)
    #expect(seen.isBetweenFrames && seen.isClosed)
  }

  @Test(arguments: [WebSocketScanner.Sender.client, .server])
  func cutAnywhereItSeesTheSame(sender: WebSocketScanner.Sender) {
    let octets = Self.conversation(sender == .client ? mask : nil)
    let whole = scan(octets, sender)
    // Inside the long payload one place is as good as another.
    let places = Array(1..<400) + Array(octets.count - 60..<octets.count)
    for cut in places { #expect(scan(octets, cuts: [cut], sender) == whole) }
    for cut in 1..<60 { #expect(scan(octets, cuts: Array(stride(from: cut, to: octets.count, by: cut)), sender) == whole) }
  }

  @Test(arguments: [
    ([0x83, 0x00] as [UInt8], WebSocketError.opcodeReserved(3)), ([0x8B, 0x00], .opcodeReserved(11)),
    ([0xC1, 0x00], .reservedBitSet), ([0x09, 0x00], .controlFragmented), ([0x89, 0x7E, 0x00, 0x80], .controlTooLong),
    ([0x88, 0x01, 0x00], .closeTooShort), ([0x82, 0x7E, 0x00, 0x7D], .lengthNotMinimal),
    ([0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], .lengthNotMinimal), ([0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], .lengthTooLarge),
    ([0x82, 0x80, 1, 2, 3, 4], .masked), ([0x80, 0x00], .continuationUnexpected), ([0x01, 0x00, 0x81, 0x00], .messageInterrupted),
    ([0x88, 0x00, 0x89, 0x00], .afterClose),
  ])
  func refusesMalformedFrames(octets: [UInt8], error: WebSocketError) {
    #expect(scan(octets, .server).error == error)
    #expect(scan(octets, cuts: Array(1..<octets.count), .server).error == error)
  }

  @Test func aClientMasks() {
    #expect(scan([0x81, 0x00], .client).error == .unmasked)
    #expect(scan(webSocketFrame(1, [1], mask: mask), .client).error == nil)
  }

  @Test func reservedBitsAreTheExtensions() {
    let compressed = webSocketFrame(1, [1], isFinal: false, reserved: 0x40) + webSocketFrame(0, [1])
    #expect(scan(compressed, .server, .compression).error == nil)
    #expect(scan(compressed, .server, .none).error == .reservedBitSet)
    #expect(scan(webSocketFrame(9, [], reserved: 0x40), .server, .compression).error == .reservedBitSet)
    #expect(scan(webSocketFrame(1, [], isFinal: false) + webSocketFrame(0, [], reserved: 0x40), .server, .compression).error == .reservedBitSet)
    #expect(scan(webSocketFrame(1, [], reserved: 0x20), .server, .compression).error == .reservedBitSet)
    #expect(scan(webSocketFrame(1, [], reserved: 0x70), .server, .unknown).error == nil)
  }

  @Test func emptyFragmentsEnd() {
    let start = webSocketFrame(1, [], isFinal: false)
    let more = webSocketFrame(0, [], isFinal: false)
    let few = Array(repeating: more, count: WebSocketScanner.emptyLimit - 1).flatMap { $0 }
    #expect(scan(start + few, .server).error == nil)
    #expect(scan(start + few + more, .server).error == .fragmentsEmpty)
    #expect(scan(start + few + webSocketFrame(0, [1], isFinal: false) + few, .server).error == nil)
  }

  @Test func writesWhatItReads() {
    var out = ByteBuffer()
    WebSocketWriter.appendPing([1, 2], mask: nil, to: &out)
    WebSocketWriter.appendClose(.policyViolation, reason: "paid no more", mask: nil, to: &out)
    #expect(out.array() == webSocketFrame(9, [1, 2]) + webSocketFrame(8, [3, 240] + Array("paid no more".utf8)))
    var masked = ByteBuffer()
    WebSocketWriter.appendClose(.goingAway, reason: "bye", mask: 0x0102_0304, to: &masked)
    #expect(masked.array() == webSocketFrame(8, [3, 233] + Array("bye".utf8), mask: mask))
    #expect(scan(masked.array(), .client).isClosed)
  }

  @Test func changedOctetsNeverTrap() {
    for sender in [WebSocketScanner.Sender.client, .server] {
      let valid = webSocketFrame(1, [1, 2], isFinal: false, mask: sender == .client ? mask : nil)
        + webSocketFrame(0, [UInt8](repeating: 3, count: 200), mask: sender == .client ? mask : nil)
        + webSocketFrame(9, [1], mask: sender == .client ? mask : nil) + webSocketFrame(8, [3, 232], mask: sender == .client ? mask : nil)
      Fuzzing.run(seed: 11, rounds: 3000) { generator in
        var octets = valid
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          octets[Int.random(in: 0..<octets.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
        }
        let cut = Int.random(in: 0...octets.count, using: &generator)
        let extensions: WebSocketExtensions = Bool.random(using: &generator) ? .none : .unknown
        #expect(scan(octets, sender, extensions) == scan(octets, cuts: [cut], sender, extensions))
      }
    }
  }

  // MARK: the handshake

  private func fault(_ lines: String..., isTunnel: Bool = false) -> WebSocketHandshake.Fault? {
    let octets = Array(("GET /a HTTP/1.1\r\nHost: a\r\n" + lines.map { $0 + "\r\n" }.joined() + "\r\n").utf8)
    guard case .head(let head) = decodeRequest(octets) else { return nil }
    return octets.withUnsafeBytes { WebSocketHandshake.fault(head, $0, isTunnel: isTunnel) }
  }

  @Test func checksTheHandshake() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    #expect(fault(key, "Sec-WebSocket-Version: 13") == nil)
    #expect(fault(key, "Sec-WebSocket-Version: 8") == .versionUnsupported)
    #expect(fault(key) == .versionUnsupported)
    #expect(fault("Sec-WebSocket-Version: 13") == .keyInvalid)
    #expect(fault("sec-websocket-version: 13", isTunnel: true) == nil)
    #expect(fault(key, "sec-websocket-version: 13", isTunnel: true) == nil)
    #expect(fault(key, key, "sec-websocket-version: 13", isTunnel: true) == .keyInvalid)
    #expect(fault("Sec-WebSocket-Key: x", "sec-websocket-version: 13", isTunnel: true) == .keyInvalid)
    #expect(fault("Sec-WebSocket-Key: dGhlIHNhbXBsZQ==", "Sec-WebSocket-Version: 13") == .keyInvalid)
    #expect(fault(key, key, "Sec-WebSocket-Version: 13") == .keyInvalid)
  }

  private func chosen(_ text: String, _ offered: [String]) -> Int? {
    let octets = Array(text.utf8)
    guard case .head(let head) = decodeRequest(octets) else { return nil }
    return octets.withUnsafeBytes { UpgradeField.chosen(head, $0, among: offered.map { Array($0.utf8) }) }
  }

  @Test func choosesTheFirstProtocolThatIsOffered() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n"
    #expect(chosen(head + "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n", ["websocket"]) == 0)
    #expect(chosen(head + "Upgrade: h2c, other, websocket\r\nConnection: upgrade\r\n\r\n", ["websocket", "other"]) == 1)
    #expect(chosen(head + "Upgrade: websocket\r\n\r\n", ["websocket"]) == nil)
    #expect(chosen(head + "Upgrade: h2c\r\nConnection: upgrade\r\n\r\n", ["websocket"]) == nil)
    #expect(chosen(head + "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n", ["websocket"]) == nil)
    #expect(chosen("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", ["websocket"]) == nil)
    #expect(chosen("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", ["websocket"]) == nil)
  }

  private func response(_ lines: String, _ use: (ResponseHead, UnsafeRawBufferPointer) -> Bool) throws -> Bool {
    let octets = Array(("HTTP/1.1 101 Switching Protocols\r\n" + lines + "\r\n").utf8)
    var head = ResponseHead()
    return try octets.withUnsafeBytes { bytes in
      guard try ResponseDecoder.decode(bytes, limits: .standard, requestMethod: .get, maySwitch: true, into: &head) else { return false }
      return use(head, bytes)
    }
  }

  @Test func aSwitchSaysSo() throws {
    func switches(_ lines: String) throws -> Bool { try response(lines) { UpgradeField.switches($0, $1, to: Array("websocket".utf8)) } }
    #expect(try switches("Upgrade: WebSocket\r\nConnection: Upgrade\r\n"))
    #expect(try !switches("Upgrade: other\r\nConnection: Upgrade\r\n"))
    #expect(try !switches("Upgrade: websocket\r\n"))
    #expect(try !switches("Upgrade: websocket, other\r\nConnection: Upgrade\r\n"))
    #expect(try !switches("Connection: Upgrade\r\n"))
    #expect(throws: HTTPError.self) { try switches("Upgrade: websocket\r\nContent-Length: 3\r\n") }
    // Where nobody asked for it, the status is refused.
    #expect(throws: HTTPError.self) {
      var head = ResponseHead()
      _ = try Array("HTTP/1.1 101 x\r\n\r\n".utf8).withUnsafeBytes {
        try ResponseDecoder.decode($0, limits: .standard, requestMethod: .get, into: &head)
      }
    }
  }

  @Test func knowsCompression() throws {
    func extensions(_ line: String, _ wanted: WebSocketExtensions) throws -> Bool {
      try response(line) { WebSocketHandshake.extensions($0, $1) == wanted }
    }
    #expect(try extensions("", .none))
    #expect(try extensions("Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n", .compression))
    #expect(try extensions("Sec-WebSocket-Extensions: permessage-deflate, x-other\r\n", .unknown))
  }
}
