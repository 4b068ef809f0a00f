/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the fuzzers of parsers. Each file here is one libFuzzer target; ./run builds and runs
 * them. A target fails by what the sanitizers see, or by MUST().
 */
#ifndef FUZZ_PARSERS_INPUT_H
#define FUZZ_PARSERS_INPUT_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
	do { \
		if (!(condition)) { \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* A file with this content; *fd is to be closed. Its path. */
static inline const char *input_file(const void *data, size_t size, int *fd)
{
	static char path[64];

	*fd = memfd_create("fuzz", 0);
	MUST(*fd >= 0 && write(*fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	return path;
}

/* Output of the target is discarded; the fuzzer itself writes to stderr. */
static inline void input_quiet(void)
{
	static int quiet;

	if (!quiet++)
		MUST(freopen("/dev/null", "w", stdout));
}

#endif
