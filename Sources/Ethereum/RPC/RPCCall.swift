import Bytes

/// Holds a question to an endpoint, or an order (Ethereum's execution API over JSON-RPC 2.0; `signTransaction` is web3signer's).
public enum RPCCall: Hashable, Sendable {
  /// Asks for the chain's number.
  case chainID
  /// Asks for the newest block's number.
  case blockNumber
  /// Asks what a call would return.
  case call(CallRequest, at: BlockTag)
  /// Asks how much gas a call would take.
  case estimateGas(CallRequest, at: BlockTag = .latest)
  /// Asks for a gas price that is likely to do.
  case gasPrice
  /// Asks for the base fees of some blocks up to one, with percentiles of the priority fees.
  case feeHistory(blocks: UInt64, upTo: BlockTag, percentiles: [UInt8])
  /// Asks for a priority fee that is likely to do.
  case maxPriorityFeePerGas
  /// Asks how many transactions an account has sent.
  case transactionCount(Address, at: BlockTag)
  /// Broadcasts a signed transaction.
  case sendRawTransaction([UInt8])
  /// Asks what became of a transaction.
  case transactionReceipt(Digest32)
  /// Asks for a transaction.
  case transaction(Digest32)
  /// Asks for a contract's code.
  case code(Address, at: BlockTag)
  /// Asks for an account's wei.
  case balance(Address, at: BlockTag)
  /// Asks for a block with its transactions' hashes.
  case block(BlockTag)
  /// Asks for logs.
  case logs(LogFilter)
  /// Has a remote signer sign a transaction of the account.
  case signTransaction(Transaction, from: Address)

  /// The method's name.
  public var method: StaticString {
    switch self {
    case .chainID: "eth_chainId"
    case .blockNumber: "eth_blockNumber"
    case .call: "eth_call"
    case .estimateGas: "eth_estimateGas"
    case .gasPrice: "eth_gasPrice"
    case .feeHistory: "eth_feeHistory"
    case .maxPriorityFeePerGas: "eth_maxPriorityFeePerGas"
    case .transactionCount: "eth_getTransactionCount"
    case .sendRawTransaction: "eth_sendRawTransaction"
    case .transactionReceipt: "eth_getTransactionReceipt"
    case .transaction: "eth_getTransactionByHash"
    case .code: "eth_getCode"
    case .balance: "eth_getBalance"
    case .block: "eth_getBlockByNumber"
    case .logs: "eth_getLogs"
    case .signTransaction: "eth_signTransaction"
    }
  }

  /// Writes the request's JSON to the end of a buffer; the answer carries the same identifier.
  public func write(id: UInt64, to buffer: inout ByteBuffer) {
    buffer.append("{\"jsonrpc\":\"2.0\",\"id\":")
    buffer.append(decimal: id)
    buffer.append(",\"method\":\"")
    buffer.append(method)
    buffer.append("\",\"params\":[")
    writeParameters(to: &buffer)
    buffer.append("]}")
  }

  private func writeParameters(to buffer: inout ByteBuffer) {
    switch self {
    case .chainID, .blockNumber, .gasPrice, .maxPriorityFeePerGas: return
    case .call(let request, let tag), .estimateGas(let request, let tag):
      request.write(to: &buffer)
      buffer.append(byte: 0x2C)
      tag.write(to: &buffer)
    case .feeHistory(let blocks, let newest, let percentiles):
      RPCText.append(quantity: blocks, to: &buffer)
      buffer.append(byte: 0x2C)
      newest.write(to: &buffer)
      buffer.append(byte: 0x2C)
      RPCText.append(percentiles, to: &buffer) { percentile, buffer in buffer.append(decimal: UInt64(percentile)) }
    case .transactionCount(let account, let tag), .code(let account, let tag), .balance(let account, let tag):
      RPCText.append(account, to: &buffer)
      buffer.append(byte: 0x2C)
      tag.write(to: &buffer)
    case .sendRawTransaction(let octets): RPCText.append(data: octets, to: &buffer)
    case .transactionReceipt(let hash), .transaction(let hash): RPCText.append(hash, to: &buffer)
    case .block(let tag):
      tag.write(to: &buffer)
      buffer.append(",false")
    case .logs(let filter): filter.write(to: &buffer)
    case .signTransaction(let transaction, let from): transaction.write(from: from, to: &buffer)
    }
  }
}

