import Bytes
import Crypto
import Encoding
import Testing

@Suite struct SignedNoteTests {
  /// The example in the documentation of Go's note package.
  private let text = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
  private let line =
    "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
  private let verifier = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

  private func exampleKey() throws -> Ed25519.PublicKey {
    let octets = try #require(Base64.decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"))
    return try #require(Ed25519.PublicKey(bytes: octets.dropFirst()))
  }

  @Test func verifiesTheExample() throws {
    let key = try exampleKey()
    let note = try #require(SignedNote(parsing: text + "\n" + line))
    #expect(note.text == text)
    #expect(note.isSigned(name: "PeterNeumann", key: key))
    #expect(!note.isSigned(name: "EnochRoot", key: key))
    #expect(!note.isSigned(name: "PeterNeumann", key: Ed25519.SigningKey.generate().publicKey))
    #expect(note.serialized == text + "\n" + line)
    #expect(SignedNote.verifierKey(name: "PeterNeumann", key: key) == verifier)
  }

  @Test func signaturesStandTogether() throws {
    let (first, second) = (Ed25519.SigningKey.generate(), Ed25519.SigningKey.generate())
    var note = try #require(SignedNote(text: "a\n\nb\n"))
    let areAdded = [note.sign(name: "one", key: first), note.sign(name: "two", key: second)]
    #expect(areAdded == [true, true])
    let read = try #require(SignedNote(parsing: note.serialized))
    #expect(read == note)
    #expect(read.isSigned(name: "one", key: first.publicKey))
    #expect(read.isSigned(name: "two", key: second.publicKey))
    #expect(!read.isSigned(name: "one", key: second.publicKey))
    for name in ["", "a b", "a+b", "a\u{2003}b", "a\n", "a\u{00A0}"] {
      var unsigned = note
      let isAdded = unsigned.sign(name: name, key: first)
      #expect(!isAdded)
      #expect(unsigned == note)
      #expect(SignedNote.verifierKey(name: name, key: first.publicKey) == nil)
    }
  }

  @Test func refusesOtherLayouts() {
    for note in [
      "", "\n", "\n\n", text, text + line, text + "\n", text + "\n\n", text + "\n" + line.dropLast(), text + "\n" + line + "\n",
      text + "\n" + line + "x\n", text + "\n-" + line.dropFirst(), "a\u{1}\n\n" + line, "a\r\n\n" + line,
      text + "\n\u{2014} PeterNeumann x08go/ZJ ku\n", text + "\n\u{2014} PeterNeumann AAAAAA\n",
      text + "\n\u{2014} Peter+Neumann x08go/ZJ\n", text + "\n" + String(repeating: line, count: SignedNote.maximumSignatures + 1),
    ] {
      #expect(SignedNote(parsing: note) == nil)
    }
    #expect(SignedNote(text: "no line feed") == nil)
  }

  @Test func checkpointsComeBack() throws {
    let key = Ed25519.SigningKey.generate()
    let checkpoint = Checkpoint(origin: "example.com/audit", size: 12_345, root: SHA256.hash("root"))
    #expect(checkpoint.text == "example.com/audit\n12345\n\(Base64.encode(checkpoint.root))\n")
    let note = try #require(checkpoint.sign(key: key))
    #expect(Checkpoint.verify(note, origin: "example.com/audit", key: key.publicKey) == checkpoint)
    #expect(Checkpoint.verify(note, origin: "example.com/other", key: key.publicKey) == nil)
    #expect(Checkpoint.verify(note, origin: "example.com/audit", key: Ed25519.SigningKey.generate().publicKey) == nil)
    let octets = [UInt8](note.utf8)
    for index in octets.indices {
      var changed = octets
      changed[index] ^= 1
      #expect(Checkpoint.verify(String(decoding: changed, as: UTF8.self), origin: "example.com/audit", key: key.publicKey) == nil)
    }
    #expect(Checkpoint(origin: "not a name", size: 0, root: checkpoint.root).sign(key: key) == nil)
  }

  @Test func checkpointTextsAreStrict() {
    let root = Base64.encode(SHA256.hash("root"))
    #expect(Checkpoint(text: "o\n0\n\(root)\n") != nil)
    #expect(Checkpoint(text: "o\n18446744073709551615\n\(root)\n")?.size == .max)
    for text in [
      "o\n0\n\(root)", "o\n00\n\(root)\n", "o\n-1\n\(root)\n", "o\n18446744073709551616\n\(root)\n", "\n0\n\(root)\n",
      "o\n0\n\(root.dropLast())\n", "o\n0\nAAAA\n", "o\n0\n\(root)\nextension\n", "o\n0\n\(root)\n\n",
    ] {
      #expect(Checkpoint(text: text) == nil)
    }
  }
}
