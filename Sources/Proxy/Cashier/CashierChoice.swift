import Bytes
import Configuration
import Encoding
import Gateway
import HTTP
import Payments
import Usage

// Which of a route's prices a request has, where there are several.
extension Cashier {
  /// What was chosen.
  enum Choice {
    /// The price of the priced route at this place.
    case route(RouteIndex)
    case free
    /// The content decides: it has to be collected first.
    case collect(limit: Int)
    case answer(Answer)
  }

  /// Chooses the price of a request on the route at `index`.
  mutating func choose(_ request: borrowing PaidRequest, _ index: RouteIndex, at now: Timestamp) -> Choice {
    guard let table = variants[Int(index)] else { return .route(index) }
    if case .none = request.content, let place = table.anySold, manages(request) { return .route(place) }
    switch table.selector {
    case .none, .mcp: return .route(index)
    case .member(let name): return chooseByMember(request, index, table, name)
    }
  }

  /// Chooses by a member of the JSON object that the content is.
  private mutating func chooseByMember(
    _ request: borrowing PaidRequest, _ index: RouteIndex, _ table: VariantTable, _ name: String
  ) -> Choice {
    if table.readsPath, let model = Self.model(inPath: request.path, table.format) { return choice(table.find(model), name) }
    guard let paths = table.paths else { return .route(index) }
    switch request.content {
    case .none: return choice(table.other, name)
    case .streaming:
      if let refused = refusedUnread(request, index) { return .answer(refused) }
      return .collect(limit: table.bodyLimit)
    case .buffered(let octets):
      guard !request.head.pointee.present.has(.contentEncoding) else {
        return .answer(problem(.badRequest, detail: "The content is compressed: the member \(name) decides over the price and cannot be read."))
      }
      do throws(UsageError) {
        switch try MemberReading(octets.bytes, paths) {
        case .text(let value): return choice(table.find(value), name)
        case .absent: return choice(table.other, name)
        case .ambiguous:
          return .answer(problem(.badRequest, detail: "The member \(name) decides over the price: it has to be one string, once, in this spelling."))
        }
      } catch {
        return .answer(problem(.badRequest, detail: "The content is not the JSON object whose member \(name) decides over the price."))
      }
    }
  }

  private func choice(_ match: VariantTable.Match, _ name: String) -> Choice {
    switch match {
    case .priced(let place): .route(place)
    case .free: .free
    case .none: .answer(problem(.notSold, members: ["member": .string(name)]))
    }
  }

  /// The model that the path names, where requests of its format have it there.
  private static func model(inPath path: UnsafeRawBufferPointer, _ format: UsageFormat?) -> String? {
    switch format ?? UsageFormat(path: path.bytes) {
    case .gemini, .anthropic: UsageFormat.model(inPath: path.bytes)
    case .openAIChat, .openAIResponses, .openAIEmbeddings, .ollama, .llamaCpp, nil: nil
    }
  }

  /// Content is only kept for clients that have not come too often: an answer is given, or a credential looked at, in any case.
  mutating func refusedUnread(_ request: borrowing PaidRequest, _ index: RouteIndex) -> Answer? {
    guard isSelling else { return unavailable() }
    if case .none = PresentedCredential(request.octets, request.head) {
      switch admission.challenge(request.client, at: request.monotonic) {
      case .admitted: return nil
      case .refused(let seconds): return problem(.rateLimited, retryAfter: seconds)
      }
    }
    return refusedByRate(request, index)
  }
}
