import Bytes
import Encoding

/// The use of a challenge (or of a close credential): one across all actions, so nothing is paid with twice.
struct Claim {
  enum Use: Equatable {
    /// A charge in flight, by its hold.
    case held(LSN)
    case settled(LSN)
    case opened(session: Digest32)
    case toppedUp(session: Digest32, credential: Digest32)
    /// A payment on a chain, whose state says whether it is in flight.
    case payment(Digest32)
    /// The close of a channel.
    case closed(session: Digest32)
  }

  var use: Use
  /// The entry that made it what it is.
  var reference: LSN
  /// Forgotten after this instant, or with its session 24 hours after that closed.
  var expires: Timestamp
  /// What the same credential is answered with again.
  var answer: [UInt8]?
}

/// What a challenge has been used for.
public enum ClaimState: Sendable, Equatable {
  /// A request that pays with it has not ended.
  case held
  /// It is used up; the reference of what it paid for.
  case settled(reference: LSN)
}
