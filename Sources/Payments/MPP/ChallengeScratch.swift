import Bytes

/// Room that printing reuses; one per loop.
public struct ChallengeScratch: ~Copyable {
  var resource = ByteBuffer()
  var opaque = ByteBuffer()
  var expires = ByteBuffer()
  var digest = ByteBuffer()
  var json = ByteBuffer()
  var request = ByteBuffer()
  var binding = ByteBuffer()
  var firstID = ByteBuffer()
  var claims = ByteBuffer()
  var invoice = ByteBuffer()
  var signature = ByteBuffer()

  public init() {}
}
