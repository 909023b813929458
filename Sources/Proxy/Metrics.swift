import Bytes
import Synchronization

/// One number that one thread counts and others read. Adding costs no locked instruction, since only the owner writes.
struct Counter: ~Copyable {
  private let value = Atomic<UInt64>(0)

  /// Adds to the number; the owner's thread only.
  @inline(__always)
  borrowing func add(_ amount: UInt64 = 1) {
    value.store(value.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  /// Takes from the number; the owner's thread only.
  @inline(__always)
  borrowing func subtract(_ amount: UInt64 = 1) {
    value.store(value.load(ordering: .relaxed) &- amount, ordering: .relaxed)
  }

  /// Sets the number; the owner's thread only.
  @inline(__always)
  borrowing func set(_ amount: UInt64) { value.store(amount, ordering: .relaxed) }

  /// Reads the number, from any thread.
  borrowing func read() -> UInt64 { value.load(ordering: .relaxed) }
}

/// What one worker counts.
final class WorkerMetrics: Sendable {
  let connectionsAccepted = Counter()
  let connectionsOpen = Counter()
  let connectionsRefused = Counter()
  let requests = Counter()
  let requestsPaid = Counter()
  let responses1xx = Counter()
  let responses2xx = Counter()
  let responses3xx = Counter()
  let responses4xx = Counter()
  let responses402 = Counter()
  let responses5xx = Counter()
  let octetsReceived = Counter()
  let octetsSent = Counter()
  let upstreamConnects = Counter()
  let upstreamFailures = Counter()
  let upstreamRetries = Counter()
  let upstreamConnectionsOpen = Counter()
  let clientsLeft = Counter()
  let timeouts = Counter()
  let streamsDry = Counter()
  let usageMissing = Counter()
  let octetsCollected = Counter()
  let octetsOfMessages = Counter()
  let pricesAsked = Counter()
  let pricesFailed = Counter()
  let paymentsAwaited = Counter()
  let acceptsDeferred = Counter()
  let servers = ServerMetrics()
  let handshakes = Counter()
  let handshakesResumed = Counter()
  let handshakesFailed = Counter()
  let sessions = Counter()
  let sessionsBroken = Counter()
  let streams = Counter()
  let serverSessions = Counter()
  let serverStreams = Counter()
  let upstreamRefusals = Counter()
  let tunnels = Counter()
  let tunnelsOpen = Counter()
  let tunnelsUnpaid = Counter()
  let tunnelsMalformed = Counter()
  let tunnelMessagesFromClients = Counter()
  let tunnelMessagesFromUpstreams = Counter()
  let tunnelOctetsFromClients = Counter()
  let tunnelOctetsFromUpstreams = Counter()

  /// Counts a final response by its class.
  @inline(__always)
  func count(status: UInt16) {
    switch status {
    case 101: responses1xx.add()
    case 200..<300: responses2xx.add()
    case 300..<400: responses3xx.add()
    case 402: responses402.add()
    case 400..<500: responses4xx.add()
    default: responses5xx.add()
    }
  }
}

/// Prints what all workers counted as Prometheus text.
enum MetricsText {
  /// Appends one counter.
  static func append(_ name: StaticString, _ help: StaticString, _ value: UInt64, to text: inout ByteBuffer) {
    for piece in ["# HELP farebox_", name, " ", help, "\n# TYPE farebox_", name, " counter\nfarebox_", name, " "] as [StaticString] {
      text.append(piece)
    }
    text.append(decimal: value)
    text.append("\n")
  }

  static func append(_ workers: [WorkerMetrics], to text: inout ByteBuffer) {
    func line(_ name: StaticString, _ kind: StaticString, _ help: StaticString, _ sum: UInt64) {
      head(name, kind, help)
      value(name, "", sum)
    }
    func head(_ name: StaticString, _ kind: StaticString, _ help: StaticString) {
      text.append("# HELP farebox_")
      text.append(name)
      text.append(" ")
      text.append(help)
      text.append("\n# TYPE farebox_")
      text.append(name)
      text.append(" ")
      text.append(kind)
      text.append("\n")
    }
    func value(_ name: StaticString, _ labels: StaticString, _ sum: UInt64) {
      text.append("farebox_")
      text.append(name)
      text.append(labels)
      text.append(" ")
      text.append(decimal: sum)
      text.append("\n")
    }
    func sum(_ read: (WorkerMetrics) -> UInt64) -> UInt64 { workers.reduce(0) { $0 &+ read($1) } }

    line("connections_accepted_total", "counter", "Client connections accepted.", sum { $0.connectionsAccepted.read() })
    line("connections_open", "gauge", "Client connections open.", sum { $0.connectionsOpen.read() })
    line("connections_refused_total", "counter", "Client connections over a limit.", sum { $0.connectionsRefused.read() })
    line("accepts_deferred_total", "counter", "Times that no descriptor was left to accept.", sum { $0.acceptsDeferred.read() })
    line("requests_total", "counter", "Requests whose head was complete.", sum { $0.requests.read() })
    line("requests_paid_total", "counter", "Requests that were forwarded paid.", sum { $0.requestsPaid.read() })
    head("responses_total", "counter", "Final responses by class; 402 apart.")
    value("responses_total", "{class=\"2xx\"}", sum { $0.responses2xx.read() })
    value("responses_total", "{class=\"3xx\"}", sum { $0.responses3xx.read() })
    value("responses_total", "{class=\"402\"}", sum { $0.responses402.read() })
    value("responses_total", "{class=\"4xx\"}", sum { $0.responses4xx.read() })
    value("responses_total", "{class=\"5xx\"}", sum { $0.responses5xx.read() })
    line("received_octets_total", "counter", "Octets received from clients.", sum { $0.octetsReceived.read() })
    line("sent_octets_total", "counter", "Octets sent to clients.", sum { $0.octetsSent.read() })
    line("upstream_connects_total", "counter", "Connections opened to upstreams.", sum { $0.upstreamConnects.read() })
    line("upstream_connections_open", "gauge", "Connections open to upstreams.", sum { $0.upstreamConnectionsOpen.read() })
    line("upstream_failures_total", "counter", "Exchanges that an upstream failed.", sum { $0.upstreamFailures.read() })
    line("upstream_retries_total", "counter", "Requests sent once more.", sum { $0.upstreamRetries.read() })
    line("upstream_refused_total", "counter", "Requests that were refused because none of their upstream's servers could be used.", sum { $0.upstreamRefusals.read() })
    line("clients_left_total", "counter", "Exchanges whose client left.", sum { $0.clientsLeft.read() })
    line("timeouts_total", "counter", "Deadlines that passed.", sum { $0.timeouts.read() })
    line("tls_handshakes_total", "counter", "TLS handshakes with clients.", sum { $0.handshakes.read() })
    line("tls_handshakes_resumed_total", "counter", "TLS handshakes that went on with an earlier session.", sum { $0.handshakesResumed.read() })
    line("tls_handshakes_failed_total", "counter", "TLS handshakes that failed.", sum { $0.handshakesFailed.read() })
    line("http2_sessions_total", "counter", "HTTP/2 sessions with clients.", sum { $0.sessions.read() })
    line("http2_sessions_broken_total", "counter", "HTTP/2 sessions that broke a rule or a limit.", sum { $0.sessionsBroken.read() })
    line("http2_streams_total", "counter", "Requests that came on HTTP/2 streams.", sum { $0.streams.read() })
    line("upstream_http2_sessions_total", "counter", "HTTP/2 sessions with upstreams.", sum { $0.serverSessions.read() })
    line("upstream_http2_streams_total", "counter", "Requests that went out on HTTP/2 streams.", sum { $0.serverStreams.read() })
    line("tunnels_total", "counter", "Connections that were switched to another protocol.", sum { $0.tunnels.read() })
    line("tunnels_open", "gauge", "Switched connections open.", sum { $0.tunnelsOpen.read() })
    line("tunnels_unpaid_total", "counter", "Switched connections closed because nobody paid on.", sum { $0.tunnelsUnpaid.read() })
    line("tunnels_malformed_total", "counter", "Switched connections closed over a malformed frame.", sum { $0.tunnelsMalformed.read() })
    head("tunnel_messages_total", "counter", "WebSocket messages that began to pass.")
    value("tunnel_messages_total", "{from=\"client\"}", sum { $0.tunnelMessagesFromClients.read() })
    value("tunnel_messages_total", "{from=\"upstream\"}", sum { $0.tunnelMessagesFromUpstreams.read() })
    head("tunnel_octets_total", "counter", "Octets that passed on switched connections, frames' headers included.")
    value("tunnel_octets_total", "{from=\"client\"}", sum { $0.tunnelOctetsFromClients.read() })
    value("tunnel_octets_total", "{from=\"upstream\"}", sum { $0.tunnelOctetsFromUpstreams.read() })
    line(
      "usage_missing_total", "counter", "Responses sold by the token or unit that reported no usage: the estimate stands.",
      sum { $0.usageMissing.read() })
    line("prices_asked_total", "counter", "Requests that waited for a pricer.", sum { $0.pricesAsked.read() })
    line("prices_failed_total", "counter", "Requests whose pricer did not say what they cost.", sum { $0.pricesFailed.read() })
    line("collected_octets", "gauge", "Octets of requests' content that are kept to find their price.", sum { $0.octetsCollected.read() })
    line("message_octets", "gauge", "Octets of answers of MCP endpoints that are kept.", sum { $0.octetsOfMessages.read() })
    line("chain_payments_awaited_total", "counter", "Requests that waited for a payment to settle on its chain.", sum { $0.paymentsAwaited.read() })
    line("streams_dry_total", "counter", "Times that a session ran dry in the middle.", sum { $0.streamsDry.read() })
  }
}
