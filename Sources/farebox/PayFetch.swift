import Agent
import Encoding
import Glibc
import Payments

/// Makes the request of `farebox pay` and writes its answer.
struct PayFetch {
  let options: Pay

  func run() throws(PayFailure) {
    let request = try PayRequest(options: options.request).request(to: try options.address())
    let agent = try options.agent()
    let sink = PaySink(path: options.output.output)
    let narrator = PayNarrator(isVerbose: options.output.verbose, isSilent: options.output.silent)
    let answer = try failing { () throws(AgentError) in try agent.fetch(request) { narrator.tell($0) } }
    if options.output.verbose { narrator.tell(answer.head) }
    if options.output.include || options.request.head { try sink.write(Self.head(answer.head)) }
    do throws(PayFailure) { try copy(answer, to: sink, narrator) } catch {
      // What was paid is told in any case: of an answer that broke off it is what counts.
      if options.output.json { try printSummary(answer) }
      throw error
    }
    if options.output.json { try printSummary(answer) }
    try conclude(answer)
  }

  private func copy(_ answer: AgentAnswer, to sink: PaySink, _ narrator: PayNarrator) throws(PayFailure) {
    let isShown = !options.output.silent && StandardError.isTerminal && !sink.isTerminal
    narrator.progress = PayProgress(isShown: isShown, total: answer.head.contentLength, at: .now())
    try sink.open()
    defer { narrator.progress = nil }
    while let octets = try next(answer, narrator) {
      do throws(PayFailure) { try sink.write(octets) } catch {
        narrator.progress?.interrupt()
        throw error
      }
      narrator.progress?.show(answer.byteCount, used: answer.used, budget: answer.budget, at: .now())
    }
    narrator.progress?.show(answer.byteCount, used: answer.used, budget: answer.budget, at: .now(), isLast: true)
  }

  private func next(_ answer: AgentAnswer, _ narrator: PayNarrator) throws(PayFailure) -> [UInt8]? {
    do throws(AgentError) { return try answer.next() } catch {
      narrator.progress?.interrupt()
      throw PayFailure(error)
    }
  }

  private func conclude(_ answer: AgentAnswer) throws(PayFailure) {
    let status = answer.head.status
    if status == 402 { throw PayFailure(.notPayable, "the server asks for a payment (402), and offers no way to make it") }
    if status >= 400 { throw PayFailure(.httpError, "the server answered \(status) \(answer.head.reason)") }
    if let fault = answer.payment?.fault { throw PayFailure(.receipt(fault)) }
  }

  private static func head(_ head: ReceivedHead) -> [UInt8] {
    var text = "HTTP/1.1 \(head.status) \(head.reason)\r\n"
    for field in head.fields { text += "\(field.name): \(field.value)\r\n" }
    return Array((text + "\r\n").utf8)
  }

  private func printSummary(_ answer: AgentAnswer) throws(PayFailure) {
    var summary: JSONObject = [
      "status": .integer(Int64(answer.head.status)), "bytes": .integer(Int64(clamping: answer.byteCount)),
    ]
    if let payment = answer.payment {
      summary.set("payment", .string(PayText.kind(payment.kind)))
      summary.set("rail", .string(payment.rail.rawValue))
      if let chain = payment.chain {
        summary.set("amount", .string(String(chain.amount)))
        summary.set("currency", .string(payment.currency.code))
        summary.set("network", .string(chain.chain.description))
        summary.set("transaction", .string("0x" + chain.transaction.hex))
        summary.set("payer", .string(chain.payer.checksummed))
        summary.set("recipients", .array(chain.recipients.map { .string($0.checksummed) }))
        summary.set("receipt", .string(chain.field))
      }
      if let receipt = payment.receipt {
        summary.set("amount", .string(String(receipt.amount)))
        summary.set("currency", .string(receipt.currency))
        summary.set("reference", .string(receipt.reference))
        summary.set("receipt", .string(String(decoding: receipt.encoded, as: UTF8.self)))
      }
      if let channel = payment.channel { summarise(channel, payment, answer, into: &summary) }
      if let session = payment.session {
        let used = answer.used.compactMap { unit in unit.count.map { (unit.name, JSONValue.string(String($0))) } }
        summary.set("units", .object(JSONObject(used)))
        summary.set("session", .string(session.sessionID))
        summary.set("deposit", .string(String(session.deposit)))
        summary.set("spent", .string(String(session.spent)))
        summary.set("remaining", .string(String(session.remaining)))
      }
    }
    let text = String(decoding: JSON.serialize(.object(summary)), as: UTF8.self)
    if options.output.output == nil { StandardError.write(text + "\n") } else { try StandardOutput.print(text) }
  }

