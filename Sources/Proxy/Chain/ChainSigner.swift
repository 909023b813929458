import Bytes
import Ethereum

/// Signs the program's own transactions: with a key that was read from a file, or by asking a service that has it.
struct ChainSigner: Sendable {
  private let plan: ChainPlan.Signer
  private let services: ServiceClient

  init(_ plan: ChainPlan.Signer, services: ServiceClient) {
    self.plan = plan
    self.services = services
  }

  var address: Address { plan.address }

  /// Signs a transaction; returns its octets and its hash. What a service signs is compared with what it was asked to.
  func sign(_ transaction: Transaction) async throws(ChainError) -> (raw: [UInt8], hash: Digest32) {
    switch plan {
    case .key(let key):
      let signed = transaction.signed(by: key)
      return (signed.encoded, signed.hash)
    case .remote(let endpoint, let address):
      let reply = try await ChainRPC.ask(.signTransaction(transaction, from: address), of: endpoint, services)
      guard let raw = try? reply.result?.data(), let signed = try? SignedTransaction(decoding: raw), signed.transaction == transaction,
        signed.sender == address
      else { throw .notSigned }
      return (raw, signed.hash)
    }
  }
}
