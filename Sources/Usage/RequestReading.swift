/// What a request to a model server asks for, read from its body without building a tree.
public struct RequestReading: Sendable {
  /// The most octets of a body that is read.
  public static let bodyLimit = 64 << 20

  /// The format in which the body was read.
  public let format: UsageFormat
  /// The model that is asked for, nil where none is named or its name is longer than `JSONPassage.textLimit`.
  public private(set) var model: String?
  /// Whether a stream is asked for.
  public private(set) var isStream = false
  /// Whether `stream_options.include_usage` is there and true.
  public private(set) var includesUsage = false
  /// The output tokens that one completion is limited to; nil where there is no limit. Of several limits it is the largest, for
  /// servers differ in which they obey.
  public private(set) var completionLimit: UInt64?
  /// How many completions are asked for, every prompt's candidates included; at least one.
  public private(set) var completions: UInt64 = 1
  /// The octets of input: messages, system, tools, prompts and schemas, as UTF-8 without escapes and white space between values.
  public private(set) var contentOctets: UInt64 = 0
  /// The octets of encoded images, sounds and files, or of their addresses; they are not part of `contentOctets`.
  public private(set) var mediaOctets: UInt64 = 0
  /// How many images, sounds and files there are.
  public private(set) var mediaCount: UInt64 = 0
  /// Whether the input has a part that is kept at the vendor's (an earlier response, a cache), whose size the body does not tell.
  public private(set) var refersToStoredInput = false
  /// Whether servers may read the request differently from this reading: a member that decides over model, stream or limits is there
  /// twice, or in a case of letters that only some servers take.
  public private(set) var isAmbiguous = false

  /// Whether the answer comes later and elsewhere (`background` of OpenAI's responses), and its usage with it.
  public private(set) var isBackground = false

  /// The change of the body by which usage is included in a stream; nil where none is needed, possible, or safe.
  public private(set) var includeUsage: IncludeUsage?

  private var hasUnlimited = false
  private var seen: UInt32 = 0

  /// The most output tokens that the whole response may have, saturated; nil where there is no limit.
  public var outputLimit: UInt64? {
    completionLimit.map {
      let (product, overflows) = $0.multipliedReportingOverflow(by: completions)
      return overflows ? .max : product
    }
  }

  /// Reads a body.
  ///
  /// - Parameters:
  ///   - path: is the request's path, where some formats name the model, and whether a stream is asked for.
  /// - Throws: `UsageError` where the body is too large, not JSON, or not an object.
  public init(_ body: RawSpan, format: UsageFormat, path: RawSpan = RawSpan()) throws(UsageError) {
    self.format = format
    guard body.byteCount <= Self.bodyLimit else { throw .tooLarge }
    startFromPath(path)
    var passage = JSONPassage(format.requestPaths)
    var place = IncludeUsage.Place()
    try read(body, &passage, &place)
    completions = max(1, completions)
    let prompts = passage.contentStrings[Int(RequestContent.prompt)] &+ passage.contentContainers[Int(RequestContent.prompt)]
    if prompts > 1 {
      let (product, overflows) = completions.multipliedReportingOverflow(by: prompts)
      completions = overflows ? .max : product
    }
    if hasUnlimited { completionLimit = nil }
    // Ollama itself is known to take names in any case.
    if passage.inexactNames > 0, format != .ollama { isAmbiguous = true }
    contentOctets = passage.contentOctets[Int(RequestContent.text)] &+ passage.contentOctets[Int(RequestContent.prompt)]
    mediaOctets = passage.contentOctets[Int(RequestContent.media)]
    mediaCount = passage.contentStrings[Int(RequestContent.media)]
    if format.takesIncludeUsage, isStream, !includesUsage, !isAmbiguous { includeUsage = IncludeUsage(at: place, in: body) }
  }

  private mutating func startFromPath(_ path: RawSpan) {
    switch format {
    case .gemini:
      model = UsageFormat.model(inPath: path)
      isStream = PathTail(path).method(is: "streamGenerateContent")
    case .ollama:
      // A stream is what Ollama answers with unless it is told otherwise.
      isStream = !PathTail(path).lastStep(is: "embed")
    case .openAIChat, .openAIResponses, .openAIEmbeddings, .anthropic, .llamaCpp: break
    }
  }

