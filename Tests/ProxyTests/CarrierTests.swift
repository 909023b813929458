import Testing

/// What the relay does for a client that speaks HTTP/1.1 on a bare socket, it does alike over TLS and HTTP/2.
@Suite(.timeLimit(.minutes(4))) struct CarrierTests {
  /// A behaviour that has a test of its own.
  struct Behaviour: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let run: @Sendable () throws -> Void

    init(_ name: String, _ run: @escaping @Sendable () throws -> Void) {
      testDescription = name
      self.run = run
    }
  }

  private static let carriers = Carrier.allCases.filter { $0 != .plain }

  private static let passing: [Behaviour] = [
    Behaviour("passesChunkedContentAndTrailersBothWays") { try RelayTests().passesChunkedContentAndTrailersBothWays() },
    Behaviour("largeContentPassesUnchangedBothWays") { try RelayTests().largeContentPassesUnchangedBothWays() },
    Behaviour("aStalledReaderStopsTheUpstream") { try RelayTests().aStalledReaderStopsTheUpstream() },
    Behaviour("headAnd204And304HaveNoContent") { try RelayTests().headAnd204And304HaveNoContent() },
    Behaviour("interimResponsesPass") { try RelayTests().interimResponsesPass() },
    Behaviour("unknownPathsAndMethodsAreRefused") { try RelayTests().unknownPathsAndMethodsAreRefused() },
    Behaviour("prefixesAreExchangedAndFieldsInjected") { try RelayTests().prefixesAreExchangedAndFieldsInjected() },
    Behaviour("probesAnswerWithoutAnUpstream") { try RelayTests().probesAnswerWithoutAnUpstream() },
  ]

  private static let failing: [Behaviour] = [
    Behaviour("anUnreachableUpstreamIs502") { try RelayFailureTests().anUnreachableUpstreamIs502() },
    Behaviour("anUpstreamThatFailsIsNoticedOnceAndSoIsItsReturn") { try RelayFailureTests().anUpstreamThatFailsIsNoticedOnceAndSoIsItsReturn() },
    Behaviour("aSilentUpstreamIs504") { try RelayFailureTests().aSilentUpstreamIs504() },
    Behaviour("aSafeRequestOnADeadReusedConnectionIsSentAgain") { try RelayFailureTests().aSafeRequestOnADeadReusedConnectionIsSentAgain() },
    Behaviour("anUnsafeRequestIsNotSentAgain") { try RelayFailureTests().anUnsafeRequestIsNotSentAgain() },
    Behaviour("aNewConnectionThatDiesIsNotTriedAgain") { try RelayFailureTests().aNewConnectionThatDiesIsNotTriedAgain() },
    Behaviour("anEarlyRefusalIsPassedOnThoughTheUpstreamCloses") { try RelayFailureTests().anEarlyRefusalIsPassedOnThoughTheUpstreamCloses() },
    Behaviour("octetsBehindAResponseReachNobody") { try RelayFailureTests().octetsBehindAResponseReachNobody() },
    Behaviour("requestsWaitForAFullPool") { try RelayFailureTests().requestsWaitForAFullPool() },
    Behaviour("slowContentIs408") { try RelayFailureTests().slowContentIs408() },
    Behaviour("contentThatTricklesIs408") { try RelayFailureTests().contentThatTricklesIs408() },
    Behaviour("limitsAnswerWithTheirStatus") { try RelayFailureTests().limitsAnswerWithTheirStatus() },
    Behaviour("anUnreadRequestContentIsSkippedOrEndsTheConnection") { try RelayFailureTests().anUnreadRequestContentIsSkippedOrEndsTheConnection() },
    Behaviour("aClientThatLeavesFreesTheUpstream") { try RelayFailureTests().aClientThatLeavesFreesTheUpstream() },
    Behaviour("drainingFinishesWhatRuns") { try RelayFailureTests().drainingFinishesWhatRuns() },
    Behaviour("stoppingEndsEverythingAtOnce") { try RelayFailureTests().stoppingEndsEverythingAtOnce() },
    Behaviour("manyClientsAtOnceAreServed") { try RelayFailureTests().manyClientsAtOnceAreServed() },
    Behaviour("connectionsOfAClientAreLimited") { try RelayFailureTests().connectionsOfAClientAreLimited() },
    Behaviour("idleConnectionsAreClosed") { try RelayFailureTests().idleConnectionsAreClosed() },
  ]

  private static let paying: [Behaviour] = [
    Behaviour("aChargePaysOnceAndOnlyOnce") { try PaidRelayTests().aChargePaysOnceAndOnlyOnce() },
    Behaviour("concurrentUsesOfOneCredentialServeOnce") { try PaidRelayTests().concurrentUsesOfOneCredentialServeOnce() },
    Behaviour("aFailedUpstreamCostsNothing") { try PaidRelayTests().aFailedUpstreamCostsNothing() },
    Behaviour("aBudgetForAHundredServesAHundred") { try PaidRelayTests().aBudgetForAHundredServesAHundred() },
    Behaviour("meteredContentStopsWhereTheBudgetEndsAndGoesOnAfterATopUp") { try PaidRelayTests().meteredContentStopsWhereTheBudgetEndsAndGoesOnAfterATopUp() },
    Behaviour("aDryStreamIsCutAfterTheHoldTimeout") { try PaidRelayTests().aDryStreamIsCutAfterTheHoldTimeout() },
    Behaviour("eventStreamsAreToldAndNeverCutInside") { try PaidRelayTests().eventStreamsAreToldAndNeverCutInside() },
    Behaviour("aClosedSessionStopsItsStream") { try PaidRelayTests().aClosedSessionStopsItsStream() },
    Behaviour("aClientThatLeavesPaysWhatTheMethodSays") { try PaidRelayTests().aClientThatLeavesPaysWhatTheMethodSays() },
    Behaviour("anIdempotentRequestIsAnsweredFromWhatWasStored") { try PaidRelayTests().anIdempotentRequestIsAnsweredFromWhatWasStored() },
    Behaviour("requestContentIsMeteredToo") { try PaidRelayTests().requestContentIsMeteredToo() },
    Behaviour("contentIsCollectedForItsDigest") { try PaidRelayTests().contentIsCollectedForItsDigest() },
  ]

  private static let hardened: [Behaviour] = [
    Behaviour("anUpstreamThatWantsPaymentCostsNothingAndInvitesNobodyToPay") { try PaidRelayHardeningTests().anUpstreamThatWantsPaymentCostsNothingAndInvitesNobodyToPay() },
    Behaviour("onlyOneSideSaysWhichPagesMayRead") { try PaidRelayHardeningTests().onlyOneSideSaysWhichPagesMayRead() },
    Behaviour("anUploadThatRunsDryIsPaidAsFarAsItWent") { try PaidRelayEndingTests().anUploadThatRunsDryIsPaidAsFarAsItWent() },
  ]

  /// The translator's own limits, ways and spelling would be seen in these.
  private static let others: Set<String> = [
    "unknownPathsAndMethodsAreRefused", "probesAnswerWithoutAnUpstream", "prefixesAreExchangedAndFieldsInjected",
    "aFailedUpstreamCostsNothing", "requestContentIsMeteredToo", "contentIsCollectedForItsDigest",
  ]
  private static let askedAlike = (passing + paying).filter { !others.contains($0.testDescription) }

  @Test(arguments: carriers, askedAlike) func asksAlike(carrier: Carrier, behaviour: Behaviour) throws {
    try Carrier.$upstream.withValue(carrier) { try behaviour.run() }
  }

  /// HTTP/2 on both sides, as gRPC needs it.
  @Test(arguments: passing.filter { !others.contains($0.testDescription) }) func passesAlikeBetweenSessions(behaviour: Behaviour) throws {
    try Carrier.$current.withValue(.h2c) { try Carrier.$upstream.withValue(.h2c) { try behaviour.run() } }
  }

  @Test(arguments: carriers, passing) func passesAlike(carrier: Carrier, behaviour: Behaviour) throws {
    try Carrier.$current.withValue(carrier) { try behaviour.run() }
  }

  @Test(arguments: carriers, failing) func failsAlike(carrier: Carrier, behaviour: Behaviour) throws {
    try Carrier.$current.withValue(carrier) { try behaviour.run() }
  }

  @Test(arguments: carriers, paying) func isPaidAlike(carrier: Carrier, behaviour: Behaviour) throws {
    try Carrier.$current.withValue(carrier) { try behaviour.run() }
  }

  @Test(arguments: carriers, hardened) func isHardAlike(carrier: Carrier, behaviour: Behaviour) throws {
    try Carrier.$current.withValue(carrier) { try behaviour.run() }
  }
}
