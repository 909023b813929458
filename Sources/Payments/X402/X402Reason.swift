/// Names why a payment did not hold, by the strings that facilitators and servers exchange (`error`, `invalidReason`, `errorReason`).
///
/// The table is that of the specifications and of the official package's EVM part. A string that it does not list becomes
/// `unknown`: what a facilitator invents is never passed on to a client.
public enum X402Reason: String, Sendable, Hashable, CaseIterable {
  /// A string that is not in the table.
  case unknown = "unknown_error"

  // Of every scheme (x402 v2 section 9, and what the facilitators of EVM chains add).
  case assetNotDeployedContract = "asset_not_deployed_contract"
  case balanceCheckFailed = "balance_check_failed"
  case duplicateSettlement = "duplicate_settlement"
  case eip6492FactoryNotAllowed = "eip6492_factory_not_allowed"
  case erc20ApprovalBroadcastFailed = "erc20_approval_broadcast_failed"
  case erc20ApprovalTxFailed = "erc20_approval_tx_failed"
  case extensionEchoMismatch = "extension_echo_mismatch"
  case insufficientFunds = "insufficient_funds"
  case invalidNetwork = "invalid_network"
  case invalidPayload = "invalid_payload"
  case invalidPaymentRequirements = "invalid_payment_requirements"
  case invalidScheme = "invalid_scheme"
  case invalidTransactionState = "invalid_transaction_state"
  case invalidX402Version = "invalid_x402_version"
  case missingEIP712Domain = "missing_eip712_domain"
  case networkMismatch = "network_mismatch"
  case settlementPending = "settlement_pending"
  case smartWalletDeploymentFailed = "smart_wallet_deployment_failed"
  case transactionFailed = "transaction_failed"
  case unexpectedSettleError = "unexpected_settle_error"
  case unexpectedVerifyError = "unexpected_verify_error"
  case unsupportedPayloadType = "unsupported_payload_type"
  case unsupportedScheme = "unsupported_scheme"

  // Of exact on EVM.
  case exactEIP3009NotSupported = "invalid_exact_evm_eip3009_not_supported"
  case exactFailedToGetAssetInfo = "invalid_exact_evm_failed_to_get_asset_info"
  case exactFailedToGetNetworkConfig = "invalid_exact_evm_failed_to_get_network_config"
  case exactFailedToVerifySignature = "invalid_exact_evm_failed_to_verify_signature"
  case exactInsufficientBalance = "invalid_exact_evm_insufficient_balance"
  case exactNonceAlreadyUsed = "invalid_exact_evm_nonce_already_used"
  case exactPayloadAuthorizationValidAfter = "invalid_exact_evm_payload_authorization_valid_after"
  case exactPayloadAuthorizationValidBefore = "invalid_exact_evm_payload_authorization_valid_before"
  case exactPayloadAuthorizationValueMismatch = "invalid_exact_evm_payload_authorization_value_mismatch"
  case exactPayloadRecipientMismatch = "invalid_exact_evm_payload_recipient_mismatch"
  case exactPayloadSignature = "invalid_exact_evm_payload_signature"
  case exactPayloadUndeployedSmartWallet = "invalid_exact_evm_payload_undeployed_smart_wallet"
  case exactTokenNameMismatch = "invalid_exact_evm_token_name_mismatch"
  case exactTokenVersionMismatch = "invalid_exact_evm_token_version_mismatch"
  case exactTransactionSimulationFailed = "invalid_exact_evm_transaction_simulation_failed"
  case exactTransferEventMismatch = "invalid_exact_evm_transfer_event_mismatch"

  // Of Permit2, in exact and upto.
  case invalidPermit2Amount = "invalid_permit2_amount"
  case invalidPermit2Destination = "invalid_permit2_destination"
  case invalidPermit2Owner = "invalid_permit2_owner"
  case invalidPermit2PayloadFormat = "invalid_permit2_payload_format"
  case invalidPermit2RecipientMismatch = "invalid_permit2_recipient_mismatch"
  case invalidPermit2Signature = "invalid_permit2_signature"
  case invalidPermit2Spender = "invalid_permit2_spender"
  case permit2EIP2612AmountMismatch = "permit2_2612_amount_mismatch"
  case permit2AllowanceRequired = "permit2_allowance_required"
  case permit2AmountMismatch = "permit2_amount_mismatch"
  case permit2DeadlineExpired = "permit2_deadline_expired"
  case permit2InsufficientBalance = "permit2_insufficient_balance"
  case permit2InvalidAmount = "permit2_invalid_amount"
  case permit2InvalidDestination = "permit2_invalid_destination"
  case permit2InvalidNonce = "permit2_invalid_nonce"
  case permit2InvalidOwner = "permit2_invalid_owner"
  case permit2NotYetValid = "permit2_not_yet_valid"
  case permit2PaymentTooEarly = "permit2_payment_too_early"
  case permit2TokenMismatch = "permit2_token_mismatch"

