import Testing

@testable import Configuration

@Suite struct StateDirectoryTests {
  private func path(_ option: String?, _ configured: String?, _ environment: [String: String]) -> String {
    StateDirectory(
      option: option, configured: configured, environment: environment, workingDirectory: "/srv", configurationDirectory: "/etc/farebox"
    ).path
  }

  @Test func firstOfManyDecides() {
    var environment = ["HOME": "/home/me"]
    #expect(path(nil, nil, [:]) == "/var/lib/farebox")
    #expect(path(nil, nil, environment) == "/home/me/.local/state/farebox")
    environment["XDG_STATE_HOME"] = "/state"
    #expect(path(nil, nil, environment) == "/state/farebox")
    environment["STATE_DIRECTORY"] = "/var/lib/private/farebox:/other"
    #expect(path(nil, nil, environment) == "/var/lib/private/farebox")
    #expect(path(nil, "data", environment) == "/etc/farebox/data")
    environment["FAREBOX_STATE"] = "here"
    #expect(path(nil, "data", environment) == "/srv/here")
    #expect(path("./there/", "data", environment) == "/srv/there")
  }

  @Test func pathsOfTheConfigurationCountFromIt() {
    let state = StateDirectory(option: "/s/", configured: nil, environment: [:], workingDirectory: "/", configurationDirectory: "/")
    #expect(state.resolve("ledger") == "/s/ledger")
    #expect(state.resolve("/elsewhere/ledger/") == "/elsewhere/ledger")
  }
}
