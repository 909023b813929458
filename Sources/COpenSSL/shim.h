#pragma once
/* The low-level SHA-256 functions are deprecated in OpenSSL 3, and the only ones that neither fetch nor lock. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>
