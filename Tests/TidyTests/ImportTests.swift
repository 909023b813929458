import Foundation
import Testing

/// The rows of the architecture: a module imports only what stands on its own row or above it, and each C library has one importer.
private let rows: [[String]] = [
  ["Bytes", "Encoding", "Crypto"],
  ["HTTP", "HTTP2", "TLS", "Ethereum", "Payments", "Metering", "Usage", "Coding", "MCP", "Methods", "Gateway", "Configuration"],
  ["IO", "Ledger"],
  ["Proxy", "Agent", "farebox"],
]
private let importers = [
  "CLinux": "IO", "COpenSSL": "Crypto", "CLibSSL": "TLS", "CSodium": "Crypto", "CSecp256k1": "Crypto", "CSQLite": "Ledger", "CNghttp2": "HTTP2",
  "CZlib": "Coding", "CBrotli": "Coding", "CZstandard": "Coding",
]
private let packages = ["TOMLKit": ["Configuration"], "ArgumentParser": ["farebox"]]
private let platform: Set<String> = ["Glibc", "Synchronization", "Dispatch"]
/// The edges, off the data path: only these may import Foundation.
private let edges: Set<String> = ["Configuration", "Agent", "farebox"]

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

private struct SourceFile {
  let module: String
  let path: String
  let lines: [Substring]
}

private func sourceFiles() throws -> [SourceFile] {
  var files: [SourceFile] = []
  for module in rows.joined() {
    let folder = root.appending(path: "Sources/\(module)")
    let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
    for name in names where name.hasSuffix(".swift") {
      let text = try String(contentsOf: folder.appending(path: name), encoding: .utf8)
      files.append(SourceFile(module: module, path: "Sources/\(module)/\(name)", lines: text.split(separator: "\n", omittingEmptySubsequences: false)))
    }
  }
  return files
}

private func importedModules(_ file: SourceFile) -> [String] {
  file.lines.compactMap { line in
    let words = line.split(separator: " ")
    guard let index = words.firstIndex(of: "import"), index + 1 < words.count else { return nil }
    let isStatement = words[..<index].allSatisfy { $0.hasPrefix("@") || $0 == "public" || $0 == "internal" || $0 == "private" }
    guard isStatement else { return nil }
    let target = ["struct", "class", "enum", "func", "let", "var", "typealias", "protocol"].contains(words[index + 1]) ? words[index + 2] : words[index + 1]
    return String(target.split(separator: ".")[0])
  }
}

@Suite struct ImportTests {
  @Test func modulesImportOnlyTheirRowOrAbove() throws {
    let rowOf = Dictionary(uniqueKeysWithValues: rows.enumerated().flatMap { index, names in names.map { ($0, index) } })
    let files = try sourceFiles()
    #expect(files.count > 60)
    for file in files {
      for name in importedModules(file) {
        if let row = rowOf[name] {
          #expect(row <= rowOf[file.module]!, "\(file.path) imports \(name), which stands below it")
        } else if let importer = importers[name] {
          #expect(importer == file.module, "\(file.path) imports \(name), whose one importer is \(importer)")
        } else if let allowed = packages[name] {
          #expect(allowed.contains(file.module), "\(file.path) imports the package \(name)")
        } else if name == "Foundation" {
          #expect(edges.contains(file.module), "\(file.path) imports Foundation on the data path")
        } else {
          #expect(platform.contains(name), "\(file.path) imports \(name), which the allow-list does not know")
        }
      }
    }
  }

  @Test func nothingIsUnfinishedOrForced() throws {
    let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X:", "try" + "!", "fatal" + "Error(\"not"]
    for file in try sourceFiles() {
      for (number, line) in file.lines.enumerated() {
        for mark in marks where line.contains(mark) {
          Issue.record("\(file.path):\(number + 1) contains \(mark)")
        }
      }
    }
  }

  @Test func filesHoldOneConcept() throws {
    for file in try sourceFiles() {
      #expect(file.lines.count <= 500, "\(file.path) has \(file.lines.count) lines")
    }
  }
}
