import Bytes
import Crypto
import Dispatch
import Encoding
import Glibc
import Synchronization
import Testing

@testable import Ledger

/// xorshift64*: the same tamperings in every run.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed | 1 }

  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

@Suite struct AuditTests {
  /// A log of charges, sessions and refusals, with checkpoints in between and one at its end.
  private func log(lines: Int = 60, rotate: UInt64 = 0, closes: Bool = true) throws -> TemporaryFolder {
    let fixture = try LedgerFixture {
      $0.checkpointLines = 16
      $0.rotateOctets = rotate
      $0.checkpointInterval = .seconds(3_600)
    }
    let session = try fixture.open(1, deposit: 10_000)
    for number in 0..<lines {
      if number % 3 == 0 {
        let hold = try fixture.ledger.hold(fixture.charge(number), at: noon)
        _ = try fixture.ledger.settle(hold, at: noon)
      } else {
        _ = try fixture.ledger.begin(session, cost: .of(10), context: fixture.line, at: noon)
        fixture.ledger.finish(session, debited: .of(10), used: .of(10), units: 1, context: fixture.line, at: noon)
      }
      if rotate > 0 { fixture.waitUntilDurable() }
    }
    fixture.waitUntilDurable()
    if closes {
      fixture.ledger.close()
    } else {
      // Lines come to the file a little later than their rows to the disk.
      Pause.wait { fixture.folder.read("audit.jsonl").count(where: { $0 == 0x0A }) <= lines }
      fixture.ledger.abandon()
    }
    return fixture.folder
  }

  @Test func everyLineIsCanonicalAndChained() throws {
    let folder = try log()
    var previous = String(repeating: "0", count: 64)
    var tree = MerkleTree()
    for (index, octets) in folder.read("audit.jsonl").split(separator: 0x0A).enumerated() {
      let value = try JSON.parse(Array(octets))
      #expect(JCS.serialize(value) == Array(octets))
      let object = try #require(value.objectValue)
      #expect(object["seq"]?.intValue == index + 1)
      #expect(object["prev"]?.stringValue == previous)
      if object["event"]?.stringValue == "checkpoint" {
        #expect(object["size"]?.intValue == index)
        #expect(object["root"]?.stringValue == tree.root.hex)
        let note = try #require(object["note"]?.stringValue.flatMap { SignedNote(parsing: $0) })
        #expect(note.isSigned(name: "api.example.com/audit", key: testKey.publicKey))
      }
      previous = SHA256.hash(Array(octets)).hex
      tree.append(leaf: Array(octets))
    }
  }

  @Test func anHonestLogVerifies() throws {
    let report = verified(try log())
    #expect(report.isValid)
    #expect(report.lineCount > 60)
    #expect(report.checkpointCount >= 4)
    #expect(report.uncoveredCount == 0)
    #expect(report.mayBeCut)
  }

  @Test func aForeignKeyIsNotBelieved() throws {
    let folder = try log()
    let other = Ed25519.SigningKey(seed: SecretBytes([UInt8](repeating: 8, count: 32)))!
    var verifier = AuditVerifier(realm: "api.example.com", keys: [other.publicKey])
    #expect(try verifier.verify(path: "\(folder.path)/audit.jsonl").defect?.fault == .signature)
    verifier = AuditVerifier(realm: "other.example.com", keys: [testKey.publicKey])
    #expect(try verifier.verify(path: "\(folder.path)/audit.jsonl").defect?.fault == .signature)
  }

  // MARK: tampering

  enum Tampering: CaseIterable { case flip, remove, swap, repeat_ }

  /// Random tamperings, all detected, and the first wrong line named.
  @Test(arguments: Tampering.allCases) func isFound(tampering: Tampering) throws {
    let folder = try log()
    let honest = folder.read("audit.jsonl")
    let lines = honest.split(separator: 0x0A).map(Array.init)
    var generator = SeededGenerator(seed: 20_261_121)
    for _ in 0..<300 {
      var changed = lines
      let index: Int
      switch tampering {
      case .flip:
        index = Int.random(in: 0..<lines.count, using: &generator)
        let place = Int.random(in: 0..<lines[index].count, using: &generator)
        changed[index][place] ^= UInt8(1) << UInt8.random(in: 0..<8, using: &generator)
      case .remove:
        // Without its last line the log is cut, which only a pin shows.
        index = Int.random(in: 0..<(lines.count - 1), using: &generator)
        changed.remove(at: index)
      case .swap:
        index = Int.random(in: 0..<(lines.count - 1), using: &generator)
        changed.swapAt(index, Int.random(in: (index + 1)..<lines.count, using: &generator))
      case .repeat_:
        index = Int.random(in: 0..<(lines.count - 1), using: &generator)
        changed.insert(changed[index], at: index + 1)
      }
      folder.write(changed.flatMap { $0 + [0x0A] }, to: "audit.jsonl")
      let report = verified(folder)
      guard let defect = report.defect else {
        Issue.record("\(tampering) of line \(index + 1) of \(lines.count) was not found")
        return
      }
      #expect(defect.place.line == (tampering == .repeat_ ? index + 2 : index + 1), "\(tampering) \(defect.fault)")
      switch tampering {
      case .flip: #expect(defect.fault == .altered || defect.fault == .signature)
      case .remove: #expect(defect.fault == .removed)
      case .swap, .repeat_: #expect(defect.fault == .reordered)
      }
    }
  }

