/// An account that is credited by what is sold, and paid out by operators.
struct Merchant {
  let name: String
  /// By the ledger's currency index. Signed: a debit that is given back after everything was paid out leaves a debt.
  var balances: [Int128]
  var isDirty = false
}

/// A merchant's balances as operators see them.
public struct MerchantView: Sendable, Hashable {
  public let name: String
  /// Base units by currency code; negative when returns came after a payout.
  public let balances: [(currency: String, balance: Int128)]

  public static func == (a: MerchantView, b: MerchantView) -> Bool {
    a.name == b.name && a.balances.elementsEqual(b.balances) { $0 == $1 }
  }

  public func hash(into hasher: inout Hasher) {
    hasher.combine(name)
    for each in balances {
      hasher.combine(each.currency)
      hasher.combine(each.balance)
    }
  }
}