  private mutating func read(_ body: RawSpan, _ passage: inout JSONPassage, _ place: inout IncludeUsage.Place) throws(UsageError) {
    var index = 0
    var isObject = false
    while true {
      switch passage.next(in: body, at: &index, before: body.byteCount) {
      case .needsMore:
        guard passage.isComplete else { throw passage.isWrong ? .unexpectedOctet(offset: index) : .unexpectedEnd }
        guard isObject else { throw .notAnObject }
        return
      case .wrong(.unexpectedOctet): throw .unexpectedOctet(offset: max(0, index - 1))
      case .wrong(.tooDeep): throw .tooDeep(offset: max(0, index - 1))
      case .number(let field, let number):
        take(field, number)
        if Self.isOption(field) { place.isForeign = true }
      case .text(let field):
        take(field, passage)
        if Self.isOption(field) { place.isForeign = true }
      case .boolean(let field, let value): take(field, value, endingAt: index, &place)
      case .null(let field): takeNull(field, endingAt: index, &place)
      case .opened(let field):
        if field == RequestField.root.rawValue {
          isObject = body.octet(index - 1) == UInt8(ascii: "{")
          place.root = index
        } else {
          open(field, at: index, isObject: body.octet(index - 1) == UInt8(ascii: "{"), &place)
        }
      case .closed: break
      }
    }
  }

  /// Whether the field is one of the two that must be an object and a boolean; anything else is the server's to refuse.
  private static func isOption(_ field: UInt8) -> Bool {
    field == RequestField.streamOptions.rawValue || field == RequestField.includeUsage.rawValue
  }

  /// Notes that a member has come, and whether it came before.
  private mutating func note(_ field: UInt8) {
    let bit: UInt32 = 1 << UInt32(field)
    if seen & bit != 0 { isAmbiguous = true }
    seen |= bit
  }

  private mutating func take(_ field: UInt8, _ number: JSONPassage.Number) {
    note(field)
    switch RequestField(rawValue: field) {
    case .limit, .limitAlias, .limitSecondAlias:
      switch number {
      // Zero is a limit to some servers, and the absence of one to others.
      case .whole(0): hasUnlimited = true
      case .whole(let count): completionLimit = max(completionLimit ?? 0, count)
      // Below zero means without limit where it means anything; what is no count is the server's to refuse.
      case .negative, .fraction, .tooLarge: hasUnlimited = true
      }
    case .choices, .choicesAlias:
      switch number {
      case .whole(let count): completions = max(completions, count)
      case .tooLarge: completions = .max
      case .negative, .fraction: break
      }
    case .stream: isStream = number != .whole(0)
    case .background: isBackground = number != .whole(0)
    case .root, .model, .streamOptions, .includeUsage, .stored, .storedAlias, nil: break
    }
  }

  private mutating func take(_ field: UInt8, _ passage: JSONPassage) {
    note(field)
    switch RequestField(rawValue: field) {
    case .model: model = passage.isTextWhole ? String(decoding: passage.text, as: UTF8.self) : nil
    case .stored, .storedAlias: refersToStoredInput = true
    // Lenient servers take texts for numbers and booleans: what they make of them is not known here.
    case .stream: isStream = true
    case .background: isBackground = true
    case .limit, .limitAlias, .limitSecondAlias: hasUnlimited = true
    case .choices, .choicesAlias: isAmbiguous = true
    case .root, .streamOptions, .includeUsage, nil: break
    }
  }

  private mutating func take(_ field: UInt8, _ value: Bool, endingAt index: Int, _ place: inout IncludeUsage.Place) {
    note(field)
    switch RequestField(rawValue: field) {
    case .stream: isStream = value
    case .background: isBackground = value
    case .includeUsage:
      includesUsage = value
      if !value { place.value = index - 5..<index }
    case .root, .model, .streamOptions, .limit, .limitAlias, .limitSecondAlias, .choices, .choicesAlias, .stored, .storedAlias, nil: break
    }
  }

  private mutating func takeNull(_ field: UInt8, endingAt index: Int, _ place: inout IncludeUsage.Place) {
    note(field)
    switch RequestField(rawValue: field) {
    case .streamOptions: place.nullOptions = index - 4..<index
    case .includeUsage: place.value = index - 4..<index
    case .root, .model, .stream, .limit, .limitAlias, .limitSecondAlias, .choices, .choicesAlias, .stored, .storedAlias, .background, nil: break
    }
  }

  private mutating func open(_ field: UInt8, at index: Int, isObject: Bool, _ place: inout IncludeUsage.Place) {
    note(field)
    switch RequestField(rawValue: field) {
    case .streamOptions: if isObject { place.options = index } else { place.isForeign = true }
    case .includeUsage: place.isForeign = true
    case .stored, .storedAlias: refersToStoredInput = true
    case .root, .model, .stream, .limit, .limitAlias, .limitSecondAlias, .choices, .choicesAlias, .background, nil: break
    }
  }
}
