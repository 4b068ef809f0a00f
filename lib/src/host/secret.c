/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See secret.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include "base/library.h"
#include "host/secret.h"
#include "task/error.h"

#define LIBCRYPTO "libcrypto.so.3"

/* As <openssl/params.h> of OpenSSL 3 has it: "key value pairs" of its providers. */
struct ossl_param {
	const char *key;
	unsigned int type;
	void *data;
	size_t size, returned;
};
#define OSSL_UTF8_STRING 4

struct evp_mac;
struct evp_mac_context;

static struct {
	struct evp_mac *(*fetch)(void *library, const char *name, const char *properties);
	void (*free)(struct evp_mac *mac);
	struct evp_mac_context *(*context_new)(struct evp_mac *mac);
	void (*context_free)(struct evp_mac_context *context);
	int (*init)(struct evp_mac_context *context, const unsigned char *key, size_t bytes,
		    const struct ossl_param *params);
	int (*update)(struct evp_mac_context *context, const unsigned char *data, size_t bytes);
	int (*final)(struct evp_mac_context *context, unsigned char *out, size_t *bytes,
		     size_t size);
	char why[LIBRARY_WHY_BYTES]; /* empty: it is there */
} crypto;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

struct secret {
	struct evp_mac_context *context;
	size_t key_bytes; /* 0: the key is longer than `key` */
	unsigned char key[SECRET_CODE_BYTES];
};

static void open_crypto(void)
{
	const struct {
		const char *name;
		void *place;
	} symbols[] = {
		{ "EVP_MAC_fetch", &crypto.fetch },
		{ "EVP_MAC_free", &crypto.free },
		{ "EVP_MAC_CTX_new", &crypto.context_new },
		{ "EVP_MAC_CTX_free", &crypto.context_free },
		{ "EVP_MAC_init", &crypto.init },
		{ "EVP_MAC_update", &crypto.update },
		{ "EVP_MAC_final", &crypto.final },
	};
	void *handle = library_open(LIBCRYPTO, RTLD_NOW | RTLD_LOCAL, crypto.why);
	void *address;

	for (size_t i = 0; handle && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		address = dlsym(handle, symbols[i].name);
		if (!address) {
			text_format(crypto.why, sizeof(crypto.why), "it has no %s()",
				    symbols[i].name);
			return;
		}
		memcpy(symbols[i].place, &address, sizeof(address));
	}
}

int secret_create(const void *key, size_t bytes, struct secret **result)
{
	static char digest[] = "SHA256";
	const struct ossl_param params[] = {
		{ "digest", OSSL_UTF8_STRING, digest, sizeof(digest) - 1, (size_t)-1 },
		{ NULL, 0, NULL, 0, 0 },
	};
	struct secret *secret;
	struct evp_mac *mac;

	pthread_once(&opened, open_crypto);
	if (crypto.why[0])
		return error_set(-ENOSYS,
				 "Workers on other hosts need " LIBCRYPTO ", of OpenSSL 3 "
				 "(Debian: libssl3, libssl3t64): %s",
				 crypto.why);
	secret = calloc(1, sizeof(*secret));
	if (!secret)
		return error_set(-ENOMEM, "no memory for a key");
	mac = crypto.fetch(NULL, "HMAC", NULL);
	if (mac) {
		secret->context = crypto.context_new(mac);
		crypto.free(mac);
	}
	if (!secret->context || !crypto.init(secret->context, key, bytes, params)) {
		secret_destroy(secret);
		return error_set(-ENOSYS, LIBCRYPTO " offers no HMAC-SHA-256 here: a policy of "
						    "this machine may forbid it");
	}
	if (bytes <= sizeof(secret->key)) {
		memcpy(secret->key, key, bytes);
		secret->key_bytes = bytes;
	}
	*result = secret;
	return 0;
}

size_t secret_copy_key(const struct secret *secret, unsigned char key[SECRET_CODE_BYTES])
{
	memcpy(key, secret->key, secret->key_bytes);
	return secret->key_bytes;
}

void secret_destroy(struct secret *secret)
{
	if (!secret)
		return;
	/* This overwrites the key. */
	if (secret->context)
		crypto.context_free(secret->context);
	explicit_bzero(secret->key, sizeof(secret->key));
	free(secret);
}

int secret_code(struct secret *secret, const struct iovec *parts, size_t count,
		unsigned char code[SECRET_CODE_BYTES])
{
	size_t bytes;
	int works = crypto.init(secret->context, NULL, 0, NULL);

	for (size_t i = 0; i < count && works; i++)
		works = crypto.update(secret->context, parts[i].iov_base, parts[i].iov_len);
	if (!works || !crypto.final(secret->context, code, &bytes, SECRET_CODE_BYTES) ||
	    bytes != SECRET_CODE_BYTES)
		return error_set(-EIO, LIBCRYPTO " cannot compute HMAC-SHA-256");
	return 0;
}

bool secret_equal(const unsigned char a[SECRET_CODE_BYTES],
		  const unsigned char b[SECRET_CODE_BYTES])
{
	volatile unsigned char differences = 0;

	for (size_t i = 0; i < SECRET_CODE_BYTES; i++)
		differences |= a[i] ^ b[i];
	return !differences;
}

int secret_random(void *bytes, size_t count)
{
	size_t done = 0;
	ssize_t got;

	while (done < count) {
		got = getrandom((char *)bytes + done, count - done, 0);
		if (got < 0 && errno != EINTR)
			return error_set(-EIO, "getrandom: %s", strerror(errno));
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}
