extension String {
  /// Whether two texts are the same octet by octet.
  ///
  /// Swift's `==` also equates what Unicode calls canonically equivalent, such as K and the Kelvin sign; names and values that are
  /// signed, matched or paid for must be compared by this instead.
  public func hasSameOctets(as other: String) -> Bool {
    utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
  }
}
