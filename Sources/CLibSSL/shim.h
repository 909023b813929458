#pragma once
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

/* What libssl offers as macros or typed stacks only, under names that Swift sees. */

static inline long libssl_ctx_set_mode(SSL_CTX *c, long mode) { return SSL_CTX_set_mode(c, mode); }
static inline long libssl_ctx_set_max_chain(SSL_CTX *c, long octets) { return SSL_CTX_set_max_cert_list(c, octets); }
static const long libssl_mode_release_buffers = SSL_MODE_RELEASE_BUFFERS;
static const long libssl_mode_no_auto_chain = SSL_MODE_NO_AUTO_CHAIN;
static const uint64_t libssl_op_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
static const uint64_t libssl_op_no_compression = SSL_OP_NO_COMPRESSION;
static const uint64_t libssl_op_legacy = SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;
static inline int libssl_ctx_set_versions(SSL_CTX *c, int least, int most) {
  return SSL_CTX_set_min_proto_version(c, least) == 1 && SSL_CTX_set_max_proto_version(c, most) == 1;
}
static inline int libssl_ctx_set_groups(SSL_CTX *c, const char *list) { return (int)SSL_CTX_set1_groups_list(c, list); }
static inline void libssl_ctx_set_session_cache(SSL_CTX *c, long mode) { SSL_CTX_set_session_cache_mode(c, mode); }
static inline void libssl_ctx_set_server_name_callback(SSL_CTX *c, int (*f)(SSL *, int *, void *), void *argument) {
  SSL_CTX_set_tlsext_servername_callback(c, f);
  SSL_CTX_set_tlsext_servername_arg(c, argument);
}
static inline int libssl_ctx_add_chain(SSL_CTX *c, X509 *x) { return (int)SSL_CTX_add1_chain_cert(c, x); }
static inline int libssl_ctx_set_store(SSL_CTX *c, X509_STORE *s) { SSL_CTX_set1_cert_store(c, s); return 1; }
static inline int libssl_set_server_name(SSL *s, const char *name) { return (int)SSL_set_tlsext_host_name(s, name); }
static inline int libssl_ctx_set_index_data(SSL_CTX *c, void *data) { return SSL_CTX_set_ex_data(c, 0, data); }
static inline void *libssl_ctx_index_data(const SSL_CTX *c) { return SSL_CTX_get_ex_data(c, 0); }
static inline int libssl_set_index_data(SSL *s, void *data) { return SSL_set_ex_data(s, 0, data); }
static inline void *libssl_index_data(const SSL *s) { return SSL_get_ex_data(s, 0); }

static inline void libssl_bio_retry_read(BIO *b) { BIO_set_flags(b, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY); }
static inline void libssl_bio_clear_retry(BIO *b) { BIO_clear_flags(b, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY); }

static inline int libssl_error_library(unsigned long code) { return ERR_GET_LIB(code); }
static inline int libssl_error_reason(unsigned long code) { return ERR_GET_REASON(code); }

static inline STACK_OF(X509_NAME) *libssl_names_new(void) { return sk_X509_NAME_new_null(); }
static inline int libssl_names_push(STACK_OF(X509_NAME) *names, X509 *certificate) {
  X509_NAME *copy = X509_NAME_dup(X509_get_subject_name(certificate));
  if (copy == NULL) return 0;
  if (sk_X509_NAME_push(names, copy) > 0) return 1;
  X509_NAME_free(copy);
  return 0;
}

static inline void libssl_names_free(STACK_OF(X509_NAME) *names) { sk_X509_NAME_pop_free(names, X509_NAME_free); }
static inline STACK_OF(X509_NAME) *libssl_names_copy(const STACK_OF(X509_NAME) *names) {
  return sk_X509_NAME_deep_copy(names, X509_NAME_dup, X509_NAME_free);
}

static const unsigned long libssl_rfc2253 = XN_FLAG_RFC2253;
static inline size_t libssl_bio_pending(BIO *b) { return BIO_ctrl_pending(b); }

/* Calls back with each DNS name among a certificate's subject alternative names. */
static inline void libssl_each_dns_name(X509 *certificate, void *context, void (*visit)(void *, const unsigned char *, int)) {
  GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  if (names == NULL) return;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_DNS) visit(context, ASN1_STRING_get0_data(name->d.dNSName), ASN1_STRING_length(name->d.dNSName));
  }
  GENERAL_NAMES_free(names);
}

/* Refuses to decrypt: a proxy starts without anybody who could type a password. */
static inline int libssl_no_password(char *buffer, int size, int writing, void *argument) {
  (void)buffer, (void)size, (void)writing, (void)argument;
  return -1;
}
static inline EVP_PKEY *libssl_read_key(BIO *b) { return PEM_read_bio_PrivateKey(b, NULL, libssl_no_password, NULL); }
static inline X509 *libssl_read_certificate(BIO *b) { return PEM_read_bio_X509(b, NULL, libssl_no_password, NULL); }

/* Seconds since 1970 of a certificate's time; 0 where it cannot be read. */
static inline int libssl_seconds(const ASN1_TIME *time, long long *seconds) {
  ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
  int days = 0, rest = 0, ok = epoch != NULL && ASN1_TIME_diff(&days, &rest, epoch, time);
  ASN1_TIME_free(epoch);
  if (ok) *seconds = (long long)days * 86400 + rest;
  return ok;
}

/* Prepares cipher and authenticator of a session ticket (RFC 5077, section 4). */
static inline int libssl_ticket_start(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const EVP_CIPHER *kind, const unsigned char *key, unsigned char *mac_key,
    const unsigned char *iv, int encrypting) {
  OSSL_PARAM parameters[3] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, mac_key, 32),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, "SHA256", 0),
      OSSL_PARAM_construct_end(),
  };
  return EVP_CipherInit_ex(cipher, kind, NULL, key, iv, encrypting) == 1 && EVP_MAC_CTX_set_params(mac, parameters) == 1;
}
