import Bytes
import Encoding

/// The constant octets of a requirement of version 1, before and behind the resource's URL.
struct PreparedRequirementsV1: Sendable {
  let prefix: [UInt8]
  let suffix: [UInt8]

  /// Prepares a requirement; nil where version 1 has no words for it.
  init?(_ requirements: PaymentRequirements, info: ResourceInfo) {
    guard requirements.scheme == .exact, requirements.assetTransferMethod == .eip3009, let name = requirements.network.name
    else { return nil }
    var out = ByteBuffer()
    out.append("{\"scheme\":\"exact\",\"network\":\"" as StaticString)
    out.append(name)
    out.append("\",\"maxAmountRequired\":\"" as StaticString)
    out.append(decimal: requirements.amount)
    out.append("\",\"resource\":\"" as StaticString)
    prefix = out.array()
    out.removeAll()
    out.append("\",\"description\":" as StaticString)
    JCS.append(string: info.description ?? "", to: &out)
    out.append(",\"mimeType\":" as StaticString)
    JCS.append(string: info.mimeType ?? "", to: &out)
    requirements.appendRest(to: &out)
    out.append(byte: 0x7D)
    suffix = out.array()
  }

  /// Appends the object around the URL, which is escaped already as far as it needs to be.
  func append(url: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
    out.append(prefix)
    out.appendEscaped(url)
    out.append(suffix)
  }
}
