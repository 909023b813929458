/// The member paths that a `JSONPassage` looks for, as a tree whose steps are found by the octets of a name.
///
/// A path is written as `choices[].delta.content`: names with dots between, and `[]` for every element of an array. It is made once
/// for each format, shared by all threads and never given back, so that following it costs no reference counting.
public struct JSONPaths: @unchecked Sendable {
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

  private struct Node {
    let role: Role
    /// The node of every element, or -1.
    let element: Int16
    let firstMember: Int
    let memberCount: Int
    /// One bit for each length that a member's name has; lengths past 63 share the last.
    let lengths: UInt64
  }

  private struct Member {
    let firstOctet: Int
    let octetCount: Int
    let node: Int16
  }

  // Safe because: the three tables are written before the structure exists, never again, and never freed; every index in them was
  // made from their counts, and the nodes that leave come back only from the passages that follow the same tree.
  private let nodes: UnsafePointer<Node>
  private let members: UnsafePointer<Member>
  private let names: UnsafePointer<UInt8>
  private let ignoresCase: Bool

  /// Makes the tree of the given paths, for the process's whole life.
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
      nodes.append(
        Node(role: draft.roles[index], element: draft.elements[index], firstMember: members.count, memberCount: draft.members[index].count,
          lengths: draft.members[index].reduce(0) { $0 | Self.bit(ofLength: $1.name.count) }))
      for (name, node) in draft.members[index] {
        members.append(Member(firstOctet: names.count, octetCount: name.count, node: node))
        names += name
      }
    }
    self.nodes = Self.kept(nodes)
    self.members = Self.kept(members)
    self.names = Self.kept(names)
    ignoresCase = ignoringCase
  }

  @inline(__always)
  private static func bit(ofLength count: Int) -> UInt64 { 1 << UInt64(min(count, 63)) }

  private static func kept<Element>(_ elements: [Element]) -> UnsafePointer<Element> {
    // Safe because: the buffer has room for all elements and is initialised with them before anybody reads it.
    let buffer = UnsafeMutableBufferPointer<Element>.allocate(capacity: max(1, elements.count))
    _ = buffer.initialize(from: elements)
    return UnsafePointer(buffer.baseAddress.unsafelyUnwrapped)
  }

  /// The role of a node, none for -1.
  @inline(__always)
  func role(of node: Int16) -> Role { node >= 0 ? nodes[Int(node)].role : .none }

  /// The node of the elements of a node's array, or -1.
  @inline(__always)
  func element(of node: Int16) -> Int16 { node >= 0 ? nodes[Int(node)].element : -1 }

  /// Whether a path goes on with a name.
  @inline(__always)
  func hasMembers(_ node: Int16) -> Bool { node >= 0 && nodes[Int(node)].memberCount > 0 }

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

  /// Finds the node of a member by its name's octets; -1 where no path leads there. `isExact` becomes false where only the case of
  /// letters differs.
  func node(of name: RawSpan, from start: Int, to end: Int, under node: Int16, isExact: inout Bool) -> Int16 {
    guard node >= 0 else { return -1 }
    let count = end &- start
    if ignoresCase, let plain = Self.folded(name, start, end) {
      var unused = true
      let found = self.node(of: plain.span.bytes, from: 0, to: plain.count, under: node, isExact: &unused)
      if found >= 0 { isExact = false }
      return found
    }
    let parent = nodes[Int(node)]
    guard parent.lengths & Self.bit(ofLength: count) != 0 else { return -1 }
    for place in parent.firstMember..<parent.firstMember &+ parent.memberCount {
      let member = members[place]
      guard member.octetCount == count else { continue }
      var index = 0
      var differs = false
      while index < count {
        let octet = name.octet(start &+ index)
        let expected = names[member.firstOctet &+ index]
        if octet != expected {
          guard isSameLetter(octet, expected) else { break }
          differs = true
        }
        index &+= 1
      }
      if index == count {
        if differs { isExact = false }
        return member.node
      }
    }
    return -1
  }

  /// The name with the two letters replaced that are beyond ASCII and yet the same as one of its letters but for their case, to Go's
  /// decoder: the long s (U+017F) and the Kelvin sign (U+212A). Nil where it has none, or is longer than any that a path has.
  private static func folded(_ name: RawSpan, _ start: Int, _ end: Int) -> [UInt8]? {
    guard end &- start <= JSONPassage.textLimit else { return nil }
    var plain: [UInt8] = []
    var index = start
    var last = start
    while index < end {
      let rest = end &- index
      let isLongS = name.octet(index) == 0xC5 && rest > 1 && name.octet(index &+ 1) == 0xBF
      let isKelvin = name.octet(index) == 0xE2 && rest > 2 && name.octet(index &+ 1) == 0x84 && name.octet(index &+ 2) == 0xAA
      guard isLongS || isKelvin else {
        index &+= 1
        continue
      }
      for place in last..<index { plain.append(name.octet(place)) }
      plain.append(isLongS ? UInt8(ascii: "s") : UInt8(ascii: "k"))
      index &+= isLongS ? 2 : 3
      last = index
    }
    guard last > start else { return nil }
    for place in last..<end { plain.append(name.octet(place)) }
    return plain
  }

  private func isSameLetter(_ octet: UInt8, _ expected: UInt8) -> Bool {
    ignoresCase && (octet ^ expected) == 0x20 && (octet | 0x20) &- 0x61 < 26
  }
}
