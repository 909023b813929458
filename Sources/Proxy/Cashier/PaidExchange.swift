import Encoding
import Ledger

/// A paid exchange between admission and its end. The relay keeps it and hands it back; it reads only what stands first.
struct PaidExchange {
  /// The entry that must be durable before the upstream is asked (0: at once).
  var forwardAfter: LSN = 0
  /// The entry that must be durable before an octet of the response leaves.
  var replyAfter: LSN = 0
  /// The ledger's epoch at admission; with another one the exchange is void.
  var epoch: UInt32 = 0
  /// Whether request content passes by `sent`.
  var metersRequest = false
  /// Whether response content passes by `grant` and `delivered`.
  var metersResponse = false
  /// Whether content passes portion by portion, by `grantPortion`; `metersResponse` is set as well.
  var isTallied = false
  /// Whether the request's content has to be changed before it goes upstream.
  var changesContent = false
  /// Whether messages of an upgraded connection are metered, and its seconds.
  var metersRequestMessages = false
  var metersResponseMessages = false
  var metersSeconds = false
  /// Whether the end gives a trailer: the response is then chunked where the client speaks HTTP/1.1.
  var wantsTrailer = false
  /// Octets of the response's content that were handed to the client's connection, and whether it had not taken all of them: told at the end.
  var deliveredOctets: UInt64 = 0
  var isClientBehind = false
  /// How long a dry stream is held, in nanoseconds.
  var holdTimeout: Int64 = 60_000_000_000
  /// Whether the response is copied as it passes, for the request's repetition; ends where it is longer than what is kept.
  var keepsAnswer = false
  /// Whether the response is withheld until its payment has settled.
  var settlesAfter = false
  /// Whether the client presented a credential of its own (responses are then private).
  var carriesCredential = true

  /// Whether what passes still has to be paid for.
  var isMetered: Bool { metersRequest || metersResponse || metersRequestMessages || metersResponseMessages || metersSeconds }

  /// Where the cashier keeps the rest; `none` for a value that stands for no exchange.
  var place = PaidExchange.none

  static var none: UInt32 { .max }
}
