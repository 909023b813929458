/// Holds the members of a JSON object in their order; each name occurs once.
///
/// Names are compared by their octets. Two objects are equal when they have the same members, in whatever order.
public struct JSONObject: Sendable {
  /// The members in the order in which they were read or set.
  public private(set) var members: [(name: String, value: JSONValue)]

  /// Makes an object without members.
  public init() { members = [] }

  /// Makes an object of members; a later one replaces an earlier one of the same name.
  public init(_ members: some Sequence<(String, JSONValue)>) {
    self.members = []
    for (name, value) in members { set(name, value) }
  }

  /// Takes members whose names are known to differ.
  init(distinct members: [(name: String, value: JSONValue)]) { self.members = members }

  /// The number of members.
  public var count: Int { members.count }
  /// Whether there are no members.
  public var isEmpty: Bool { members.isEmpty }
  /// The names in their order.
  public var names: [String] { members.map(\.name) }

  /// The value of a member; setting nil removes it. Looking up takes time in proportion to the number of members.
  public subscript(name: String) -> JSONValue? {
    get { index(of: name).map { members[$0].value } }
    set {
      if let newValue { set(name, newValue) } else { remove(name) }
    }
  }

  /// Sets a member: in its place where the name exists, else at the end.
  public mutating func set(_ name: String, _ value: JSONValue) {
    if let index = index(of: name) {
      members[index].value = value
    } else {
      members.append((name, value))
    }
  }

  /// Removes a member and returns its value; nil when there was none.
  @discardableResult
  public mutating func remove(_ name: String) -> JSONValue? {
    index(of: name).map { members.remove(at: $0).value }
  }

  private func index(of name: String) -> Int? {
    members.firstIndex { $0.name.hasSameOctets(as: name) }
  }
}

extension JSONObject: Hashable {
  /// Compares the members, in whatever order they stand.
  public static func == (left: JSONObject, right: JSONObject) -> Bool {
    guard left.count == right.count else { return false }
    return zip(left.sorted, right.sorted).allSatisfy { left, right in
      left.name.hasSameOctets(as: right.name) && left.value == right.value
    }
  }

  /// Feeds the members to the hasher in their canonical order.
  public func hash(into hasher: inout Hasher) {
    for member in sorted {
      hasher.combine(member.name)
      hasher.combine(member.value)
    }
    hasher.combine(count)
  }

  /// The members in the canonical order of their names (RFC 8785, section 3.2.3).
  var sorted: [(name: String, value: JSONValue)] {
    let isSorted = zip(members, members.dropFirst()).allSatisfy { JCS.precedes($0.name, $1.name) }
    return isSorted ? members : members.sorted { JCS.precedes($0.name, $1.name) }
  }
}

extension JSONObject: ExpressibleByDictionaryLiteral {
  /// Makes an object of a literal; a later member replaces an earlier one of the same name.
  public init(dictionaryLiteral elements: (String, JSONValue)...) { self.init(elements) }
}