  private func summarise(_ channel: KeptChannel, _ payment: AgentPayment, _ answer: AgentAnswer, into summary: inout JSONObject) {
    let used = answer.used.compactMap { unit in unit.count.map { (unit.name, JSONValue.string(String($0))) } }
    summary.set("units", .object(JSONObject(used)))
    summary.set("currency", .string(channel.currency.code))
    for member in PayText.document(channel).members { summary.set(member.name, member.value) }
    if let receipt = payment.channelReceipt { summary.set("receipt", .string(String(decoding: receipt.fieldValue, as: UTF8.self))) }
  }
}

/// Makes the request that curl's options describe.
struct PayRequest {
  /// The octets of standard input that are taken as data; a larger upload goes by a file.
  static let inputByteLimit = 1 << 30

  let options: RequestOptions

  func request(to address: WebAddress) throws(PayFailure) -> AgentRequest {
    var fields = try fields()
    let content = try content()
    if !options.data.isEmpty, !fields.contains(where: { $0.name.lowercased() == "content-type" }) {
      fields.append(AgentRequest.Field(name: "Content-Type", value: "application/x-www-form-urlencoded"))
    }
    let method = options.method ?? (options.head ? "HEAD" : options.content.isEmpty ? "GET" : "POST")
    return try failing { () throws(AgentError) in
      try AgentRequest(method: method, address: address, fields: fields, content: content)
    }
  }

  private func fields() throws(PayFailure) -> [AgentRequest.Field] {
    var fields: [AgentRequest.Field] = []
    for line in options.headers {
      guard let colon = line.firstIndex(of: ":") else {
        throw PayFailure(.malformedAddress, "'\(line)' is no header field: it needs a name, a colon and a value")
      }
      let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      fields.append(AgentRequest.Field(name: String(line[..<colon]), value: String(value)))
    }
    return fields
  }

  private func content() throws(PayFailure) -> RequestContent {
    // One file alone is sent from the disk, whatever its size; everything else is put together in memory.
    if options.data.isEmpty, options.dataBinary.count == 1, let only = options.dataBinary.first, only.hasPrefix("@"), only != "@-" {
      return .file(path: String(only.dropFirst()))
    }
    guard !options.content.isEmpty else { return .none }
    var octets: [UInt8] = []
    for (index, words) in options.content.enumerated() {
      if index > 0 { octets.append(UInt8(ascii: "&")) }
      let part = try Self.part(words)
      let isText = index < options.data.count && words.hasPrefix("@")
      octets += isText ? part.filter { $0 != 0x0A && $0 != 0x0D } : part
    }
    return .octets(octets)
  }

  private static func part(_ words: String) throws(PayFailure) -> [UInt8] {
    guard words.hasPrefix("@") else { return Array(words.utf8) }
    let path = String(words.dropFirst())
    let descriptor = path == "-" ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw PayFailure(.contentUnreadable(path: path, code: errno)) }
    defer { if descriptor != STDIN_FILENO { _ = close(descriptor) } }
    var octets: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while octets.count <= inputByteLimit {
      // Safe because: the array's own storage and count are passed.
      let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count == 0 { return octets }
      guard count > 0 else {
        if errno == EINTR { continue }
        throw PayFailure(.contentUnreadable(path: path, code: errno))
      }
      octets += chunk[..<count]
    }
    throw PayFailure(.contentUnreadable(path: path, code: EFBIG))
  }
}
