extension Settings.Settlement {
  /// What differs from the defaults, in words; empty where nothing does.
  var terms: String {
    var words = order == .after ? "; x402's exact payments are settled after the answer, which is withheld until then" : ""
    if isAtEnd { words += "; paid for when the response is whole (withheld up to \(limit) octets)" }
    let standard = isAtEnd ? Refund.all : .share
    if broken != standard { words += "; \(broken.words) goes back when the upstream breaks off" }
    if left != .none { words += "; \(left.words) goes back when the client leaves" }
    return words
  }
}

extension Settings.Settlement.Refund {
  fileprivate var words: String {
    switch self {
    case .none: "nothing"
    case .share: "what was not delivered"
    case .all: "everything"
    }
  }
}
