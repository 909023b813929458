import Bytes
import Crypto
import Encoding
import Ethereum
import Testing

private let a = Address(bytes: [UInt8](repeating: 0xAA, count: 20)) ?? .zero
private let one = Word256(1 as UInt64).octets
private let aText = "\"0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""
private let oneText = "\"0x0000000000000000000000000000000000000000000000000000000000000001\""

private func parameters(_ call: RPCCall) throws -> String {
  var buffer = ByteBuffer()
  call.write(id: 7, to: &buffer)
  let text = buffer.string()
  #expect(try JSON.parse(text)["id"]?.intValue == 7)
  let start = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"\(call.method)\",\"params\":["
  #expect(text.hasPrefix(start) && text.hasSuffix("]}"))
  return String(text.dropFirst(start.count).dropLast(2))
}

private func reply(_ text: String, id: UInt64 = 7) throws(EthereumError) -> RPCReply { try RPCReply(Array(text.utf8), id: id) }

private func result(_ text: String) throws -> JSONValue { try #require(try reply("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\(text)}").result) }

@Suite struct RPCCallTests {
  @Test func questionsWithoutMuch() throws {
    for call in [RPCCall.chainID, .blockNumber, .gasPrice, .maxPriorityFeePerGas] { #expect(try parameters(call) == "") }
    #expect(try parameters(.transactionCount(a, at: .pending)) == aText + ",\"pending\"")
    #expect(try parameters(.code(a, at: .latest)) == aText + ",\"latest\"")
    #expect(try parameters(.balance(a, at: .safe)) == aText + ",\"safe\"")
    #expect(try parameters(.sendRawTransaction([2, 0xC0])) == "\"0x02c0\"")
    #expect(try parameters(.transactionReceipt(one)) == oneText)
    #expect(try parameters(.transaction(one)) == oneText)
    #expect(try parameters(.block(.finalized)) == "\"finalized\",false")
    #expect(try parameters(.block(.number(255))) == "\"0xff\",false")
    #expect(try parameters(.block(.number(0))) == "\"0x0\",false")
    #expect(try parameters(.feeHistory(blocks: 5, upTo: .earliest, percentiles: [10, 90])) == "\"0x5\",\"earliest\",[10,90]")
  }

  @Test func callsThatAreTried() throws {
    #expect(try parameters(.call(CallRequest(to: a, data: [1]), at: .latest)) == "{\"to\":\(aText),\"data\":\"0x01\"},\"latest\"")
    #expect(
      try parameters(.estimateGas(CallRequest(from: a, to: nil, data: [], value: 16, gas: 9)))
        == "{\"from\":\(aText),\"gas\":\"0x9\",\"value\":\"0x10\",\"data\":\"0x\"},\"latest\"")
  }

  @Test func filtersOfLogs() throws {
    #expect(
      try parameters(.logs(LogFilter(from: .number(1), to: .latest, addresses: [a, a], topics: [[one], [], [one, one]])))
        == "{\"fromBlock\":\"0x1\",\"toBlock\":\"latest\",\"address\":[\(aText),\(aText)],\"topics\":[[\(oneText)],null,[\(oneText),\(oneText)]]}")
    #expect(
      try parameters(.logs(LogFilter(from: .earliest, to: .pending, addresses: [], topics: [])))
        == "{\"fromBlock\":\"earliest\",\"toBlock\":\"pending\"}")
  }

  @Test func ordersToARemoteSigner() throws {
    var transaction = Transaction(
      chainID: 8453, nonce: 7, maxPriorityFeePerGas: 1, maxFeePerGas: 2, gasLimit: 21_000, to: a, value: 5, data: [1],
      accessList: [AccessListEntry(address: a, storageKeys: [one])])
    #expect(
      try parameters(.signTransaction(transaction, from: a))
        == "{\"from\":\(aText),\"to\":\(aText),\"gas\":\"0x5208\",\"maxPriorityFeePerGas\":\"0x1\",\"maxFeePerGas\":\"0x2\",\"nonce\":\"0x7\",\"value\":\"0x5\",\"data\":\"0x01\",\"chainId\":\"0x2105\",\"accessList\":[{\"address\":\(aText),\"storageKeys\":[\(oneText)]}]}")
    transaction.kind = .legacy
    transaction.accessList = []
    transaction.to = nil
    #expect(
      try parameters(.signTransaction(transaction, from: a))
        == "{\"from\":\(aText),\"gas\":\"0x5208\",\"gasPrice\":\"0x2\",\"nonce\":\"0x7\",\"value\":\"0x5\",\"data\":\"0x01\",\"chainId\":\"0x2105\"}")
  }
}

