import Bytes
import Encoding

/// Writes the members of a receipt around its `resource`, in JCS order.
struct ReceiptWriter {
  let method: String
  let intent: String
  let reference: String
  let challengeID: String
  let currency: String
  let recipient: String

  func begin(amount: UInt128, chainID: UInt64? = nil, kid: String?, log: Receipt.LogPosition?, remaining: UInt128?, to out: inout ByteBuffer) {
    out.append("{\"amount\":\"" as StaticString)
    out.append(decimal: amount)
    out.append(byte: 0x22)
    if let chainID {
      out.append(",\"chainId\":" as StaticString)
      out.append(decimal: chainID)
    }
    out.append(",\"challengeId\":" as StaticString)
    JCS.append(string: challengeID, to: &out)
    out.append(",\"currency\":" as StaticString)
    JCS.append(string: currency, to: &out)
    out.append(",\"intent\":" as StaticString)
    JCS.append(string: intent, to: &out)
    if let kid {
      out.append(",\"kid\":" as StaticString)
      JCS.append(string: kid, to: &out)
    }
    if let log {
      out.append(",\"logRoot\":\"" as StaticString)
      out.append(log.root.hex)
      out.append("\",\"logSize\":\"" as StaticString)
      out.append(decimal: log.size)
      out.append(byte: 0x22)
    }
    out.append(",\"method\":" as StaticString)
    JCS.append(string: method, to: &out)
    out.append(",\"recipient\":" as StaticString)
    JCS.append(string: recipient, to: &out)
    out.append(",\"reference\":" as StaticString)
    JCS.append(string: reference, to: &out)
    if let remaining {
      out.append(",\"remaining\":\"" as StaticString)
      out.append(decimal: remaining)
      out.append(byte: 0x22)
    }
  }

  func end(session: Receipt.Session?, signature: String?, timestamp: Timestamp, to out: inout ByteBuffer) {
    if let session {
      out.append(",\"sessionId\":" as StaticString)
      JCS.append(string: session.id, to: &out)
    }
    if let signature {
      out.append(",\"sig\":\"" as StaticString)
      out.append(signature)
      out.append(byte: 0x22)
    }
    if let session {
      out.append(",\"spent\":\"" as StaticString)
      out.append(decimal: session.spent)
      out.append(byte: 0x22)
    }
    out.append(",\"status\":\"success\",\"timestamp\":\"" as StaticString)
    timestamp.append(rfc3339: &out)
    if let session {
      out.append("\",\"units\":\"" as StaticString)
      out.append(decimal: session.units)
    }
    out.append("\"}" as StaticString)
  }
}
