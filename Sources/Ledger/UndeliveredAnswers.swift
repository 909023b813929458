import Bytes
import HTTP

/// Counts the answers that are withheld until they are paid for, and that nobody has got yet: neither one payer nor one client may have the
/// place of all.
struct UndeliveredAnswers {
  struct Answer {
    let promise: Digest32
    let payer: String
    let client: ClientAddress
    let octets: Int
  }

  /// The most octets of one payer's, and of one client's (an address or a /64); one answer is taken in any case.
  static let payerLimit = 8 << 20
  static let clientLimit = 16 << 20

  /// By the keys of their outcomes.
  private var answers: [Digest32: Answer] = [:]
  private var payers: [String: Int] = [:]
  private var clients: [ClientAddress: Int] = [:]

  subscript(key: Digest32) -> Answer? { answers[key] }

  /// Whether another answer of so many octets can be kept.
  func hasPlace(for octets: Int, of payer: String, client: ClientAddress) -> Bool {
    func fits(_ known: Int?, _ limit: Int) -> Bool { known.map { octets <= limit && $0 <= limit - octets } ?? true }
    return fits(payers[payer], Self.payerLimit) && fits(clients[client.limitKey], Self.clientLimit)
  }

  mutating func add(_ key: Digest32, _ answer: Answer) {
    remove(key)
    answers[key] = answer
    payers[answer.payer, default: 0] += answer.octets
    clients[answer.client.limitKey, default: 0] += answer.octets
  }

  mutating func remove(_ key: Digest32) {
    guard let answer = answers.removeValue(forKey: key) else { return }
    let (payer, client) = ((payers[answer.payer] ?? 0) - answer.octets, (clients[answer.client.limitKey] ?? 0) - answer.octets)
    payers[answer.payer] = payer > 0 ? payer : nil
    clients[answer.client.limitKey] = client > 0 ? client : nil
  }
}
