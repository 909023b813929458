import HTTP

/// What the router found.
public enum RouteMatch: Equatable, Sendable {
  case route(RouteIndex)
  /// The path is known, the method is not: the first route of the path, and what it and its siblings allow.
  case methodNotAllowed(RouteIndex, allow: MethodSet)
  case none
}

/// Finds the route of a request by host, canonical path and method; never allocates, and never guesses.
///
/// A host's own routes come before those of every host. Among paths, exact ones come first, then segment patterns (a
/// literal segment before a named one, from the left), then the longest prefix. The best path decides alone: where it
/// does not serve the method, a less specific route is not asked, since it could be a free one.
public struct Router: Sendable {
  private struct Entry {
    var route: RouteIndex
    var methods: MethodSet
  }

  /// A node of the tree of segments. Indices below zero mean "none".
  private struct Node {
    /// The child for a segment of any text.
    var named: Int32 = -1
    /// The place of a segment pattern that ends here.
    var place: Int32 = -1
    /// The place of a prefix without a slash at its end.
    var prefix: Int32 = -1
    /// The place of a prefix with one.
    var slashedPrefix: Int32 = -1
  }

  private var hosts = OctetTable()
  private var exact = OctetTable()
  private var children = OctetTable()
  /// The first nodes are the roots of the host groups; group 0 is every host.
  private var roots: [Int32] = []
  private var nodes: [Node] = []
  /// The routes of each place, in the order of the configuration.
  private var places: [[Entry]] = []

  /// Builds the router; refuses patterns that are not canonical and routes that conflict.
  ///
  /// - Parameter numbers: what a match answers with, a pattern each; nil: their order.
  public init(_ patterns: [RoutePattern], numbers: [RouteIndex]? = nil) throws(GatewayError) {
    guard patterns.count <= Int(RouteIndex.max) else { throw .tooManyRoutes }
    precondition(numbers.map { $0.count == patterns.count } ?? true)
    _ = group(of: [])
    for (index, pattern) in patterns.enumerated() { try add(pattern, index, number: numbers?[index] ?? RouteIndex(index)) }
  }

  // MARK: Matching

  /// Finds the route. `host` is without port and in any case; `path` is canonical and without query.
  public func match(host: UnsafeRawBufferPointer, path: UnsafeRawBufferPointer, method: Method) -> RouteMatch {
    let octets = path.bytes
    var place: Int32 = -1
    if let group = hostGroup(host.bytes) { place = self.place(of: octets, group: group) }
    if place < 0 { place = self.place(of: octets, group: 0) }
    guard place >= 0 else { return .none }
    return select(Int(place), method)
  }

  private func select(_ place: Int, _ method: Method) -> RouteMatch {
    var allow: MethodSet = []
    for index in places[place].indices {
      let entry = places[place][index]
      if entry.methods.allows(method) { return .route(entry.route) }
      allow.formUnion(entry.methods)
    }
    return .methodNotAllowed(places[place][0].route, allow: allow)
  }

  private func place(of path: RawSpan, group: Int32) -> Int32 {
    if let place = exact.value(of: path, context: UInt32(bitPattern: group)) { return place }
    var longest: Int32 = -1
    guard path.byteCount > 0 else { return -1 }
    let place = descend(from: roots[Int(group)], path, 1, &longest)
    return place >= 0 ? place : longest
  }

  /// Walks down the tree from a node, the next segment beginning at `start`; gives the place of a segment pattern and
  /// keeps the longest prefix met. Each node is entered at most once, and the tree is no deeper than its patterns.
  private func descend(from node: Int32, _ path: RawSpan, _ start: Int, _ longest: inout Int32) -> Int32 {
    let here = nodes[Int(node)]
    // Behind the last segment there is no slash, so `start` lies one octet beyond the end.
    guard start <= path.byteCount else {
      if here.prefix >= 0 { longest = here.prefix }
      return here.place
    }
    if here.prefix >= 0 { longest = here.prefix }
    if here.slashedPrefix >= 0 { longest = here.slashedPrefix }
    var end = start
    while end < path.byteCount, path.octet(end) != UInt8(ascii: "/") { end &+= 1 }
    if let child = children.value(of: path.extracting(start..<end), context: UInt32(bitPattern: node)) {
      let place = descend(from: child, path, end &+ 1, &longest)
      if place >= 0 { return place }
    }
    guard here.named >= 0, end > start else { return -1 }
    return descend(from: here.named, path, end &+ 1, &longest)
  }

  /// Octets of the longest host name that is looked up.
  private static let longestHost = 255

