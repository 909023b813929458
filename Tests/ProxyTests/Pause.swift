import Glibc

/// Lets time pass where a test waits for another thread.
enum Pause {
  static func milliseconds(_ count: UInt32) { usleep(count * 1000) }
}
