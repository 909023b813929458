import Glibc

// libFuzzer's side of the properties: its `main` calls these. `FAREBOX_FUZZ_TARGET` names the property.

@_cdecl("LLVMFuzzerInitialize")
public func initialize(_ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>) -> CInt {
  guard let name = getenv("FAREBOX_FUZZ_TARGET").map({ String(cString: $0) }), let property = Property.all.first(where: { $0.name == name }) else {
    // Asked for nothing that there is, it tells what there is.
    for property in Property.all { print(property.name) }
    exit(64)
  }
  // With a folder's name, the samples are written there, for libFuzzer to begin with.
  if let folder = getenv("FAREBOX_FUZZ_SAMPLES").map({ String(cString: $0) }) {
    for (index, sample) in property.samples.enumerated() {
      guard let file = fopen("\(folder)/sample-\(index)", "w") else { exit(73) }
      fwrite(sample, 1, sample.count, file)
      fclose(file)
    }
    exit(0)
  }
  chosen = property
  return 0
}

// Safe because: set once, before the one thread that reads it calls anything else.
nonisolated(unsafe) private var chosen: Property?

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ octets: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard let property = chosen else { return -1 }
  do {
    try property.check(Array(UnsafeBufferPointer(start: octets, count: count)))
  } catch {
    // The same way out as a trap's, without the backtrace of the language's own.
    let text = Array("\(property.name): \(error)\n".utf8)
    write(STDERR_FILENO, text, text.count)
    abort()
  }
  return 0
}
