/// The member paths that a `JSONPassage` looks for, as a tree whose steps are found by the octets of a name.
///
/// A path is written as `choices[].delta.content`: names with dots between, and `[]` for every element of an array. It is made once
/// for each format and shared; `JSONPassage` follows it while the text passes.
public struct JSONPaths: Sendable {
  /// What happens to a value that a path leads to.
  public enum Role: Hashable, Sendable {
    /// Nothing: the path only leads further.
    case none
    /// The value is reported: numbers, short texts, booleans and null by their value, arrays and objects as they open and close.
    case value(UInt8)
    /// The octets of the value are counted under a kind below `JSONPassage.kinds`; those of an array or object whole, but for the
    /// values inside that another path leads to.
    case content(UInt8)
  }

  struct Node: Sendable {
    var role: Role
    /// The node of every element, or -1.
    var element: Int16
    /// Where the node's members stand in `members`.
    var members: Range<Int>
  }

  struct Member: Sendable {
    let name: Range<Int>
    let node: Int16
  }

  let nodes: [Node]
  let members: [Member]
  let names: [UInt8]
  let ignoresCase: Bool

  /// Makes the tree of the given paths.
  ///
  /// - Parameters:
  ///   - root: is reported for the root value as it opens and closes, or nil.
  ///   - elementsLikeRoot: says that the elements of a root array are looked at as if each were the root.
  ///   - ignoringCase: says that names are compared without regard to the case of ASCII letters, as Go's decoder does.
  /// - Precondition: the paths together have fewer than 32,767 steps, and a kind is below `JSONPassage.kinds`.
  public init(_ paths: [(path: String, role: Role)], root: UInt8? = nil, elementsLikeRoot: Bool = false, ignoringCase: Bool = false) {
    var draft = Draft(root: root.map { .value($0) } ?? .none)
    for (path, role) in paths { draft.add(path, role) }
    if elementsLikeRoot { draft.elements[0] = 0 }
    var nodes: [Node] = []
    var members: [Member] = []
    var names: [UInt8] = []
    for index in draft.roles.indices {
      let first = members.count
      for (name, node) in draft.members[index] {
        members.append(Member(name: names.count..<names.count + name.count, node: node))
        names += name
      }
      nodes.append(Node(role: draft.roles[index], element: draft.elements[index], members: first..<members.count))
    }
    self.nodes = nodes
    self.members = members
    self.names = names
    ignoresCase = ignoringCase
  }

  private struct Draft {
    var roles: [Role]
    var elements: [Int16] = [-1]
    var members: [[(name: [UInt8], node: Int16)]] = [[]]

    init(root: Role) { roles = [root] }

    mutating func add(_ path: String, _ role: Role) {
      if case .content(let kind) = role { precondition(Int(kind) < JSONPassage.kinds) }
      var node = 0
      for step in path.split(separator: ".") {
        var name = step
        var depth = 0
        while name.hasSuffix("[]") {
          name.removeLast(2)
          depth += 1
        }
        if !name.isEmpty { node = member(Array(name.utf8), of: node) }
        for _ in 0..<depth { node = element(of: node) }
      }
      roles[node] = role
    }

    private mutating func member(_ name: [UInt8], of node: Int) -> Int {
      if let found = members[node].first(where: { $0.name == name }) { return Int(found.node) }
      members[node].append((name, Int16(roles.count)))
      return grow()
    }

    private mutating func element(of node: Int) -> Int {
      if elements[node] >= 0 { return Int(elements[node]) }
      elements[node] = Int16(roles.count)
      return grow()
    }

    private mutating func grow() -> Int {
      roles.append(.none)
      elements.append(-1)
      members.append([])
      return roles.count - 1
    }
  }

  /// Finds the node of a member by its name's octets; -1 where no path leads there.
  func node(of name: RawSpan, from start: Int, to end: Int, under node: Int) -> Int16 {
    let count = end - start
    for member in members[nodes[node].members] where member.name.count == count {
      var index = 0
      while index < count, matches(name.octet(start + index), names[member.name.lowerBound + index]) { index += 1 }
      if index == count { return member.node }
    }
    return -1
  }

  @inline(__always)
  private func matches(_ octet: UInt8, _ expected: UInt8) -> Bool {
    if octet == expected { return true }
    guard ignoresCase, (octet ^ expected) == 0x20 else { return false }
    return (octet | 0x20) &- 0x61 < 26
  }
}
