import Bytes
import Encoding

/// The answer to `status`: where a session stands. All amounts in base units.
public struct SessionStatus: Sendable, Hashable {
  /// The states that a session goes through.
  public enum Phase: String, Sendable, Hashable {
    case open, closing, closed
  }

  public let phase: Phase
  /// What was moved into the session, top-ups included.
  public let deposit: UInt128
  /// What was spent, rounded up once.
  public let spent: UInt128
  /// What is debited ahead for exchanges in flight.
  public let held: UInt128
  /// What is left of the budget.
  public let remaining: UInt128
  /// What a stream that has run dry needs to go on; zero where none waits.
  public let required: UInt128

  /// Makes a state.
  public init(phase: Phase, deposit: UInt128, spent: UInt128, held: UInt128, remaining: UInt128, required: UInt128) {
    self.phase = phase
    self.deposit = deposit
    self.spent = spent
    self.held = held
    self.remaining = remaining
    self.required = required
  }

  /// Reads the answer's object.
  public init(parsing object: JSONObject) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    guard let phase = Phase(rawValue: try members.string(.state)) else { throw .invalid(.state) }
    self.phase = phase
    deposit = try members.amount(.deposit)
    spent = try members.amount(.spent)
    held = try members.amount(.held)
    remaining = try members.amount(.remaining)
    required = try members.amount(.required)
  }

  /// The answer's object.
  public var object: JSONObject {
    [
      "state": .string(phase.rawValue), "deposit": .string(String(deposit)), "spent": .string(String(spent)),
      "held": .string(String(held)), "remaining": .string(String(remaining)), "required": .string(String(required)),
    ]
  }
}

/// The answer to `close`: what the session cost, and what went back to the wallet, in base units.
public struct SessionClosed: Sendable, Hashable {
  public let spent: UInt128
  public let refunded: UInt128

  /// Makes an answer.
  public init(spent: UInt128, refunded: UInt128) {
    self.spent = spent
    self.refunded = refunded
  }

  /// Reads the answer's object.
  public init(parsing object: JSONObject) throws(PrepaidError) {
    var members = PrepaidMembers(object)
    guard try members.string(.status) == "closed" else { throw .invalid(.status) }
    spent = try members.amount(.spent)
    refunded = try members.amount(.refunded)
  }

  /// The answer's object.
  public var object: JSONObject {
    ["status": "closed", "spent": .string(String(spent)), "refunded": .string(String(refunded))]
  }
}
