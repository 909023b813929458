import Configuration
import Gateway
import Testing

@testable import Proxy

/// What can be used of an upstream by all that is known of its servers.
@Suite struct UpstreamBoardTests {
  private func board(_ servers: Int) throws -> UpstreamBoard {
    var settings = Settings()
    settings.upstreams = [Settings.Upstream(name: "farm", servers: (0..<servers).map { .init(.host("10.0.0.\($0)", port: 80)) })]
    settings.upstreams[0].ejection.failures = 1
    settings.routes = [Settings.Route(id: "all", path: .prefix("/"))]
    let plan = try RelayPlan(settings)
    let board = UpstreamBoard(notices: NoticeBoard(upstreams: plan.serverNames, report: { _ in }))
    board.adopt(plan)
    return board
  }

  @Test func anEjectedServerIsBetterThanNone() throws {
    let board = try board(2)
    board.failed(0, 0, at: 1)
    #expect(board.usable(0, at: 2) == ServerSet(server: 1))
    // Its checks take the other one out; the first one's pass.
    board.found(0, 1, isUp: false)
    #expect(board.usable(0, at: 3) == ServerSet(server: 0))
    board.found(0, 1, isUp: true)
    #expect(board.usable(0, at: 4) == ServerSet(server: 1))
    board.found(0, 0, isUp: false)
    board.found(0, 1, isUp: false)
    #expect(board.usable(0, at: 5).isEmpty && board.decision(0, at: 5) == .refused(retryAfter: 1))
  }

  @Test func labelsAreEscaped() {
    #expect(String(decoding: ServerMetricsText.escaped("unix:/a\"b\\c\nd"), as: UTF8.self) == "unix:/a\\\"b\\\\c\\nd")
    #expect(ServerMetricsText.escaped("http://10.0.0.1:80") == Array("http://10.0.0.1:80".utf8))
  }
}
