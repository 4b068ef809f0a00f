/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * secret: a key that two hosts share, and the authentication codes that are made with it
 * (HMAC-SHA-256, RFC 2104). The arithmetic is libcrypto's, of OpenSSL 3, which is opened by the
 * first call: a process that has no Worker on another host does not load it.
 *
 * Owns: the key's bytes, which are overwritten before their memory is freed. A struct secret
 * belongs to one thread at a time.
 */
#ifndef DW_HOST_SECRET_H
#define DW_HOST_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define SECRET_CODE_BYTES 32
struct secret;

/* -ENOSYS without libcrypto 3, -ENOMEM; with a text. */
int secret_create(const void *key, size_t bytes, struct secret **secret);
/* NULL is accepted. */
void secret_destroy(struct secret *secret);
/* The code of the parts, one after the other. -EIO with a text. */
int secret_code(struct secret *secret, const struct iovec *parts, size_t count,
		unsigned char code[SECRET_CODE_BYTES]);
/*
 * Copies a key of at most SECRET_CODE_BYTES and returns its length, or 0: the key is longer, and no
 * copy of it is kept. Keys of connections are not.
 */
size_t secret_copy_key(const struct secret *secret, unsigned char key[SECRET_CODE_BYTES]);
/* Compares in a time that does not depend on where they differ. */
bool secret_equal(const unsigned char a[SECRET_CODE_BYTES],
		  const unsigned char b[SECRET_CODE_BYTES]);
/* Makes unpredictable bytes. -EIO with a text. */
int secret_random(void *bytes, size_t count);

#endif
