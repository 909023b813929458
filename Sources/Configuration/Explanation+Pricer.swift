import Encoding

extension Settings.Pricer {
  /// What it is shown, and how long its answers hold.
  var terms: String {
    var shown = ["method, path and query"]
    if !fields.isEmpty { shown.append(fields.joined(separator: ", ")) }
    if bodyLimit > 0 { shown.append("content of at most \(bodyLimit) octets") }
    let holds = lifetime > .zero ? "answers hold \(lifetime) at most" : "every request is asked for"
    return "shown \(shown.joined(separator: ", ")); within \(timeout); \(holds)"
  }

  /// The same for programs.
  var json: JSONObject {
    var object: JSONObject = ["url": .string(url)]
    if let fallback { object.set("fallback", .string(fallback.words)) }
    object.set("fields", .array(fields.map { .string($0) }))
    object.set("bodyLimit", .integer(bodyLimit))
    object.set("timeoutMilliseconds", .integer(Int(timeout / .milliseconds(1))))
    object.set("cacheSeconds", .integer(Int(lifetime / .seconds(1))))
    return object
  }
}
