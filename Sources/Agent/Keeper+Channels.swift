import Bytes
import Encoding

// Payment channels: one file each, in a folder of their own. What is signed is on the disk before it leaves.
extension Keeper {
  private var channelFolder: KeeperFolder { KeeperFolder(path: folder.path + "/channels") }

  private static func name(_ channelID: Digest32) -> String { channelID.hex + ".json" }

  /// Reads every kept channel.
  public func channels() throws(AgentError) -> [KeptChannel] {
    let folder = channelFolder
    var channels: [KeptChannel] = []
    for name in try folder.names(ending: ".json") {
      if let channel = try read(name) { channels.append(channel) }
    }
    return channels
  }

  private func read(_ name: String) throws(AgentError) -> KeptChannel? {
    guard let octets = try channelFolder.read(name) else { return nil }
    guard let json = try? JSON.parse(octets), let channel = KeptChannel(json: json) else {
      throw .keeper(.malformed(path: channelFolder.path + "/" + name))
    }
    return channel
  }

  /// Writes a new channel down.
  func save(_ channel: KeptChannel) throws(AgentError) {
    try folder.prepare()
    let folder = channelFolder
    try folder.withLock { () throws(AgentError) in
      guard try folder.names(ending: ".json").count < Self.sessionLimit else { throw .keeper(.tooManySessions(limit: Self.sessionLimit)) }
      try folder.replace(Self.name(channel.channelID), with: JSON.serialize(channel.json, pretty: true))
    }
  }

  /// Changes a kept channel under the lock, on the disk before this returns. What is signed never falls, whatever the change says.
  ///
  /// - Returns: the channel as it is now; nil where another process has forgotten it.
  func change(_ channelID: Digest32, _ change: (inout KeptChannel) throws(AgentError) -> Void) throws(AgentError) -> KeptChannel? {
    let folder = channelFolder
    return try folder.withLock { () throws(AgentError) -> KeptChannel? in
      guard var channel = try read(Self.name(channelID)) else { return nil }
      let signed = channel.signed
      try change(&channel)
      channel.signed = max(channel.signed, signed)
      try folder.replace(Self.name(channelID), with: JSON.serialize(channel.json, pretty: true))
      return channel
    }
  }

  /// Forgets a channel: it is closed, or was never opened.
  func forget(_ channelID: Digest32) throws(AgentError) {
    let folder = channelFolder
    try folder.withLock { () throws(AgentError) in try folder.remove(Self.name(channelID)) }
  }
}
