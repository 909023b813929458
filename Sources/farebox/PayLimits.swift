import Agent
import Encoding

/// Shows and changes the limits that hold for all calls of `farebox pay`.
struct PayLimits {
  let options: Pay

  func run() throws(PayFailure) {
    let (limits, spent) = try failing { () throws(AgentError) in
      let keeper = try Keeper.standard()
      let asked = options.limits
      let isChange = !asked.day.isEmpty || !asked.payment.isEmpty || !asked.session.isEmpty || !asked.recipients.isEmpty
      let limits = isChange ? try keeper.changeLimits { asked.apply(to: &$0) } : try keeper.limits()
      return (limits, try keeper.spentToday())
    }
    if options.output.json { return try StandardOutput.print(String(decoding: JSON.serialize(document(limits, spent), pretty: true), as: UTF8.self)) }
    for span in PaymentLimits.Span.allCases {
      for limit in (limits.amounts[span] ?? [:]).values.sorted(by: { $0.code < $1.code }) {
        try StandardOutput.tell("limit     \(span.rawValue) \(limit.number) \(limit.code.uppercased())")
      }
    }
    for recipient in limits.recipients { try StandardOutput.tell("recipient \(recipient)") }
    if limits.isEmpty { try StandardOutput.tell("limit     none; set some with: farebox pay --limit-day '5 USDC'") }
    for entry in spent { try StandardOutput.tell("today     \(entry.number) \(entry.code.uppercased()) spent") }
  }

  private func document(_ limits: PaymentLimits, _ spent: [(code: String, number: String)]) -> JSONValue {
    var object = JSONObject()
    for span in PaymentLimits.Span.allCases {
      let list = (limits.amounts[span] ?? [:]).sorted { $0.key < $1.key }.map { ($0.key, JSONValue.string($0.value.number)) }
      if !list.isEmpty { object.set(span.rawValue, .object(JSONObject(list))) }
    }
    if !limits.recipients.isEmpty { object.set("recipients", .array(limits.recipients.map { .string($0) })) }
    return .object(["limits": .object(object), "spentToday": .object(JSONObject(spent.map { ($0.code, .string($0.number)) }))])
  }
}
