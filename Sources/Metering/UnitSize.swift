/// The words for amounts of content: KB to TB are powers of 1,000, KiB to TiB powers of 1,024.
enum UnitSize {
  /// The words in the order in which a price prefers them when it is printed.
  static let words: [(name: String, size: UInt64)] = [
    ("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000),
    ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10),
  ]

  /// Reads a word that multiplies a count: thousands and millions; nil when it is none. `m` is refused, since it may mean thousandths.
  static func multiplier(in word: Substring) -> UInt64? {
    switch word {
    case "K", "k": 1000
    case "M": 1_000_000
    default: nil
    }
  }

  /// Reads a word for a time, in seconds; nil when it names none.
  static func seconds(in word: Substring) -> UInt64? {
    switch word {
    case "second", "seconds": 1
    case "minute", "minutes": 60
    case "hour", "hours": 3600
    default: nil
    }
  }

  /// Reads a word; nil when it names no amount of content. `kB` is the same as `KB`; other cases are refused, since `mb` may mean bits.
  static func size(of word: Substring) -> UInt64? {
    switch word {
    case "byte", "bytes", "octet", "octets": return 1
    case "kB": return 1000
    default: return words.first { $0.name == word }?.size
    }
  }
}
