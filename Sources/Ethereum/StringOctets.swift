extension String {
  /// Calls `body` with the text's UTF-8, and throws what it throws; the standard library's own way forgets the error's type.
  func withOctets<R>(_ body: (UnsafeRawBufferPointer) throws(EthereumError) -> R) throws(EthereumError) -> R {
    var text = self
    let result: Result<R, EthereumError> = text.withUTF8 { octets in
      do throws(EthereumError) {
        return .success(try body(UnsafeRawBufferPointer(octets)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
