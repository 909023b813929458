internal import CSodium

/// Prepares libsodium.
public enum Sodium {
  private static let isReady: Bool = sodium_init() >= 0

  /// Prepares libsodium once, from whatever thread; every use of it in this module does so by itself.
  ///
  /// Stops the process where the system gives no entropy: nothing that follows could be safe.
  public static func initialize() {
    precondition(isReady, "libsodium found no source of entropy")
  }
}