  private func hostGroup(_ host: RawSpan) -> Int32? {
    guard roots.count > 1 else { return nil }
    var lower = InlineArray<255, UInt8>(repeating: 0)
    var count = host.byteCount
    // A dot at the end names the same host (RFC 3986 section 3.2.2).
    if count > 1, host.octet(count - 1) == UInt8(ascii: ".") { count -= 1 }
    guard count <= Self.longestHost else { return nil }
    for index in 0..<count {
      let octet = host.octet(index)
      lower[index] = octet &- 0x41 < 26 ? octet | 0x20 : octet
    }
    return hosts.value(of: lower.span.bytes.extracting(0..<count), context: 0)
  }

  // MARK: Building

  private mutating func add(_ pattern: RoutePattern, _ index: Int, number: RouteIndex) throws(GatewayError) {
    let methods = pattern.methods.withImpliedHead
    guard !methods.isEmpty else { throw .methodsEmpty(route: index) }
    let segments = try Self.segments(of: pattern.path, index)
    for host in pattern.hosts.isEmpty ? [""] : pattern.hosts {
      guard pattern.hosts.isEmpty || Self.isHostName(host) else { throw .hostInvalid(route: index) }
      let group = group(of: Array(host.utf8))
      let place = place(for: pattern.path, segments, group)
      for entry in places[place] where !entry.methods.isDisjoint(with: methods) {
        throw .conflict(route: index, with: Int(entry.route))
      }
      places[place].append(Entry(route: number, methods: methods))
    }
  }

  private static func isHostName(_ host: String) -> Bool {
    guard let (name, port) = Authority.split(host) else { return false }
    return port == nil && name == host && host == host.lowercased() && !host.hasSuffix(".")
  }

  private mutating func group(of host: [UInt8]) -> Int32 {
    let next = Int32(roots.count)
    let group = host.isEmpty && !roots.isEmpty ? 0 : hosts.entered(host, context: 0, next)
    if group == next {
      roots.append(Int32(nodes.count))
      nodes.append(Node())
    }
    return group
  }

  /// Splits a pattern's path; a named segment is nil.
  private static func segments(of pattern: PathPattern, _ index: Int) throws(GatewayError) -> [[UInt8]?] {
    let text = pattern.text
    guard text.utf8.first == UInt8(ascii: "/"), text.utf8.count <= PathPattern.lengthLimit else {
      throw .pathInvalid(route: index)
    }
    var segments: [[UInt8]?] = []
    for segment in text.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
      guard segments.count < PathPattern.segmentLimit else { throw .pathInvalid(route: index) }
      if case .segments = pattern, segment.contains(where: { $0 == UInt8(ascii: "{") || $0 == UInt8(ascii: "}") }) {
        let name = segment.dropFirst().dropLast()
        let isName = !name.isEmpty && name.allSatisfy { $0 != UInt8(ascii: "{") && $0 != UInt8(ascii: "}") }
        guard segment.first == UInt8(ascii: "{"), segment.last == UInt8(ascii: "}"), isName else {
          throw .segmentInvalid(route: index)
        }
        segments.append(nil)
      } else {
        segments.append(Array(segment))
      }
    }
    let literal = segments.map { String(decoding: $0 ?? [UInt8(ascii: "x")], as: UTF8.self) }.joined(separator: "/")
    guard CanonicalTarget.isCanonical(path: "/" + literal) else { throw .pathInvalid(route: index) }
    return segments
  }

  /// Finds or makes the place of a pattern in a host group.
  private mutating func place(for path: PathPattern, _ segments: [[UInt8]?], _ group: Int32) -> Int {
    let next = Int32(places.count)
    let place: Int32
    switch path {
    case .exact(let text):
      place = exact.entered(Array(text.utf8), context: UInt32(bitPattern: group), next)
    case .segments(let text) where !segments.contains(nil):
      place = exact.entered(Array(text.utf8), context: UInt32(bitPattern: group), next)
    case .segments:
      let node = node(for: segments[...], group)
      if nodes[node].place < 0 { nodes[node].place = next }
      place = nodes[node].place
    case .prefix where segments.last == [UInt8]():
      let node = node(for: segments.dropLast(), group)
      if nodes[node].slashedPrefix < 0 { nodes[node].slashedPrefix = next }
      place = nodes[node].slashedPrefix
    case .prefix:
      let node = node(for: segments[...], group)
      if nodes[node].prefix < 0 { nodes[node].prefix = next }
      place = nodes[node].prefix
    }
    if place == next { places.append([]) }
    return Int(place)
  }

  /// Finds or makes the node behind the segments.
  private mutating func node(for segments: ArraySlice<[UInt8]?>, _ group: Int32) -> Int {
    var node = roots[Int(group)]
    for segment in segments {
      let next = Int32(nodes.count)
      if let segment {
        let child = children.entered(segment, context: UInt32(bitPattern: node), next)
        if child == next { nodes.append(Node()) }
        node = child
      } else {
        if nodes[Int(node)].named < 0 {
          nodes[Int(node)].named = next
          nodes.append(Node())
        }
        node = nodes[Int(node)].named
      }
    }
    return Int(node)
  }
}