  // Of upto on EVM.
  case uptoFailedToGetNetworkConfig = "invalid_upto_evm_failed_to_get_network_config"
  case uptoNetworkMismatch = "invalid_upto_evm_network_mismatch"
  case uptoPayloadSettlementExceedsAmount = "invalid_upto_evm_payload_settlement_exceeds_amount"
  case uptoScheme = "invalid_upto_evm_scheme"
  case uptoTransactionFailed = "invalid_upto_evm_transaction_failed"
  case uptoAmountExceedsPermitted = "upto_amount_exceeds_permitted"
  case uptoFacilitatorMismatch = "upto_facilitator_mismatch"
  case uptoUnauthorizedFacilitator = "upto_unauthorized_facilitator"

  // Of batch-settlement on EVM.
  case batchAuthorizerAddressMismatch = "invalid_batch_settlement_evm_authorizer_address_mismatch"
  case batchAuthorizerNotConfigured = "invalid_batch_settlement_evm_authorizer_not_configured"
  case batchChannelBusy = "invalid_batch_settlement_evm_channel_busy"
  case batchChannelIDInvalid = "invalid_batch_settlement_evm_channel_id_invalid"
  case batchChannelIDMismatch = "invalid_batch_settlement_evm_channel_id_mismatch"
  case batchChannelNotFound = "invalid_batch_settlement_evm_channel_not_found"
  case batchChannelStateReadFailed = "invalid_batch_settlement_evm_channel_state_read_failed"
  case batchChargeExceedsSignedCumulative = "invalid_batch_settlement_evm_charge_exceeds_signed_cumulative"
  case batchClaimPayload = "invalid_batch_settlement_evm_claim_payload"
  case batchClaimSimulationFailed = "invalid_batch_settlement_evm_claim_simulation_failed"
  case batchClaimTransactionFailed = "invalid_batch_settlement_evm_claim_transaction_failed"
  case batchCumulativeAmountMismatch = "invalid_batch_settlement_evm_cumulative_amount_mismatch"
  case batchCumulativeBelowClaimed = "invalid_batch_settlement_evm_cumulative_below_claimed"
  case batchCumulativeExceedsBalance = "invalid_batch_settlement_evm_cumulative_exceeds_balance"
  case batchDepositBelowMinDeposit = "invalid_batch_settlement_evm_deposit_below_min_deposit"
  case batchDepositPayload = "invalid_batch_settlement_evm_deposit_payload"
  case batchDepositSimulationFailed = "invalid_batch_settlement_evm_deposit_simulation_failed"
  case batchDepositTransactionFailed = "invalid_batch_settlement_evm_deposit_transaction_failed"
  case batchEIP2612AmountMismatch = "invalid_batch_settlement_evm_eip2612_amount_mismatch"
  case batchEIP2612AssetMismatch = "invalid_batch_settlement_evm_eip2612_asset_mismatch"
  case batchEIP2612DeadlineExpired = "invalid_batch_settlement_evm_eip2612_deadline_expired"
  case batchEIP2612InvalidFormat = "invalid_batch_settlement_evm_eip2612_invalid_format"
  case batchEIP2612InvalidSignature = "invalid_batch_settlement_evm_eip2612_invalid_signature"
  case batchEIP2612OwnerMismatch = "invalid_batch_settlement_evm_eip2612_owner_mismatch"
  case batchEIP2612SpenderMismatch = "invalid_batch_settlement_evm_eip2612_spender_mismatch"
  case batchEIP6492FactoryNotAllowed = "invalid_batch_settlement_evm_eip6492_factory_not_allowed"
  case batchERC20ApprovalAssetMismatch = "invalid_batch_settlement_evm_erc20_approval_asset_mismatch"
  case batchERC20ApprovalBroadcastFailed = "invalid_batch_settlement_evm_erc20_approval_broadcast_failed"
  case batchERC20ApprovalFromMismatch = "invalid_batch_settlement_evm_erc20_approval_from_mismatch"
  case batchERC20ApprovalInvalidFormat = "invalid_batch_settlement_evm_erc20_approval_invalid_format"
  case batchERC20ApprovalUnavailable = "invalid_batch_settlement_evm_erc20_approval_unavailable"
  case batchERC20ApprovalWrongSpender = "invalid_batch_settlement_evm_erc20_approval_wrong_spender"
  case batchERC3009AuthorizationRequired = "invalid_batch_settlement_evm_erc3009_authorization_required"
  case batchInsufficientBalance = "invalid_batch_settlement_evm_insufficient_balance"
  case batchMissingChannel = "invalid_batch_settlement_evm_missing_channel"
  case batchMissingEIP712Domain = "invalid_batch_settlement_evm_missing_eip712_domain"
  case batchNetworkMismatch = "invalid_batch_settlement_evm_network_mismatch"
  case batchNothingToSettle = "invalid_batch_settlement_evm_nothing_to_settle"
  case batchPayloadAuthorizationValidAfter = "invalid_batch_settlement_evm_payload_authorization_valid_after"
  case batchPayloadAuthorizationValidBefore = "invalid_batch_settlement_evm_payload_authorization_valid_before"
  case batchPayloadType = "invalid_batch_settlement_evm_payload_type"
  case batchPermit2AllowanceRequired = "invalid_batch_settlement_evm_permit2_allowance_required"
  case batchPermit2AmountMismatch = "invalid_batch_settlement_evm_permit2_amount_mismatch"
  case batchPermit2AuthorizationRequired = "invalid_batch_settlement_evm_permit2_authorization_required"
  case batchPermit2DeadlineExpired = "invalid_batch_settlement_evm_permit2_deadline_expired"
  case batchPermit2InvalidSignature = "invalid_batch_settlement_evm_permit2_invalid_signature"
  case batchPermit2InvalidSpender = "invalid_batch_settlement_evm_permit2_invalid_spender"
  case batchReceiveAuthorizationSignature = "invalid_batch_settlement_evm_receive_authorization_signature"
  case batchReceiverAuthorizerMismatch = "invalid_batch_settlement_evm_receiver_authorizer_mismatch"
  case batchReceiverMismatch = "invalid_batch_settlement_evm_receiver_mismatch"
  case batchRefundAmountInvalid = "invalid_batch_settlement_evm_refund_amount_invalid"
  case batchRefundNoBalance = "invalid_batch_settlement_evm_refund_no_balance"
  case batchRefundPayload = "invalid_batch_settlement_evm_refund_payload"
  case batchRefundSimulationFailed = "invalid_batch_settlement_evm_refund_simulation_failed"
  case batchRefundTransactionFailed = "invalid_batch_settlement_evm_refund_transaction_failed"
  case batchRPCReadFailed = "invalid_batch_settlement_evm_rpc_read_failed"
  case batchScheme = "invalid_batch_settlement_evm_scheme"
  case batchSettlePayload = "invalid_batch_settlement_evm_settle_payload"
  case batchSettleSimulationFailed = "invalid_batch_settlement_evm_settle_simulation_failed"
  case batchSettleTransactionFailed = "invalid_batch_settlement_evm_settle_transaction_failed"
  case batchSmartWalletDeploymentFailed = "invalid_batch_settlement_evm_smart_wallet_deployment_failed"
  case batchTokenMismatch = "invalid_batch_settlement_evm_token_mismatch"
  case batchTransactionReverted = "invalid_batch_settlement_evm_transaction_reverted"
  case batchUnknownSettleAction = "invalid_batch_settlement_evm_unknown_settle_action"
  case batchVerificationStateUnavailable = "invalid_batch_settlement_evm_verification_state_unavailable"
  case batchVoucherPayload = "invalid_batch_settlement_evm_voucher_payload"
  case batchVoucherSignature = "invalid_batch_settlement_evm_voucher_signature"
  case batchWaitForReceiptFailed = "invalid_batch_settlement_evm_wait_for_receipt_failed"
  case batchWithdrawDelayMismatch = "invalid_batch_settlement_evm_withdraw_delay_mismatch"
  case batchWithdrawDelayOutOfRange = "invalid_batch_settlement_evm_withdraw_delay_out_of_range"

  /// Reads a string of the wire.
  public init(wire text: String) { self = X402Reason(rawValue: text) ?? .unknown }

  /// Whether the payment was broadcast and is not confirmed yet: no failure, the same request for settlement is to be made again.
  public var isPending: Bool { self == .settlementPending }

  /// Whether a failed settlement for this reason leaves it open if money moved: the facilitator lost track, or the chain did not answer.
  ///
  /// An answer that names a transaction leaves it open too, whatever its reason.
  public var isIndefinite: Bool {
    switch self {
    case .unknown, .settlementPending, .unexpectedSettleError, .duplicateSettlement, .transactionFailed, .invalidTransactionState,
      .exactNonceAlreadyUsed, .exactTransferEventMismatch, .permit2InvalidNonce, .uptoTransactionFailed,
      .batchDepositTransactionFailed, .batchClaimTransactionFailed, .batchSettleTransactionFailed, .batchRefundTransactionFailed,
      .batchTransactionReverted, .batchWaitForReceiptFailed, .batchRPCReadFailed, .batchChannelBusy, .batchChannelStateReadFailed,
      .smartWalletDeploymentFailed, .batchSmartWalletDeploymentFailed:
      true
    default: false
    }
  }
}
