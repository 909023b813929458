import Encoding
import Synchronization
import Testing

@testable import Ledger

/// Tasks that wait for the disk: woken by who publishes, never before, and never forgotten.
struct DurabilityWaitsTests {
  /// What has become of entries, as a test sets it.
  private final class Fates: Sendable {
    private let state = Mutex((durable: LSN(0), epoch: UInt32(1)))

    func reach(_ lsn: LSN) { state.withLock { $0.durable = lsn } }
    func begin(epoch: UInt32) { state.withLock { $0.epoch = epoch } }
    func look(_ lsn: LSN, _ epoch: UInt32) -> Ledger.Durability {
      state.withLock { $0.epoch != epoch ? .void : $0.durable >= lsn ? .durable : .pending }
    }
  }

  private let waits = DurabilityWaits()
  private let fates = Fates()

  private func wait(for lsn: LSN, until end: Instant = .now() + .seconds(600)) -> Task<Bool, Never> {
    Task { [waits, fates] in await waits.wait(for: lsn, epoch: 1, until: end) { fates.look($0, $1) } }
  }

  private func untilSomebodyWaits() async throws {
    while waits.isEmpty { try await Task.sleep(for: .milliseconds(1)) }
  }

  @Test(.timeLimit(.minutes(1))) func wakesThoseWhoseEntryIsDurableAndNobodyElse() async throws {
    let (first, second) = (wait(for: 5), wait(for: 9))
    try await untilSomebodyWaits()
    fates.reach(5)
    waits.wake { fates.look($0, $1) }
    #expect(await first.value)
    try await untilSomebodyWaits()
    #expect(waits.wake { fates.look($0, $1) }, "the second goes on waiting")
    fates.reach(9)
    #expect(!waits.wake { fates.look($0, $1) })
    #expect(await second.value)
    #expect(waits.isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func aNewEpochVoidsWhatWaits() async throws {
    let task = wait(for: 5)
    try await untilSomebodyWaits()
    fates.begin(epoch: 2)
    waits.wake { fates.look($0, $1) }
    #expect(await !task.value)
    #expect(waits.isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func whatWasPublishedBeforeTheWaitIsSeen() async {
    fates.reach(5)
    #expect(await wait(for: 5).value)
    #expect(waits.isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func cancelledAndLateWaitsEnd() async throws {
    let cancelled = wait(for: 5)
    try await untilSomebodyWaits()
    cancelled.cancel()
    #expect(await !cancelled.value)
    #expect(await !wait(for: 5, until: .now()).value, "found late by the round that looks for such")
    let early = Task { [waits, fates] in
      withUnsafeCurrentTask { $0?.cancel() }
      return await waits.wait(for: 5, epoch: 1, until: .now() + .seconds(600)) { fates.look($0, $1) }
    }
    #expect(await !early.value)
    #expect(waits.isEmpty)
  }

  @Test(.timeLimit(.minutes(1))) func theEndOfTheLedgerAnswersEverybody() async throws {
    let tasks = (1...3).map { wait(for: LSN($0)) }
    try await untilSomebodyWaits()
    // The others may begin to wait later.
    while true {
      waits.abandon()
      if waits.isEmpty { break }
    }
    fates.reach(9)
    for task in tasks { _ = await task.value }
    #expect(waits.isEmpty)
  }

  /// Many wait while entries become durable as fast as they can: each is woken, by a publication or by its own last look.
  @Test(.timeLimit(.minutes(1))) func nobodyIsMissedInTheRace() async {
    await withTaskGroup(of: Bool.self) { group in
      for number in 1...2_000 {
        group.addTask { [waits, fates] in
          await waits.wait(for: LSN(number), epoch: 1, until: .now() + .seconds(600)) { fates.look($0, $1) }
        }
      }
      group.addTask { [waits, fates] in
        for number in 1...2_000 {
          fates.reach(LSN(number))
          waits.wake { fates.look($0, $1) }
        }
        return true
      }
      for await isDurable in group { #expect(isDurable) }
    }
    #expect(waits.isEmpty)
  }
}
