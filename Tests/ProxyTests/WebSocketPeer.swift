import Configuration
import Crypto
import Encoding
import HTTP
import Metering
import Methods
import Payments
import Testing

@testable import Proxy

/// One end of a WebSocket connection in a test: writes frames as they have to be, and reads them octet by octet.
struct WebSocketPeer {
  struct Frame: Equatable {
    var opcode: UInt8
    var payload: [UInt8]
    var isFinal = true

    var text: String { String(decoding: payload, as: UTF8.self) }
    /// The code of a Close frame.
    var code: Int { payload.count >= 2 ? Int(payload[0]) << 8 | Int(payload[1]) : 0 }
    var reason: String { String(decoding: payload.dropFirst(2), as: UTF8.self) }
  }

  static let key = "dGhlIHNhbXBsZSBub25jZQ=="
  let wire: Wire
  let isClient: Bool

  static func octets(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true, isMasked: Bool) -> [UInt8] {
    var octets = [(isFinal ? 0x80 : 0) | opcode]
    let bit: UInt8 = isMasked ? 0x80 : 0
    switch payload.count {
    case ...125: octets.append(bit | UInt8(payload.count))
    case ...0xFFFF: octets += [bit | 126, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
    default: octets += [bit | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
    }
    let mask: [UInt8] = [9, 8, 7, 6]
    return isMasked ? octets + mask + payload.enumerated().map { $0.element ^ mask[$0.offset & 3] } : octets + payload
  }

  func send(_ opcode: UInt8, _ payload: [UInt8], isFinal: Bool = true) {
    wire.send(Self.octets(opcode, payload, isFinal: isFinal, isMasked: isClient))
  }

  func send(_ text: String) { send(1, Array(text.utf8)) }

  func close(_ code: Int = 1000) { send(8, [UInt8(code >> 8), UInt8(code & 0xFF)]) }

  /// Reads the next frame; the server's are unmasked, the client's masked.
  func receive() throws -> Frame {
    let head = try wire.read(2)
    var count = Int(head[1] & 0x7F)
    if count == 126 {
      let more = try wire.read(2)
      count = Int(more[0]) << 8 | Int(more[1])
    } else if count == 127 {
      count = try wire.read(8).reduce(0) { $0 << 8 | Int($1) }
    }
    #expect((head[1] & 0x80 != 0) == !isClient, "masked by the client, and by nobody else")
    let mask = isClient ? [0, 0, 0, 0] : try wire.read(4)
    let payload = count == 0 ? [] : try wire.read(count)
    return Frame(
      opcode: head[0] & 0x0F, payload: payload.enumerated().map { $0.element ^ mask[$0.offset & 3] }, isFinal: head[0] & 0x80 != 0)
  }

  /// Answers the handshake of a client, and speaks as the server from then on; nil where the client does not come that far.
  static func accept(_ wire: Wire, lines: String = "") -> (peer: WebSocketPeer, head: String)? {
    guard let head = try? wire.read(through: "\r\n\r\n") else { return nil }
    let key = head.split(separator: "\r\n").first { $0.lowercased().hasPrefix("sec-websocket-key:") }.map { String($0.split(separator: " ")[1]) } ?? ""
    let accept = Base64.encode(SHA1.hash(Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8)))
    wire.send(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: \(accept)\r\n\(lines)\r\n")
    return (WebSocketPeer(wire: wire, isClient: false), head)
  }

  static func handshake(_ target: String, _ fields: [(String, String)] = []) -> String {
    PaidRelay.request(
      target,
      [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")] + fields)
  }
}

extension ScriptedUpstream {
  /// Echoes messages and answers pings, and closes when it is asked to.
  static func echoing() throws -> ScriptedUpstream {
    try ScriptedUpstream { wire, _ in
      guard let (peer, _) = WebSocketPeer.accept(wire) else { return }
      while let frame = try? peer.receive() {
        switch frame.opcode {
        case 8:
          peer.send(8, frame.payload)
          return
        case 9: peer.send(10, frame.payload)
        default: peer.send(frame.opcode, frame.payload, isFinal: frame.isFinal)
        }
      }
    }
  }
}

extension PaidRelay {
  /// A relay whose route `/live` passes WebSocket on at a price.
  static func selling(_ words: String, upstreamPort: UInt16, hold: Duration = .seconds(60), _ configure: (inout Settings) -> Void = { _ in }) throws -> PaidRelay {
    try PaidRelay(upstreamPort: upstreamPort) { settings in
      var route = Settings.Route(id: "live", path: .prefix("/live"))
      route.offer = .priced(try! Price(parsing: words, currencies: [cashierCurrency]))
      route.merchant = "acme"
      route.upgrades = ["websocket"]
      route.holdTimeout = hold
      settings.routes.append(route)
      configure(&settings)
    }
  }

  /// Makes a handshake, and gives the head of the answer and the client's end.
  func upgrade(_ target: String, _ fields: [(String, String)] = []) throws -> (head: String, peer: WebSocketPeer) {
    let wire = try connect()
    wire.send(WebSocketPeer.handshake(target, fields))
    let head = try wire.read(through: "\r\n\r\n")
    return (head, WebSocketPeer(wire: wire, isClient: true))
  }

  /// Opens a session by a handshake that succeeds.
  func upgradeOpening(_ target: String, deposit: UInt128) throws -> (secret: SessionSecret, head: String, peer: WebSocketPeer) {
    let secret = SessionSecret.generate()
    let credential = PrepaidCredential.open(try challenge(target, "session"), deposit: deposit, secret: secret, wallet: wallet)
    let (head, peer) = try upgrade(target, authorization(credential))
    #expect(head.hasPrefix("HTTP/1.1 101 "), "\(head)")
    return (secret, head, peer)
  }

  /// Whether a session has spent so much, closed or not.
  func hasSpent(_ amount: UInt128, _ secret: SessionSecret) -> Bool {
    if let view = ledger.session(secret.id).flatMap({ ledger.view($0) }) { return view.spent == amount }
    if case .closed(let session)? = ledger.closeResult(secret.id) { return session.spent == amount }
    return false
  }
}
