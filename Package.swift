// swift-tools-version: 6.2
import PackageDescription

// The rows of the architecture, top to bottom: a target names only what stands on its own row or above.
let settings: [SwiftSetting] = [
  .enableExperimentalFeature("Lifetimes"),
  .treatAllWarnings(as: .error),
]

func module(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
  .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: settings)
}

/// What the properties of Tests/FuzzTests speak of.
let fuzzed: [Target.Dependency] = [
  "HTTP", "HTTP2", "TLS", "Ethereum", "Usage", "Coding", "Payments", "Metering", "MCP", "Methods", "Gateway", "Configuration", "Crypto", "Encoding", "Bytes",
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
  name: "farebox",
  products: [
    .executable(name: "farebox", targets: ["farebox"]),
    .library(name: "Agent", targets: ["Agent"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
  ],
  targets: [
    // C libraries, one importer each.
    .target(name: "CLinux"),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CLibSSL", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
    .systemLibrary(name: "CSecp256k1", pkgConfig: "libsecp256k1", providers: [.apt(["libsecp256k1-dev"])]),
    .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CBrotli", pkgConfig: "libbrotlidec", providers: [.apt(["libbrotli-dev"])]),
    .systemLibrary(name: "CZstandard", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
    .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),

    // 1: values.
    module("Bytes"),
    module("Encoding", ["Bytes"]),
    module("Crypto", ["Bytes", "Encoding", "COpenSSL", "CSodium", "CSecp256k1"]),

    // 2: protocols, without I/O.
    module("HTTP", ["Bytes", "Encoding"]),
    module("Ethereum", ["Bytes", "Encoding", "Crypto"]),
    module("Usage", ["Bytes", "Encoding"]),
    module("Coding", ["Bytes", "CZlib", "CBrotli", "CZstandard"]),
    module("TLS", ["Bytes", "Encoding", "Crypto", "CLibSSL"]),
    module("HTTP2", ["Bytes", "HTTP", "CNghttp2"]),
    module("Payments", ["Bytes", "Encoding", "Crypto", "Ethereum", "HTTP"]),
    module("Metering", ["Bytes", "Encoding", "Crypto", "Payments"]),
    module("MCP", ["Bytes", "Encoding", "Payments", "Metering"]),
    module("Methods", ["Bytes", "Encoding", "Crypto", "Ethereum", "HTTP", "Payments", "Metering"]),
    module("Gateway", ["Bytes", "Encoding", "HTTP", "Payments", "Metering"]),
    module(
      "Configuration",
      ["Bytes", "Encoding", "Ethereum", "HTTP", "TLS", "Payments", "Metering", "MCP", "Gateway", .product(name: "TOMLKit", package: "TOMLKit")]),

    // 3: the outside world.
    module("IO", ["Bytes", "CLinux"]),
    module("Ledger", ["Bytes", "Encoding", "Crypto", "HTTP", "Payments", "Metering", "Methods", "IO", "CSQLite"]),

    // 4: composition.
    module(
      "Proxy",
      [
        "Bytes", "Encoding", "Crypto", "HTTP", "HTTP2", "TLS", "Ethereum", "Payments", "Metering", "MCP", "Methods", "Gateway", "Configuration", "Coding", "Usage", "IO",
        "Ledger",
      ]),
    module("Agent", ["Bytes", "Encoding", "Crypto", "Ethereum", "HTTP", "TLS", "Usage", "Payments", "Metering", "Methods"]),
    .executableTarget(
      name: "farebox",
      dependencies: ["Proxy", "Agent", "Configuration", "Ethereum", "TLS", "Ledger", "Payments", "Methods", "Metering", "HTTP", "Encoding", "Crypto", "Bytes", argumentParser],
      swiftSettings: settings),

    tests("BytesTests", ["Bytes"]),
    tests("EncodingTests", ["Encoding", "Bytes"]),
    tests("CryptoTests", ["Crypto", "Encoding", "Bytes"]),
    tests("EthereumTests", ["Ethereum", "Crypto", "Encoding", "Bytes"], exclude: ["vectors.py"]),
    tests("HTTPTests", ["HTTP", "Encoding", "Bytes"]),
    tests("UsageTests", ["Usage", "Encoding", "Bytes"]),
    tests("CodingTests", ["Coding", "CZlib", "CBrotli", "CZstandard", "Bytes"]),
    tests("TLSTests", ["TLS", "CLibSSL", "Crypto", "Encoding", "Bytes"]),
    tests("HTTP2Tests", ["HTTP2", "HTTP", "Bytes"]),
    tests("PaymentsTests", ["Payments", "Ethereum", "Crypto", "Encoding", "Bytes", "HTTP"]),
    tests("MeteringTests", ["Metering", "Payments", "Encoding", "Bytes"]),
    tests("MCPTests", ["MCP", "Payments", "Crypto", "Encoding", "Bytes"]),
    tests(
      "MethodsTests", ["Methods", "Ethereum", "Payments", "Metering", "Crypto", "Encoding", "Bytes", "HTTP"],
      exclude: ["EVM/Session/session_vectors.py"]),
    tests("GatewayTests", ["Gateway", "HTTP", "Payments", "Metering", "Encoding", "Bytes"]),
    tests("ConfigurationTests", ["Configuration", "Ethereum", "TLS", "Encoding", "Bytes", "Gateway", "Metering", "Payments"]),
    tests("IOTests", ["IO", "Bytes"]),
    tests("LedgerTests", ["Ledger", "IO", "HTTP", "Methods", "Payments", "Metering", "Crypto", "Encoding", "Bytes"]),
    tests("ProxyTests", ["Proxy", "MCP", "HTTP2", "TLS", "Ethereum", "Configuration", "Gateway", "Ledger", "IO", "HTTP", "Payments", "Methods", "Metering", "Crypto", "Encoding", "Bytes"]),
    tests("AgentTests", ["Agent", "Configuration", "Ethereum", "TLS", "Usage", "Methods", "Metering", "Payments", "Crypto", "Encoding", "HTTP", "Bytes"]),
    tests("FuzzTests", fuzzed, exclude: ["Fuzzer.swift"]),
    tests("TidyTests", []),
  ],
  swiftLanguageModes: [.v6]
)

// `scripts/fuzz --coverage` builds the same properties with libFuzzer around them; nobody else builds that.
if Context.environment["FAREBOX_LIBFUZZER"] != nil {
  package.targets.removeAll { $0.type == .test }
  package.targets.append(
    .executableTarget(
      name: "fuzzer", dependencies: fuzzed, path: "Tests/FuzzTests", exclude: ["Mutation.swift", "PropertyFuzzTests.swift", "SessionFuzzTests.swift"],
      swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])]))
}
