// What concerns the process that serves: sockets' permissions.
extension ConfigurationReader {
  /// Reads the permissions of a file, as octal digits in quotes.
  static func fileMode(_ table: TableReader, _ key: String = "mode") -> UInt32? {
    let expected = "permissions such as \"0660\", for a user and a group at least"
    guard let text = table.string(key, expected: expected) else { return nil }
    guard (3...4).contains(text.utf8.count), let mode = UInt32(text, radix: 8), mode <= 0o777, mode & 0o600 == 0o600 else {
      table.report(.invalidValue, key, expected: expected)
      return nil
    }
    return mode
  }
}
