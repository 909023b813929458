import Testing

@testable import HTTP

@Suite struct FieldNameTests {
  private func name(_ text: String) -> FieldName? { Array(text.utf8).withUnsafeBytes { FieldName(bytes: $0) } }

  @Test func readsEverySpellingInAnyCase() {
    for name in FieldName.allCases where name.spelling.utf8CodeUnitCount > 0 {
      let spelling = "\(name.spelling)"
      #expect(self.name(spelling) == name)
      #expect(self.name(spelling.uppercased()) == name)
      let mixed = spelling.enumerated().map { $0.offset.isMultiple(of: 2) ? $0.element.uppercased() : String($0.element) }
      #expect(self.name(mixed.joined()) == name)
    }
  }

  @Test func tellsNamesApartThatDifferInOneOctet() {
    for name in FieldName.allCases where name.spelling.utf8CodeUnitCount > 0 {
      let spelling = Array("\(name.spelling)".utf8)
      for index in spelling.indices {
        var other = spelling
        other[index] = UInt8(ascii: "~")
        let isForwarding = other.starts(with: "x-forwarded-".utf8)
        #expect(self.name(String(decoding: other, as: UTF8.self)) == (isForwarding ? .xForwardedOther : .other))
        // A CR becomes a hyphen when 0x20 is added without care; it must not make a name.
        other[index] = spelling[index] & ~0x20
        let isLetter = spelling[index] >= 0x61
        if !isLetter, !OctetClass.token.contains(other[index]) {
          #expect(self.name(String(decoding: other, as: UTF8.self)) == nil)
        }
      }
    }
  }

  @Test func refusesWhatIsNoToken() {
    for text in ["", "a b", "a:b", "na\u{e9}me", "x\u{7f}", "(x)", "x\u{0}", "a/b", "host ", "a\tb"] { #expect(name(text) == nil) }
  }

  @Test func knowsNamesInDisguise() {
    #expect(name("Content_Length") == .disguised)
    #expect(name("X_Forwarded_For") == .disguised)
    #expect(name("X-Forwarded_Whatever") == .disguised)
    #expect(name("Prepaid_Session") == .disguised)
    #expect(name("access_control_request_headers") == .disguised)
    #expect(name("my_field") == .other)
    #expect(name("X-Forwarded-Prefix") == .xForwardedOther)
    #expect(name("x-forwarded-") == .other)
  }

  @Test func fitsItsBitSet() {
    #expect(FieldName.allCases.count <= 64)
    #expect(FieldSet(FieldName.allCases).rawValue.nonzeroBitCount == FieldName.allCases.count)
  }

  @Test func tokenClassIsTheGrammars() {
    let tokens = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
    for octet in UInt8.min...UInt8.max { #expect(OctetClass.token.contains(octet) == tokens.contains(octet)) }
  }

  @Test func methodsAreCaseSensitive() {
    for method in Method.allCases where method != .other {
      #expect(Method("\(method.name)") == method)
      #expect(Method("\(method.name)".lowercased()) == .other)
    }
    #expect(Method("GETS") == .other)
    #expect(Method("") == .other)
    #expect(MethodSet([.get, .post]).withImpliedHead.named == [.get, .head, .post])
    #expect(MethodSet.any.allows(.other))
  }
}
