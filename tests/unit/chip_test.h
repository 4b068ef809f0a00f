/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of chips: the path of the build tree, reading images, calling a chip and
 * waiting for its completion.
 */
#ifndef TESTS_UNIT_CHIP_TEST_H
#define TESTS_UNIT_CHIP_TEST_H

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "chip/chip.h"
#include "task/error.h"
#include "slow.h"

/* The folder of this test program, build/tests/unit. */
static inline const char *test_folder(void)
{
	static char folder[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

	if (length > 0) {
		folder[length] = '\0';
		*strrchr(folder, '/') = '\0';
	}
	return folder;
}

/* Drivers of the build tree, for tests that link the static library. Before main(). */
__attribute__((constructor)) static void use_build_drivers(void)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/../..", test_folder());
	setenv("DW_CHIP_PATH", path, 1);
}

static inline const char *fixture(const char *name)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/fixtures/%s.so", test_folder(), name);
	return path;
}

static inline void *file_read(const char *path, size_t *bytes)
{
	FILE *file = fopen(path, "rb");
	char *data = NULL;
	size_t got;

	*bytes = 0;
	while (file) {
		data = realloc(data, *bytes + 65536);
		got = fread(data + *bytes, 1, 65536, file);
		*bytes += got;
		if (got == 0)
			break;
	}
	if (file)
		fclose(file);
	return data;
}

static inline int image_load_bytes(struct chip *chip, uint64_t key, const void *data, size_t bytes,
				   const char *entry, const int32_t *signature, size_t count)
{
	struct dw_chip_image_spec spec = {
		.size = sizeof(spec), .data = data, .bytes = bytes, .entry = entry,
		.signature = signature, .signature_count = count, .name = "test image",
	};

	return chip_image_load(chip, key, &spec);
}

static inline int fixture_load(struct chip *chip, uint64_t key, const char *name, const char *entry)
{
	size_t bytes;
	void *data = file_read(fixture(name), &bytes);
	int status = image_load_bytes(chip, key, data, bytes, entry, NULL, 0);

	free(data);
	return status;
}

static inline struct dw_tensor tensor1(const void *data, int dtype, uint32_t count)
{
	return (struct dw_tensor){
		.data = (uint64_t)(uintptr_t)data, .shape = { count }, .ndims = 1,
		.dtype = (uint8_t)dtype,
	};
}

static inline struct dw_args view(struct dw_tensor *tensors, uint32_t tensor_count,
				  uint64_t *scalars, uint32_t scalar_count)
{
	return (struct dw_args){
		.tensors = tensors, .tensor_count = tensor_count, .scalars = scalars,
		.scalar_count = scalar_count, .view = true,
	};
}

/* Waits for the oldest completion as a chip worker does. */
static inline int chip_finish(struct chip *chip, struct chip_completion *done)
{
	for (;;) {
		int status = chip_collect(chip, done), fd = chip_completion_fd(chip);

		if (status)
			return status;
		if (!chip_in_flight(chip) || fd < 0 || !unit_polled(fd, POLLIN))
			return 0;
	}
}

/* One call from submit to completion: its status, with the text in error_text(). */
static inline int chip_call(struct chip *chip, uint64_t key, struct dw_tensor *tensors,
			    uint32_t tensor_count, uint64_t *scalars, uint32_t scalar_count,
			    int block_dim)
{
	struct dw_args args = view(tensors, tensor_count, scalars, scalar_count);
	struct dw_config config = { .block_dim = block_dim };
	struct chip_completion done;
	int status = chip_submit(chip, key, &args, &config, 1, NULL);

	if (status < 0)
		return status;
	status = chip_finish(chip, &done);
	return status == 1 ? done.status : -EPIPE;
}

#endif
