/// Names the rule that octets or a text of Ethereum's break.
public enum EthereumError: Error, Hashable, Sendable {
  /// A text is not `0x` and an even number of hexadecimal digits, or not as many as are needed.
  case malformedHexadecimal
  /// An address is not `0x` and 40 hexadecimal digits.
  case malformedAddress
  /// An address has letters of both cases that are not the checksum of EIP-55.
  case addressChecksumMismatch
  /// A number is greater than its type holds.
  case numberTooLarge
  /// A signature has neither 65 octets nor the 64 of EIP-2098, or its last octet is none of 0, 1, 27 and 28.
  case malformedSignature
  /// A scalar of a signature is zero, or not less than the order of the group.
  case signatureOutOfRange
  /// A signature's s is above half the order of the group.
  case signatureHighS
  /// No key belongs to a signature.
  case signatureOfNobody
  /// A key file is not 64 hexadecimal digits with or without `0x` before and one line feed after them.
  case malformedKeyFile
  /// A secret key is zero, or not less than the order of the group.
  case keyOutOfRange
  /// An account is not `did:pkh:eip155:`, a chain and an address; or a chain is not `eip155:` and a number.
  case malformedAccount
  /// RLP breaks a rule of its own.
  case rlp(RLPRule, offset: Int)
  /// A field of an RLP list, counted from zero, breaks a rule of its type.
  case rlpField(RLPRule, index: Int)
  /// ABI data breaks a rule of the encoding.
  case abi(ABIRule, offset: Int)
  /// A transaction breaks a rule of its kind.
  case transaction(TransactionRule)
  /// An answer of an endpoint breaks a rule of JSON-RPC, or is not what was asked for.
  case reply(ReplyRule)

  /// Names the rule of RLP that octets break.
  public enum RLPRule: Hashable, Sendable {
    /// The octets end inside an item.
    case unexpectedEnd
    /// A length or a single octet has a shorter spelling.
    case notCanonical
    /// Something follows the item.
    case trailingOctets
    /// Lists are nested deeper than the limit.
    case tooDeep
    /// There are more octets or items than the limits allow.
    case tooLarge
    /// A list stands where octets must, or the other way round.
    case wrongKind
    /// A number has a leading zero.
    case leadingZero
    /// A number or an octet string has another size than its field.
    case wrongSize
    /// A list has fewer or more items than its kind has fields.
    case wrongCount
  }

  /// Names the rule of the ABI that data breaks.
  public enum ABIRule: Hashable, Sendable {
    /// The data ends inside a value.
    case unexpectedEnd
    /// An offset or a length points past the data or the limits.
    case outOfBounds
    /// A value has set bits where its type has none.
    case dirtyPadding
    /// A part does not lie where the one canonical encoding puts it.
    case notCanonical
    /// A string is not UTF-8.
    case malformedUTF8
    /// The call is of another function.
    case wrongSelector
    /// The values are not those of the function's types.
    case wrongTypes
    /// There are more values or levels than the limits allow.
    case tooLarge
  }

  /// Names the rule that a transaction breaks.
  public enum TransactionRule: Hashable, Sendable {
    /// The envelope's type is not one of those that are read here.
    case unknownType
    /// The chain is another one.
    case wrongChain
    /// The gas limit is below what the transaction costs before it runs.
    case gasTooLow
    /// The nonce is the greatest, with which no transaction is valid (EIP-2681).
    case nonceTooLarge
    /// The priority fee is above the whole fee.
    case priorityAboveFee
    /// A Tempo transaction has no call.
    case noCalls
    /// A Tempo transaction's window ends where it begins or before.
    case emptyWindow
    /// The signature is not of a kind that is read here.
    case unknownSignature
    /// The fee payer has signed already, or is none to be.
    case notAwaitingFeePayer
    /// The sender that an envelope names is not the one that signed it.
    case wrongSender
    /// A fee token stands where the fee payer chooses it.
    case unexpectedFeeToken
    /// A call that creates a contract is not the first one.
    case unexpectedCreation
  }

  /// Names the rule that an answer breaks.
  public enum ReplyRule: Hashable, Sendable {
    /// The text is not JSON, or more than the limits allow.
    case malformed
    /// The answer is not of version 2.0, or has neither result nor error, or both.
    case notRPC
    /// The answer belongs to another call.
    case wrongIdentifier
    /// The result is of another form than the call's.
    case wrongForm
    /// There are more entries than the limits allow.
    case tooLarge
  }
}
