#pragma once
#include <secp256k1.h>
#include <secp256k1_recovery.h>

/* The flags are macros of macros, which Swift does not see. */
static const unsigned int secp256k1_flags_context_none = SECP256K1_CONTEXT_NONE;
static const unsigned int secp256k1_flags_uncompressed = SECP256K1_EC_UNCOMPRESSED;
