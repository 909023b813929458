import HTTP

extension ConfigurationReader {
  /// The most fields that a route injects, and the longest value in octets.
  private static let injectionLimit = 32
  private static let valueLimit = 8192

  /// Reads `inject`, an array of tables of a field's name and its value, from the file itself, another file, or the environment.
  mutating func readInjection(_ table: TableReader, _ route: inout Settings.Route) {
    guard let node = table.node("inject") else { return }
    let expected = "an array such as [{ name = \"Authorization\", environment = \"API_KEY\", prefix = \"Bearer \" }]"
    guard case .array(let entries) = node.value, entries.count <= Self.injectionLimit else {
      table.report(.wrongType, "inject", expected: expected, isSecret: true)
      return
    }
    for entry in entries {
      guard case .table(let members) = entry.value else {
        table.report(.wrongType, "inject", node: entry, expected: expected, isSecret: true)
        continue
      }
      let reader = TableReader(members, place: table.place + " inject", at: entry.position, log: log)
      if let field = injectedField(reader) { route.injectedFields.append(field) }
      reader.finish()
    }
  }

  private func injectedField(_ table: TableReader) -> Settings.InjectedField? {
    let prefix = table.string("prefix", isSecret: true) ?? ""
    let value = injectedValue(table)
    if !table.has("name") { table.reportMissing("name", expected: "the field's name, such as \"Authorization\"") }
    let expected = "the name of a header field that the proxy does not write itself"
    guard let name = table.string("name", expected: expected, where: Self.isInjectable), let value else { return nil }
    let octets = Array(prefix.utf8) + value
    guard !octets.isEmpty, octets.count <= Self.valueLimit, octets.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x09 || $0 >= 0x80 }) else {
      table.report(
        .invalidValue, "name", expected: "a value of 1 to \(Self.valueLimit) octets without control characters (it is not shown here)")
      return nil
    }
    return Settings.InjectedField(name: name, value: SecretValue(octets))
  }

  /// Reads the value from exactly one of three places; nothing of it appears in any diagnostic.
  private func injectedValue(_ table: TableReader) -> [UInt8]? {
    let literal = table.string("value", isSecret: true)
    let variable = table.string("environment")
    let file = table.string("file")
    let sources = ["value", "environment", "file"].filter { table.has($0) }
    guard sources.count == 1 else {
      if sources.isEmpty {
        table.reportMissing("environment", expected: "one of environment, file or value")
      } else {
        table.report(.conflict, sources[1], expected: "only one of environment, file and value", isSecret: true)
      }
      return nil
    }
    if let literal { return Array(literal.utf8) }
    guard readsSecrets else { return Array("not read".utf8) }
    if let variable {
      guard let value = environment[variable], !value.isEmpty else {
        table.report(.missingVariable, "environment", advice: "set it before the proxy starts, for example by EnvironmentFile= in the systemd unit")
        return nil
      }
      return Array(value.utf8)
    }
    guard let file else { return nil }
    do {
      var octets = try SmallFile.read(StateDirectory.absolute(file, from: folder), limit: Self.valueLimit)
      while let last = octets.last, last == 0x0A || last == 0x0D { octets.removeLast() }
      return octets
    } catch {
      table.report(.missingFile, "file", expected: error.reason, advice: "relative paths count from the configuration's folder, \(folder)")
      return nil
    }
  }

  static func isInjectable(_ name: String) -> Bool {
    var name = name
    return name.withUTF8 { utf8 in
      guard let known = FieldName(bytes: UnsafeRawBufferPointer(utf8)) else { return false }
      return known == .other || !FieldSet.hopByHop.union(.framing).union(.payment).has(known)
    }
  }
}
