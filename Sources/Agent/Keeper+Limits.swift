import Encoding
import Payments

// The limits of every rail, and what was spent of them: two files, for a person writes one and every payment the other.
extension Keeper {
  private static let limitsName = "limits.json"
  private static let recordName = "spending.json"

  /// The path of the file with the limits.
  public var limitsPath: String { folder.path + "/" + Self.limitsName }

  /// Reads the limits; none where there is no file.
  public func limits() throws(AgentError) -> PaymentLimits {
    guard let octets = try folder.read(Self.limitsName) else { return PaymentLimits() }
    guard let json = try? JSON.parse(octets), let limits = PaymentLimits(json: json) else { throw .keeper(.malformed(path: limitsPath)) }
    return limits
  }

  /// Changes the limits under the lock; payments that are under way were counted by the old ones.
  public func changeLimits(_ body: (inout PaymentLimits) -> Void) throws(AgentError) -> PaymentLimits {
    try folder.withLock { () throws(AgentError) in
      var limits = try limits()
      body(&limits)
      try folder.replace(Self.limitsName, with: JSON.serialize(limits.json, pretty: true))
      return limits
    }
  }

  private func record() throws(AgentError) -> SpendingRecord {
    guard let octets = try folder.read(Self.recordName) else { return SpendingRecord() }
    guard let json = try? JSON.parse(octets), let record = SpendingRecord(json: json) else {
      throw .keeper(.malformed(path: folder.path + "/" + Self.recordName))
    }
    return record
  }

  /// What was spent today, in whole units by currency code.
  public func spentToday(at now: Timestamp = .now()) throws(AgentError) -> [(code: String, number: String)] {
    let record = try record()
    return record.spent.keys.sorted().compactMap { code in
      Currency(code: code, decimals: SpendingRecord.decimals).map { (code, $0.format(record.spent(code, at: now))) }
    }
  }

  /// Compares payments with the limits and counts them, on the disk before this returns: whatever becomes of a payment, it was counted.
  func reserve(_ plan: PaymentPlan, at now: Timestamp = .now()) throws(AgentError) {
    try folder.withLock { () throws(AgentError) in
      let limits = try limits()
      var record = try record()
      try plan.check(limits, record, at: now)
      record.add(SpendingRecord.scaled(plan.amount, of: plan.currency), plan.currency.code, at: now)
      try folder.replace(Self.recordName, with: JSON.serialize(record.json, pretty: true))
    }
  }
}
