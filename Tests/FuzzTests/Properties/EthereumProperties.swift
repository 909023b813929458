import Bytes
import Ethereum

private let key = EthereumKey.generate()
private let entry = AccessListEntry(address: key.address, storageKeys: [Word256.maximum.octets])

/// Signed transactions of every kind.
private var transactions: [[UInt8]] {
  let kinds: [Transaction.Kind] = [.legacy, .accessList, .dynamicFee]
  return kinds.map { kind in
    Transaction(
      kind: kind, chainID: 8453, nonce: 7, maxPriorityFeePerGas: 1, maxFeePerGas: 1, gasLimit: 90_000, to: key.address, value: 5,
      data: ERC20.transfer(to: key.address, value: 1000), accessList: kind == .legacy ? [] : [entry]
    ).signed(by: key).encoded
  }
}

/// Tempo's transactions and envelopes, with and without a fee payer.
private var tempoTransactions: [[UInt8]] {
  let sponsored = TempoTransaction(
    chainID: 4217, maxPriorityFeePerGas: 1, maxFeePerGas: 2, gasLimit: 90_000,
    calls: [.init(to: key.address, data: ERC20.transfer(to: key.address, value: 1000))], accessList: [entry],
    nonceKey: TempoTransaction.expiringNonceKey, nonce: 0, validBefore: 1_800_000_000, feePayment: .awaited
  ).signed(by: key)
  let complete = try? sponsored.sponsored(by: key, feeToken: key.address)
  return [sponsored.encoded, sponsored.envelope, complete?.encoded ?? []]
}

private let types: [ABIType] = [
  .address, .array(.tuple([.address, .bytes])), .tuple([.array(.uint256), .bool, .fixedBytes(4)]), .string,
]
private var encodings: [[UInt8]] {
  let pair = ABIValue.tuple([.address(key.address), .bytes([1, 2, 3])])
  let numbers = ABIValue.tuple([.array([.uint(1 as UInt64), .uint(.maximum)]), .bool(true), .fixedBytes(.init())])
  return [
    ABI.encode([.address(key.address), .array([pair, pair]), numbers, .string("grüße")]),
    ABI.encode([.address(.zero), .array([]), .tuple([.array([]), .bool(false), .fixedBytes(.init())]), .string("")]),
  ]
}
private let replies = [
  #"{"jsonrpc":"2.0","id":7,"result":{"oldestBlock":"0x1","baseFeePerGas":["0x2","0x3"],"reward":[["0x4"]]}}"#,
  #"{"jsonrpc":"2.0","id":7,"result":[{"address":"0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","topics":[],"data":"0x01","removed":false}]}"#,
  #"{"jsonrpc":"2.0","id":7,"error":{"code":3,"message":"execution reverted","data":"0x08c379a0"}}"#, #"{"jsonrpc":"2.0","id":7,"result":null}"#,
]

extension Property {
  /// What is decoded has one spelling, so whatever a decoder accepts its encoder writes again.
  static let ethereum: [Property] = [
    Property("rlp", transactions.map { Array($0.dropFirst()) } + [[0xC2, 0x80, 0xC0], [0xB8, 0x38]]) { octets in
      if let item = try? RLP.decode(octets) { try require(RLP.encode(item) == octets, "\(item)") }
    },
    Property("transactions", transactions) { octets in
      if let signed = try? SignedTransaction(decoding: octets) { try require(signed.encoded == octets, "\(signed)") }
    },
    Property("tempo-transactions", tempoTransactions) { octets in
      // An envelope and the two spellings of a parity become one.
      guard let signed = try? SignedTempoTransaction(decoding: octets) else { return }
      try require((try? SignedTempoTransaction(decoding: signed.encoded)) == signed, "\(signed)")
    },
    Property("abi", encodings) { octets in
      if let values = try? ABI.decode(octets, as: types) { try require(ABI.encode(values) == octets, "\(values)") }
      _ = try? ABI.decode(octets, as: types, form: .bounded)
      _ = RevertReason(octets)
    },
    Property("rpc-replies", replies) { octets in
      guard let value = (try? RPCReply(octets, id: 7))?.result else { return }
      _ = try? FeeHistory(value)
      _ = try? TransactionReceipt(value)
      _ = try? TransactionRecord(value)
      _ = try? BlockHeader(value)
      if let logs = try? Log.logs(value) { for log in logs { _ = TransferEvent(log) } }
    },
  ]
}