/// Holds a call that is tried without being sent.
public struct CallRequest: Hashable, Sendable {
  /// Who would call; nil for nobody in particular.
  public var from: Address?
  /// The contract; nil where code is tried.
  public var to: Address?
  /// The call's octets.
  public var data: [UInt8]
  /// The wei that would go with it.
  public var value: Word256
  /// The most units of gas; nil for the endpoint's own limit.
  public var gas: UInt64?

  /// Takes the members.
  public init(from: Address? = nil, to: Address?, data: [UInt8], value: Word256 = 0, gas: UInt64? = nil) {
    self.from = from
    self.to = to
    self.data = data
    self.value = value
    self.gas = gas
  }

  func write(to buffer: inout ByteBuffer) {
    var object = RPCObject()
    if let from {
      object.member("from", in: &buffer)
      RPCText.append(from, to: &buffer)
    }
    if let to {
      object.member("to", in: &buffer)
      RPCText.append(to, to: &buffer)
    }
    if let gas {
      object.member("gas", in: &buffer)
      RPCText.append(quantity: gas, to: &buffer)
    }
    if !value.isZero {
      object.member("value", in: &buffer)
      RPCText.append(quantity: value, to: &buffer)
    }
    object.member("data", in: &buffer)
    RPCText.append(data: data, to: &buffer)
    object.end(in: &buffer)
  }
}

/// Says which logs are asked for.
public struct LogFilter: Hashable, Sendable {
  /// The first block.
  public var from: BlockTag
  /// The last block.
  public var to: BlockTag
  /// The contracts; none for all.
  public var addresses: [Address]
  /// For each topic those of which one must stand there; an empty list where any may.
  public var topics: [[Digest32]]

  /// Takes the members.
  public init(from: BlockTag, to: BlockTag, addresses: [Address], topics: [[Digest32]]) {
    self.from = from
    self.to = to
    self.addresses = addresses
    self.topics = topics
  }

  func write(to buffer: inout ByteBuffer) {
    var object = RPCObject()
    object.member("fromBlock", in: &buffer)
    from.write(to: &buffer)
    object.member("toBlock", in: &buffer)
    to.write(to: &buffer)
    if !addresses.isEmpty {
      object.member("address", in: &buffer)
      RPCText.append(addresses, to: &buffer) { RPCText.append($0, to: &$1) }
    }
    if !topics.isEmpty {
      object.member("topics", in: &buffer)
      RPCText.append(topics, to: &buffer) { choices, buffer in
        if choices.isEmpty { return buffer.append("null") }
        RPCText.append(choices, to: &buffer) { RPCText.append($0, to: &$1) }
      }
    }
    object.end(in: &buffer)
  }
}

extension Transaction {
  /// Writes what a remote signer is asked to sign.
  fileprivate func write(from: Address, to buffer: inout ByteBuffer) {
    var object = RPCObject()
    object.member("from", in: &buffer)
    RPCText.append(from, to: &buffer)
    if let to {
      object.member("to", in: &buffer)
      RPCText.append(to, to: &buffer)
    }
    object.member("gas", in: &buffer)
    RPCText.append(quantity: gasLimit, to: &buffer)
    switch kind {
    case .legacy, .accessList:
      object.member("gasPrice", in: &buffer)
      RPCText.append(quantity: Word256(maxFeePerGas), to: &buffer)
    case .dynamicFee:
      object.member("maxPriorityFeePerGas", in: &buffer)
      RPCText.append(quantity: Word256(maxPriorityFeePerGas), to: &buffer)
      object.member("maxFeePerGas", in: &buffer)
      RPCText.append(quantity: Word256(maxFeePerGas), to: &buffer)
    }
    object.member("nonce", in: &buffer)
    RPCText.append(quantity: nonce, to: &buffer)
    object.member("value", in: &buffer)
    RPCText.append(quantity: value, to: &buffer)
    object.member("data", in: &buffer)
    RPCText.append(data: data, to: &buffer)
    object.member("chainId", in: &buffer)
    RPCText.append(quantity: chainID, to: &buffer)
    if !accessList.isEmpty {
      object.member("accessList", in: &buffer)
      RPCText.append(accessList, to: &buffer) { entry, buffer in entry.write(to: &buffer) }
    }
    object.end(in: &buffer)
  }
}

extension AccessListEntry {
  fileprivate func write(to buffer: inout ByteBuffer) {
    var object = RPCObject()
    object.member("address", in: &buffer)
    RPCText.append(address, to: &buffer)
    object.member("storageKeys", in: &buffer)
    RPCText.append(storageKeys, to: &buffer) { RPCText.append($0, to: &$1) }
    object.end(in: &buffer)
  }
}
