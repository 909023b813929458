public import Payments

extension Settings {
  /// What an account of the books holds: a currency of wallets, or a currency's token on a chain.
  public struct Account: Sendable, Hashable {
    public let currency: Currency
    /// The chain's id (EIP-155); nil for what wallets hold.
    public let chain: UInt64?
    /// The chain's name in the settings; nil without a chain, and for one that is not configured.
    public let chainName: String?

    /// Names an account.
    public init(currency: Currency, chain: UInt64?, chainName: String?) {
      self.currency = currency
      self.chain = chain
      self.chainName = chainName
    }

    /// How the books call it: `usdc`, or `usdc@eip155:8453`.
    public var code: String { chain.map { "\(currency.code)@eip155:\($0)" } ?? currency.code }

    /// What stands behind an amount: `USDC`, or `USDC on Base (eip155:8453)`.
    public var words: String {
      guard let chain else { return currency.symbol }
      guard let chainName else { return "\(currency.symbol) on eip155:\(chain)" }
      return "\(currency.symbol) on \(Self.title(chainName)) (eip155:\(chain))"
    }

    /// The same where room is scarce, and as commands take it: `USDC`, or `USDC@base`.
    public var symbol: String {
      guard let chain else { return currency.symbol }
      return "\(currency.symbol)@\(chainName ?? "eip155:\(chain)")"
    }

    /// `Base Sepolia` of `base-sepolia`.
    private static func title(_ name: String) -> String {
      name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined(separator: " ")
    }
  }

  /// Finds an account by what people and the books call it: `usdc`, `USDC@base`, `usdc@eip155:8453`; nil where its currency is unknown, or a
  /// chain's name. A chain that is gone from the configuration is found by its number, since its account stays.
  public func account(_ text: some StringProtocol) -> Account? {
    let parts = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false)
    guard let code = parts.first?.lowercased(), let currency = currencies.first(where: { $0.code == code }) else { return nil }
    guard parts.count == 2 else { return Account(currency: currency, chain: nil, chainName: nil) }
    if let chain = chains.first(where: { $0.name == parts[1] || $0.reference == parts[1] }) {
      return Account(currency: currency, chain: chain.id, chainName: chain.name)
    }
    guard parts[1].hasPrefix("eip155:"), let id = UInt64(parts[1].dropFirst("eip155:".count)), "eip155:\(id)" == parts[1], id > 0 else { return nil }
    return Account(currency: currency, chain: id, chainName: nil)
  }

  /// Reads an amount that is not zero: `5 USDC`, `5 USDC@base`; nil where it is none.
  ///
  /// - Parameter account: the account that is meant; the amount may then do without naming it, or name its currency alone.
  public func amount(_ text: String, of account: Account? = nil) -> (units: UInt128, account: Account)? {
    let words = text.split(separator: " ")
    guard (1...2).contains(words.count) else { return nil }
    let named = words.count == 2 ? self.account(words[1]) : nil
    guard words.count == 1 || named != nil, let found = account ?? named else { return nil }
    if let named, named != found, named.chain != nil || named.currency != found.currency { return nil }
    guard let units = try? found.currency.parse(words[0]), units > 0 else { return nil }
    return (units, found)
  }
}