  @Test func aRewrittenChainIsFoundByItsRoot() throws {
    let folder = try log()
    var lines = folder.read("audit.jsonl").split(separator: 0x0A).map { String(decoding: $0, as: UTF8.self) }
    let index = try #require(lines.firstIndex { $0.contains("charge.settled") })
    lines[index] = lines[index].replacing("\"amount\":\"100\"", with: "\"amount\":\"1\"")
    // Whoever can write the file can chain it anew, but not sign it.
    for later in (index + 1)..<lines.count {
      let range = try #require(lines[later].firstRange(of: "\"prev\":\""))
      let start = range.upperBound
      lines[later].replaceSubrange(start..<lines[later].index(start, offsetBy: 64), with: SHA256.hash(lines[later - 1]).hex)
    }
    folder.write(Array(lines.joined(separator: "\n").utf8) + [0x0A], to: "audit.jsonl")
    let fault = verified(folder).defect?.fault
    #expect(fault == .signature || fault == .root(from: 1))
  }

  @Test func aCutIsFoundAgainstAPinOnly() throws {
    let folder = try log()
    let lines = folder.read("audit.jsonl").split(separator: 0x0A).map(Array.init)
    let whole = verified(folder)
    let pin = try #require(whole.checkpoint)
    let points = lines.indices.filter { String(decoding: lines[$0], as: UTF8.self).contains("\"event\":\"checkpoint\"") }
    folder.write(lines[...points[1]].flatMap { $0 + [0x0A] }, to: "audit.jsonl")
    let cut = verified(folder)
    #expect(cut.isValid)
    #expect(cut.mayBeCut)
    let pinned = verified(folder, pin: pin)
    #expect(pinned.defect?.fault == .cut(expected: pin.size))
    #expect(pinned.defect?.place.sequence == UInt64(points[1] + 2))
    #expect(verified(folder, pin: cut.checkpoint).isPinned)
    #expect(verified(folder, pin: AuditPin(size: 5, root: id(1))).defect?.fault == .pin)
  }

  @Test func readsPins() throws {
    let folder = try log()
    let report = verified(folder)
    let expected = try #require(report.checkpoint)
    let line = try #require(folder.read("audit.jsonl").split(separator: 0x0A).last)
    #expect(AuditPin(parsing: Array(line)) == expected)
    let object = try #require(try JSON.parse(Array(line)).objectValue)
    let note = try #require(object["note"]?.stringValue)
    #expect(AuditPin(parsing: Array(note.utf8)) == expected)
    let receipt = "{\"logRoot\":\"\(expected.root.hex)\",\"logSize\":\"\(expected.size)\",\"method\":\"prepaid\"}"
    #expect(AuditPin(parsing: Array(receipt.utf8)) == expected)
    #expect(AuditPin(parsing: Array(Base64URL.encode(Array(receipt.utf8)).utf8)) == expected)
    #expect(AuditPin(parsing: Array("nothing".utf8)) == nil)
  }

  // MARK: the file

  @Test(arguments: [1, 40, 400, 5_000]) func aTornFileIsRepaired(cut: Int) throws {
    // An orderly end puts the file on the disk and keeps only the last rows: a file is torn by a crash.
    let folder = try log(closes: false)
    let honest = folder.read("audit.jsonl")
    folder.write(Array(honest.dropLast(cut)), to: "audit.jsonl")
    let again = try LedgerFixture(in: folder)
    again.ledger.close()
    #expect(Array(folder.read("audit.jsonl").prefix(honest.count)) == honest)
    #expect(verified(folder).isValid)
  }

  /// A power cut keeps any part of what was not synced: holes read as zeros, at the beginning, in the middle, and over the last line's end.
  @Test(arguments: [[0..<512], [5_000..<5_512, 9_000..<9_001], [0..<20_000]], [0, 40]) func holesAreFilledFromTheirRows(holes: [Range<Int>], cut: Int) throws {
    let folder = try log(closes: false)
    let honest = folder.read("audit.jsonl")
    var torn = Array(honest.dropLast(cut))
    for hole in holes + [torn.count - 3..<torn.count - 1] {
      for index in hole where index < torn.count { torn[index] = 0 }
    }
    folder.write(torn, to: "audit.jsonl")
    let again = try LedgerFixture(in: folder)
    again.ledger.close()
    #expect(Array(folder.read("audit.jsonl").prefix(honest.count)) == honest)
    #expect(verified(folder).isValid)
  }