@Suite struct RPCReplyTests {
  @Test func results() throws {
    #expect(try result("\"0x2105\"").quantity() == 8453)
    #expect(try result("null").isNull)
    #expect(try reply("{\"id\":7,\"jsonrpc\":\"2.0\",\"result\":\"0x1\",\"error\":null}").result?.quantity64() == 1)
    #expect(try result("\"0x\"").data() == [])
    #expect(try result("\"0x0Aff\"").data() == [10, 255])
  }

  @Test func failures() throws {
    let failure = try #require(
      try reply("{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":-32000,\"message\":\"nonce too low\"}}").failure)
    #expect(failure == RPCFailure(code: -32000, message: "nonce too low") && failure.revertReason == nil)
    let data = HexData.text(try RevertReason.messageFunction.call(with: [.string("no")]))
    for form in ["\"\(data)\"", "{\"data\":\"\(data)\"}"] {
      let text = "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":null,\"error\":{\"code\":3,\"message\":\"execution reverted\",\"data\":\(form)}}"
      #expect(try reply(text).failure?.revertReason == .message("no"))
    }
    // A text that the endpoint could not read has no identifier to give back.
    #expect(try reply("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"parse error\"}}").failure?.code == -32700)
    let long = String(repeating: "ä", count: 2000)
    let cut = try reply("{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":1,\"message\":\"\(long)\"}}").failure
    #expect(cut?.message.utf8.count == RPCFailure.maximumMessage)
  }

  @Test func otherAnswersAreRefused() {
    func refusal(_ text: String) -> EthereumError? {
      do {
        _ = try reply(text)
        return nil
      } catch { return error }
    }
    for text in ["", "{", "<html>", "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1}x", "{\"jsonrpc\":\"2.0\",\"id\":7,\"id\":7,\"result\":1}"] {
      #expect(refusal(text) == .reply(.malformed), "\(text)")
    }
    for text in [
      "[]", "1", "{}", "{\"id\":7,\"result\":1}", "{\"jsonrpc\":\"1.0\",\"id\":7,\"result\":1}", "{\"jsonrpc\":\"2.0\",\"id\":7}",
      "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":1,\"error\":{\"code\":1,\"message\":\"\"}}", "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":\"no\"}",
      "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":\"1\",\"message\":\"\"}}", "{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{\"code\":1}}",
    ] {
      #expect(refusal(text) == .reply(.notRPC), "\(text)")
    }
    for id in ["8", "\"7\"", "null", "7.5", "-7", "true"] {
      #expect(refusal("{\"jsonrpc\":\"2.0\",\"id\":\(id),\"result\":1}") == .reply(.wrongIdentifier), "\(id)")
    }
    #expect(refusal("{\"jsonrpc\":\"2.0\",\"result\":1}") == .reply(.wrongIdentifier))
    #expect(refusal("{\"jsonrpc\":\"2.0\",\"id\":8,\"error\":{\"code\":1,\"message\":\"\"}}") == .reply(.wrongIdentifier))
    #expect(throws: EthereumError.reply(.malformed)) {
      try RPCReply([UInt8](repeating: 0x20, count: 100), id: 7, limits: JSONLimits(octets: 99, depth: 16))
    }
  }

  @Test func quantitiesOfOtherForms() throws {
    for text in ["1", "\"1\"", "\"0x\"", "\"0x01\"", "\"0xg\"", "null", "[]", "\"0x1\(String(repeating: "0", count: 64))\""] {
      #expect(throws: EthereumError.reply(.wrongForm), "\(text)") { try result(text).quantity() }
    }
    #expect(throws: EthereumError.reply(.wrongForm)) { try result("\"0x10000000000000000\"").quantity64() }
    #expect(throws: EthereumError.numberTooLarge) { try result("\"0x1\(String(repeating: "0", count: 32))\"").quantity128() }
    for text in ["\"0x1\"", "\"01\"", "\"0xzz\"", "1", "null"] {
      #expect(throws: EthereumError.reply(.wrongForm)) { try result(text).data() }
      #expect(throws: EthereumError.reply(.wrongForm)) { try result(text).digest() }
      #expect(throws: EthereumError.reply(.wrongForm)) { try result(text).address() }
    }
  }

  private let receipt = """
    {"transactionHash":\(oneText),"transactionIndex":"0x0","blockNumber":"0x10","blockHash":\(oneText),"from":\(aText),"to":null,
    "contractAddress":\(aText),"cumulativeGasUsed":"0x5","gasUsed":"0x5208","effectiveGasPrice":"0x3","status":"0x1","type":"0x2","logsBloom":"0x00",
    "logs":[{"address":\(aText),"topics":[\(oneText)],"data":"0x01","blockNumber":"0x10","transactionHash":\(oneText),"transactionIndex":"0x0","blockHash":\(oneText),"logIndex":"0x2","removed":false}]}
    """

  @Test func receipts() throws {
    #expect(try TransactionReceipt(result("null")) == nil)
    let read = try #require(try TransactionReceipt(result(receipt)))
    #expect(read.isSuccessful && read.blockNumber == 16 && read.gasUsed == 21_000 && read.to == nil && read.contractAddress == a)
    #expect(read.logs == [Log(address: a, topics: [one], data: [1], blockNumber: 16, blockHash: one, transactionHash: one, index: 2)])
    #expect(read.fee == 63_000)
    #expect(try TransactionReceipt(result(receipt.replacing("\"status\":\"0x1\"", with: "\"status\":\"0x0\"")))?.isSuccessful == false)
    for (text, other) in [
      ("\"status\":\"0x1\"", "\"status\":\"0x2\""), ("\"status\":\"0x1\",", ""), ("\"blockNumber\":\"0x10\",\"blockHash\"", "\"blockNumber\":null,\"blockHash\""),
      ("\"logs\":[", "\"logs\":[1,"), ("\"topics\":[", "\"topics\":[\(oneText),\(oneText),\(oneText),\(oneText),"), ("\"removed\":false", "\"removed\":0"),
      ("\"gasUsed\":\"0x5208\"", "\"gasUsed\":21000"),
    ] {
      #expect(receipt.contains(text))
      #expect(throws: EthereumError.reply(.wrongForm), "\(other)") { try TransactionReceipt(result(receipt.replacing(text, with: other))) }
    }
  }

  @Test func everyTruncationOfAReplyIsRefused() throws {
    let octets = Array("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\(receipt)}".utf8)
    for count in 0..<octets.count {
      #expect(throws: EthereumError.self) { try RPCReply(Array(octets[..<count]), id: 7) }
    }
    var random = SeededGenerator(seed: 17)
    for _ in 0..<3000 {
      var changed = octets
      changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0x20...0x7F, using: &random)
      if let value = (try? RPCReply(changed, id: 7))?.result { _ = try? TransactionReceipt(value) }
    }
  }

  @Test func logsAreLimited() throws {
    let many = JSONValue.array(Array(repeating: .null, count: Log.maximumCount + 1))
    #expect(throws: EthereumError.reply(.tooLarge)) { try Log.logs(many) }
    #expect(try Log.logs(.array([])) == [])
  }

  @Test func blocksAndFees() throws {
    let text = "{\"number\":\"0x1\",\"hash\":\(oneText),\"parentHash\":\(oneText),\"timestamp\":\"0x5\",\"gasLimit\":\"0x6\",\"baseFeePerGas\":\"0x7\",\"transactions\":[]}"
    #expect(
      try BlockHeader(result(text)) == BlockHeader(number: 1, hash: one, parentHash: one, timestamp: 5, baseFeePerGas: 7, gasLimit: 6))
    #expect(try BlockHeader(result(text.replacing(",\"baseFeePerGas\":\"0x7\"", with: "")))?.baseFeePerGas == nil)
    #expect(try BlockHeader(result("null")) == nil)
    #expect(throws: EthereumError.reply(.wrongForm)) { try BlockHeader(result(text.replacing("\"hash\":\(oneText)", with: "\"hash\":null"))) }
    let history = try FeeHistory(result("{\"oldestBlock\":\"0x1\",\"baseFeePerGas\":[\"0x2\",\"0x3\"],\"gasUsedRatio\":[0.5],\"reward\":[[\"0x4\"]]}"))
    #expect(history.oldestBlock == 1 && history.baseFeesPerGas == [2, 3] && history.rewards == [[4]])
    #expect(try FeeHistory(result("{\"oldestBlock\":\"0x1\",\"baseFeePerGas\":[],\"reward\":null}")).rewards == [])
  }

  @Test func transactions() throws {
    let text = "{\"hash\":\(oneText),\"from\":\(aText),\"to\":\(aText),\"nonce\":\"0x2\",\"value\":\"0x3\",\"input\":\"0x04\",\"gas\":\"0x5\",\"gasPrice\":\"0x6\",\"type\":\"0x0\",\"blockNumber\":null,\"blockHash\":null}"
    let read = try #require(try TransactionRecord(result(text)))
    #expect(read.nonce == 2 && read.value == 3 && read.input == [4] && read.maxFeePerGas == 6 && read.blockNumber == nil && read.to == a)
    let tempo = try #require(
      try TransactionRecord(result("{\"hash\":\(oneText),\"from\":\(aText),\"nonce\":\"0x0\",\"type\":\"0x76\",\"calls\":[],\"blockNumber\":\"0x9\"}")))
    #expect(tempo.type == 0x76 && tempo.input == nil && tempo.value == nil && tempo.blockNumber == 9)
    #expect(try TransactionRecord(result("null")) == nil)
    #expect(throws: EthereumError.reply(.wrongForm)) { try TransactionRecord(result("{}")) }
  }
}
