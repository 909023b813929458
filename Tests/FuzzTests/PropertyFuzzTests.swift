import Foundation
import Testing

/// The properties on what was once found, on what coverage-guided fuzzing keeps, and on mutated samples.
@Suite struct PropertyFuzzTests {
  /// Tests/Fuzzing, where each property has a folder of inputs that once broke it, and one of inputs that reach all known code.
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fuzzing")

  private static func inputs(_ kind: String, _ property: Property) throws -> [(name: String, octets: [UInt8])] {
    let folder = folder.appending(path: "\(kind)/\(property.name)")
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path) else { return [] }
    return try names.sorted().map { ($0, Array(try Data(contentsOf: folder.appending(path: $0)))) }
  }

  @Test(arguments: Property.all) func holdsForWhatIsKept(_ property: Property) throws {
    for kind in ["Regressions", "Corpus"] {
      for (name, octets) in try Self.inputs(kind, property) {
        do { try property.check(octets) } catch { Issue.record("\(kind)/\(property.name)/\(name): \(error)") }
      }
    }
  }

  @Test func everyFolderHasItsProperty() throws {
    for kind in ["Regressions", "Corpus"] {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: Self.folder.appending(path: kind).path)) ?? []
      for name in names { #expect(Property.all.contains { $0.name == name }, "\(kind)/\(name)") }
    }
  }

  @Test(arguments: Property.all) func holdsForMutatedSamples(_ property: Property) throws {
    let samples = property.samples + (try Self.inputs("Corpus", property).map(\.octets))
    let tried = Fuzzing.run(property.name, samples) { octets, _ in
      do { try property.check(octets) } catch { Issue.record("\(property.name), \(octets): \(error)") }
    }
    #expect(tried > 0)
  }
}
