import Foundation

@testable import Configuration

/// Files of this run: keys and authorizations, sound and not.
struct ChainFiles: Sendable {
  static let shared = ChainFiles()
  let folder = FileManager.default.temporaryDirectory.appending(path: "farebox-chains-\(getpid())").path
  /// The account of the key 0x01 repeated, as PyPI's eth-account 0.13 has it.
  static let address = "0x1a642f0E3c3aF545E7AcBD38b07251B3990914F1"

  private init() {
    try? FileManager.default.removeItem(atPath: folder)
    try? FileManager.default.createDirectory(atPath: folder + "/keys", withIntermediateDirectories: true)
    let key = String(repeating: "01", count: 32)
    write("keys/base.key", "0x\(key)\n")
    write("keys/bare.key", key)
    write("keys/group.key", key, mode: 0o640)
    write("keys/world.key", key, mode: 0o644)
    write("keys/short.key", String(key.dropLast()))
    write("keys/text.key", String(repeating: "zz", count: 32))
    write("keys/zero.key", String(repeating: "0", count: 64))
    write("keys/long.key", String(repeating: "\n", count: 300))
    write("rpc.secret", "Bearer hush-hush\n")
    write("open.secret", "Bearer hush-hush\n", mode: 0o644)
    write("torn.secret", "Bearer\u{7}hush-hush")
    write("empty.secret", "\n")
  }

  private func write(_ name: String, _ text: String, mode: Int = 0o600) {
    _ = FileManager.default.createFile(atPath: "\(folder)/\(name)", contents: Data(text.utf8), attributes: [.posixPermissions: mode])
  }
}

/// A configuration whose chain, merchant and route each test writes; the chain's text begins on line 11, right after `[[chain]]`.
struct ChainConfiguration {
  static let account = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
  var chain = "name = \"base\"\nrpc = [\"https://rpc.example.com/v2/hush-hush\"]\nsigner = \"keys/base.key\""
  var currencies = "code = \"usdc\"\ndecimals = 6"
  var addresses = "addresses = { base = \"\(account)\" }"
  var rails = "rails = [\"prepaid\", \"x402:base\"]"
  var price = "price = \"0.01 USDC per request\""
  var readsSecrets = true

  var text: String {
    """
    realm = "api.example.com"
    [[listen]]
    address = "127.0.0.1:8402"
    [[upstream]]
    name = "api"
    url = "http://127.0.0.1:8081"
    [[currency]]
    \(currencies)
    [[chain]]
    \(chain)
    [[merchant]]
    id = "shop"
    \(addresses)
    [[route]]
    id = "quotes"
    path = "/q"
    \(price)
    \(rails)

    """
  }

  func inspect() -> Configuration.Outcome {
    Configuration.inspect(
      text: text, file: "\(ChainFiles.shared.folder)/proxy.conf", state: "/tmp/s", environment: [:], readsSecrets: readsSecrets)
  }

  /// The diagnostics without the places of files, which differ from run to run.
  var said: [String] {
    inspect().diagnostics.map { $0.text(file: "proxy.conf").replacing(ChainFiles.shared.folder, with: "FOLDER") }
  }
}
