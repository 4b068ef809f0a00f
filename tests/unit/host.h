/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of lib/src/host. HOST_TEST() is TEST() for what needs keys: a skip where
 * libcrypto is not installed, as in a small guest.
 */
#ifndef UNIT_HOST_H
#define UNIT_HOST_H

#include <errno.h>
#include "host/secret.h"
#include "unit.h"

static bool host_has_keys(void)
{
	struct secret *secret = NULL;
	int result = secret_create("key", 3, &secret);

	secret_destroy(secret);
	return result != -ENOSYS;
}

#define HOST_TEST(test_name) \
	static void test_name##_with_keys(void); \
	TEST(test_name) \
	{ \
		if (!host_has_keys()) \
			SKIP("libcrypto 3 is not installed"); \
		test_name##_with_keys(); \
	} \
	static void test_name##_with_keys(void)

static inline struct secret *host_secret(const char *key)
{
	struct secret *secret = NULL;

	CHECK_EQ(secret_create(key, strlen(key), &secret), 0);
	return secret;
}

#endif