  @Test func linesThatWereNeverExportedAreAppended() throws {
    let fixture = try LedgerFixture()
    fixture.waitUntilDurable()
    // Lines are gathered for the file, so they come a little later than the disk has their rows.
    Pause.wait { fixture.folder.read("audit.jsonl").isEmpty }
    fixture.ledger.abandon()
    let written = fixture.folder.read("audit.jsonl")
    #expect(!written.isEmpty)
    fixture.folder.write([], to: "audit.jsonl")
    let again = try LedgerFixture(in: fixture.folder)
    again.ledger.close()
    #expect(Array(fixture.folder.read("audit.jsonl").prefix(written.count)) == written)
    #expect(verified(fixture.folder).isValid)
  }

  @Test func aFileOfAnotherLedgerIsRefused() throws {
    let folder = try log()
    unlink("\(folder.path)/ledger.db")
    #expect(throws: LedgerError.self) { try LedgerFixture(in: folder) }
    let lines = folder.read("audit.jsonl").count { $0 == 0x0A }
    #expect(throws: LedgerError.auditAhead(file: UInt64(lines) + 1, ledger: 1)) { try LedgerFixture(in: folder) }
  }

  @Test func rotatesBySizeAndCarriesTheChainOn() throws {
    let folder = try log(lines: 60, rotate: 8_000)
    let files = AuditFiles.all(of: "\(folder.path)/audit.jsonl")
    #expect(files.count > 2)
    #expect(verified(folder).isValid)
    // Without its oldest file the log is taken up where it begins.
    unlink(files[0])
    #expect(verified(folder).defect?.fault == .removed)
    let rest = verified(folder, mayBeginLater: true)
    #expect(rest.isValid)
    #expect(!rest.isWhole)
    // Without one in the middle it is broken.
    unlink(files[2])
    #expect(verified(folder, mayBeginLater: true).defect?.fault == .removed)
  }

  @Test func rotatesOnDemandWithACheckpointAtTheEnd() throws {
    let fixture = try LedgerFixture()
    fixture.waitUntilDurable()
    fixture.ledger.rotate()
    Pause.wait { AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").isEmpty }
    let renamed = try #require(AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").first)
    #expect(renamed.hasSuffix(".00000000000000000001"))
    let map = try #require(FileMap(path: renamed))
    let last = try #require(map.withOctets { Array($0) }.split(separator: 0x0A).last)
    #expect(String(decoding: last, as: UTF8.self).contains("\"event\":\"checkpoint\""))
    _ = try fixture.ledger.hold(fixture.charge(1), at: noon)
    fixture.ledger.close()
    #expect(verified(fixture.folder).isValid)
    let again = try LedgerFixture(in: fixture.folder)
    again.ledger.close()
    #expect(verified(fixture.folder).isValid)
  }

  @Test func aLogThatIsRotatedMeanwhileLacksNothing() throws {
    let fixture = try LedgerFixture {
      $0.rotateOctets = 1_000
      $0.commitDelay = .zero
    }
    let isDone = Atomic(false)
    let missing = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: 2) { index in
      if index == 0 {
        for number in 0..<300 {
          guard let hold = try? fixture.ledger.hold(fixture.charge(number), at: noon), (try? fixture.ledger.settle(hold, at: noon)) != nil else { break }
          fixture.waitUntilDurable()
        }
        isDone.store(true, ordering: .relaxed)
      } else {
        while !isDone.load(ordering: .relaxed) {
          if verified(fixture.folder).defect?.fault == .removed { missing.add(1, ordering: .relaxed) }
        }
      }
    }
    #expect(missing.load(ordering: .relaxed) == 0)
    #expect(AuditFiles.renamed(beside: "\(fixture.folder.path)/audit.jsonl").count > 5)
  }

  @Test func goesOnBehindFilesThatWereMovedAwayWhileItWasStopped() throws {
    let folder = try log()
    let first = folder.read("audit.jsonl")
    unlink("\(folder.path)/audit.jsonl")
    try LedgerFixture(in: folder).ledger.close()
    let second = folder.read("audit.jsonl")
    #expect(verified(folder).defect?.fault == .removed)
    #expect(verified(folder, mayBeginLater: true).isValid)
    // Put together again, no line stands twice.
    folder.write(first + second, to: "audit.jsonl")
    #expect(verified(folder).isValid)
  }

  @Test func goesOnWhenTheFileWasMovedAway() throws {
    let fixture = try LedgerFixture()
    fixture.waitUntilDurable()
    // Lines are exported after they are durable; a wait for the next ones makes sure that the first are in the file.
    let folder = fixture.folder
    Pause.wait { folder.read("audit.jsonl").count(where: { $0 == 0x0A }) < 3 }
    let moved = "audit.jsonl.00000000000000000001"
    rename("\(folder.path)/audit.jsonl", "\(folder.path)/\(moved)")
    fixture.ledger.rotate()
    Pause.wait { !folder.names.contains("audit.jsonl") }
    let hold = try fixture.ledger.hold(fixture.charge(1), at: noon)
    _ = try fixture.ledger.settle(hold, at: noon)
    fixture.ledger.close()
    #expect(verified(folder).isValid)
  }
}
