import Bytes
import HTTP

/// Where an HTTP service is asked, and the head of what it is asked.
struct ServiceEndpoint: Sendable, Hashable {
  /// The service's place among the plan's upstreams.
  let upstream: Int
  /// From the request line to the name of `Content-Length`; a GET's is whole but for its empty line.
  private let head: [UInt8]
  private let getHead: [UInt8]
  /// Nanoseconds.
  let timeout: Int64

  /// Prepares an endpoint.
  ///
  /// - Parameters:
  ///   - target: path and query, of which a GET and a POST to paths below it are made.
  ///   - authorization: the value of the Authorization field; never logged.
  init(upstream: Int, authority: String, target: String, authorization: [UInt8]?, timeout: Int64, below path: String = "") {
    self.upstream = upstream
    self.timeout = timeout
    let target = path.isEmpty ? target : Self.join(target, path)
    var fields = Array("Host: \(authority)\r\nUser-Agent: \(UpstreamFields.pseudonym)\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n".utf8)
    if let authorization { fields += Array("Authorization: ".utf8) + authorization + [0x0D, 0x0A] }
    head = Array("POST \(target) HTTP/1.1\r\n".utf8) + fields + Array("Content-Type: application/json\r\nContent-Length: ".utf8)
    getHead = Array("GET \(target) HTTP/1.1\r\n".utf8) + fields + [0x0D, 0x0A]
  }

  /// A path below a target's; the target's query stays behind it.
  private static func join(_ target: String, _ path: String) -> String {
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let base = parts[0].hasSuffix("/") ? parts[0].dropLast() : parts[0]
    return base + "/" + path + (parts.count == 2 ? "?" + parts[1] : "")
  }

  /// A POST of JSON.
  func post(_ content: [UInt8], contentLimit: Int, mayRepeat: Bool) -> ServiceCall {
    let request = head + Array("\(content.count)\r\n\r\n".utf8) + content
    return ServiceCall(upstream: upstream, request: request, timeout: timeout, contentLimit: contentLimit, mayRepeat: mayRepeat)
  }

  /// A GET.
  func get(contentLimit: Int) -> ServiceCall {
    ServiceCall(upstream: upstream, request: getHead, timeout: timeout, contentLimit: contentLimit, mayRepeat: true)
  }
}
