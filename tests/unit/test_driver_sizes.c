/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Structs that drivers read and fill, smaller and larger than the drivers' own. */
#include <poll.h>
#include <stddef.h>
#include <distworker/sim.h>
#include "unit.h"
#include "chip_test.h"
#include "opencl_missing.h"
#include "chip/chip.h"

#define MORE 16
#define REQUIRE_OR(condition, otherwise) \
	do { \
		if (!CHECK(condition)) \
			return otherwise; \
	} while (0)

/* Two devices of each driver that is there, in elements of `size` bytes. */
static void enumerate_with(const char *name, const char *options, size_t size, size_t wanted)
{
	unsigned char memory[3 * (sizeof(struct dw_chip_properties) + MORE)];
	struct dw_chip_error error = { "" };
	struct chip_driver driver;
	size_t count = wanted, known = size < sizeof(struct dw_chip_properties) ?
					       size :
					       sizeof(struct dw_chip_properties);

	if (chip_driver_load(name, &driver) < 0) {
		printf("# %s is not there\n", name);
		return;
	}
	memset(memory, 0xee, sizeof(memory));
	for (size_t i = 0; i < wanted; i++)
		memcpy(memory + i * size, &size, sizeof(size));
	CHECK_EQ(driver.table.enumerate(options, (struct dw_chip_properties *)(void *)memory,
					&count, &error),
		 0);
	for (size_t i = 0; i < wanted && i < count; i++) {
		CHECK_EQ(memcmp(memory + i * size, &size, sizeof(size)), 0);
		CHECK(memory[i * size + offsetof(struct dw_chip_properties, name)] != 0xee);
		CHECK(memory[i * size + known - 1] != 0xee);
		for (size_t byte = known; byte < size; byte++)
			CHECK_EQ(memory[i * size + byte], 0);
	}
	/* Nothing behind. */
	CHECK_EQ(memory[(count < wanted ? count : wanted) * size + sizeof(size)], 0xee);
}

/*
 * Failed before: elements lay sizeof(struct dw_chip_properties) apart, and nothing was written
 * behind the known fields.
 */
TEST(devices_are_enumerated_at_the_callers_distance)
{
	static const size_t sizes[] = {
		offsetof(struct dw_chip_properties, default_block_dim),
		sizeof(struct dw_chip_properties),
		sizeof(struct dw_chip_properties) + MORE,
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		enumerate_with("sim", "devices=2", sizes[i], 2);
		if (opencl_missing())
			printf("# not opencl: %s\n", opencl_missing());
		else
			enumerate_with("opencl", NULL, sizes[i], 1);
		enumerate_with("pto", "devices=2", sizes[i], 2);
	}
}

/*
 * A struct of `size` bytes, of which the last is `last`; the bytes behind a smaller one are not its
 * own.
 */
static void resize(unsigned char *room, const void *from, size_t known, size_t size,
		   unsigned char last)
{
	memset(room, 0, known + MORE);
	memset(room, 0xee, known);
	memcpy(room, from, size < known ? size : known);
	memcpy(room, &size, sizeof(size));
	if (size > known)
		room[size - 1] = last;
}

static int load_and_run(size_t spec_size, unsigned char spec_last, size_t call_size,
			unsigned char call_last, struct dw_chip_error *error)
{
	_Alignas(16) unsigned char spec_room[sizeof(struct dw_chip_image_spec) + MORE];
	_Alignas(16) unsigned char call_room[sizeof(struct dw_chip_call) + MORE];
	static const volatile uint32_t never;
	uint64_t cell = 41, bytes = sizeof(cell);
	struct dw_tensor tensor = tensor1(&cell, DW_UINT64, 1);
	struct dw_chip_image_spec spec = { .entry = "add_one", .name = "sizes" };
	struct dw_chip_call call = {
		.tensors = &tensor, .tensor_bytes = &bytes, .tensor_count = 1, .cancelled = &never,
		.config = { .block_dim = 1, .aicpu_thread_num = 1 },
	};
	struct dw_chip_device *device = NULL;
	struct chip_driver driver;
	int status;
	void *data = file_read(fixture("sim_sizes"), &spec.bytes);

	spec.data = data;
	REQUIRE_OR(chip_driver_load("sim", &driver) == 0, -ENOENT);
	REQUIRE_OR(driver.table.open(0, NULL, &device, error) == 0, -ENODEV);
	resize(spec_room, &spec, sizeof(spec), spec_size, spec_last);
	status = driver.table.load(device, (const struct dw_chip_image_spec *)(void *)spec_room,
				   &call.image, error);
	if (status == 0) {
		resize(call_room, &call, sizeof(call), call_size, call_last);
		status = driver.table.run(device, (const struct dw_chip_call *)(void *)call_room,
					  error);
		if (status == 0)
			CHECK_EQ(cell, 42);
		driver.table.unload(device, call.image);
	}
	driver.table.close(device);
	free(data);
	return status;
}

/*
 * Failed before: bytes behind the driver's struct were not looked at, and those behind a smaller
 * one were read.
 */
TEST(calls_and_image_specs_of_other_sizes_are_taken_or_named)
{
	const size_t spec = sizeof(struct dw_chip_image_spec), call = sizeof(struct dw_chip_call);
	struct dw_chip_error error = { "" };

	CHECK_EQ(load_and_run(spec, 0, call, 0, &error), 0);
	CHECK_EQ(load_and_run(offsetof(struct dw_chip_image_spec, name), 0, call, 0, &error), 0);
	CHECK_EQ(load_and_run(spec, 0, offsetof(struct dw_chip_call, cancelled), 0, &error), 0);
	CHECK_EQ(load_and_run(spec + MORE, 0, call + MORE, 0, &error), 0);
	CHECK_EQ(load_and_run(spec + MORE, 1, call, 0, &error), -E2BIG);
	CHECK_STR(error.text, "dw_chip_image_spec");
	error.text[0] = '\0';
	CHECK_EQ(load_and_run(spec, 0, call + MORE, 1, &error), -E2BIG);
	CHECK_STR(error.text, "dw_chip_call");
	error.text[0] = '\0';
	CHECK_EQ(load_and_run(0, 0, call, 0, &error), -EINVAL);
}

/* Places lie as far apart as the first one says. */
TEST(places_of_other_sizes_are_taken)
{
	struct {
		struct dw_chip_place place;
		uint64_t more[2];
	} places[2] = {
		{ .place = { .size = sizeof(places[0]), .handle = 1ull << 62,
			     .flags = DW_CHIP_COPY_IN | DW_CHIP_COPY_OUT } },
	};
	static const volatile uint32_t never;
	uint64_t cell = 41, bytes = sizeof(cell);
	struct dw_tensor tensor = tensor1(&cell, DW_UINT64, 1);
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .entry = "add_one" };
	struct dw_chip_call call = {
		.size = sizeof(call), .tensors = &tensor, .tensor_bytes = &bytes,
		.tensor_count = 1, .cancelled = &never, .places = &places[0].place,
		.config = { .block_dim = 1, .aicpu_thread_num = 1 },
	};
	struct dw_chip_error error = { "" };
	struct dw_chip_device *device = NULL;
	struct chip_driver driver;
	void *data = file_read(fixture("sim_sizes"), &spec.bytes);

	spec.data = data;
	CHECK_EQ(chip_driver_load("sim", &driver), 0);
	CHECK_EQ(driver.table.open(0, NULL, &device, &error), 0);
	CHECK_EQ(driver.table.load(device, &spec, &call.image, &error), 0);
	CHECK_EQ(driver.table.run(device, &call, &error), -EFAULT);
	CHECK_STR(error.text, "no such range");
	CHECK_EQ(driver.table.reserve(device, 1ull << 62, bytes, &error), 0);
	CHECK_EQ(driver.table.run(device, &call, &error), 0);
	CHECK_EQ(cell, 42);
	/* The tensor stays on the device: a write by the host is not fetched. */
	cell = 7;
	places[0].place.flags = DW_CHIP_COPY_OUT;
	CHECK_EQ(driver.table.run(device, &call, &error), 0);
	CHECK_EQ(cell, 43);
	driver.table.unload(device, call.image);
	driver.table.close(device);
	free(data);
}

/* Notes of copies lie as far apart as the first entry says; there are no more than fit. */
TEST(copies_are_noted_in_entries_of_other_sizes)
{
	static const size_t sizes[] = {
		offsetof(struct dw_chip_copy, started_ns), sizeof(struct dw_chip_copy),
		sizeof(struct dw_chip_copy) + MORE,
	};
	unsigned char memory[3 * (sizeof(struct dw_chip_copy) + MORE)];
	static const volatile uint32_t never;
	uint64_t cell = 0, bytes = sizeof(cell);
	struct dw_tensor tensor = tensor1(&cell, DW_UINT64, 1);
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .entry = "add_one" };
	struct dw_chip_copies copies = {
		.size = sizeof(copies), .entries = (struct dw_chip_copy *)(void *)memory,
	};
	struct dw_chip_call call = {
		.size = sizeof(call), .tensors = &tensor, .tensor_bytes = &bytes,
		.tensor_count = 1, .cancelled = &never, .copies = &copies,
		.config = { .block_dim = 1, .aicpu_thread_num = 1 },
	};
	struct dw_chip_error error = { "" };
	struct dw_chip_device *device = NULL;
	struct chip_driver driver;
	void *data = file_read(fixture("sim_sizes"), &spec.bytes);

	spec.data = data;
	CHECK_EQ(chip_driver_load("sim", &driver), 0);
	CHECK_EQ(driver.table.open(0, NULL, &device, &error), 0);
	CHECK_EQ(driver.table.load(device, &spec, &call.image, &error), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (uint32_t space = 0; space < 4; space++) {
			uint32_t wanted = space < 2 ? space : 2;

			memset(memory, 0xee, sizeof(memory));
			for (uint32_t entry = 0; entry < space && entry < 3; entry++)
				memcpy(memory + entry * sizes[i], &sizes[i], sizeof(sizes[i]));
			copies.space = space;
			copies.count = 0;
			CHECK_EQ(driver.table.run(device, &call, &error), 0);
			CHECK_EQ(copies.count, wanted);
			for (uint32_t entry = 0; entry < wanted; entry++) {
				struct dw_chip_copy copy = { .size = 0 };

				memcpy(&copy, memory + entry * sizes[i],
				       offsetof(struct dw_chip_copy, started_ns));
				CHECK_EQ(copy.size, sizes[i]);
				CHECK_EQ(copy.tensor, 0);
				CHECK_EQ(copy.flags, entry ? DW_CHIP_COPY_OUT : DW_CHIP_COPY_IN);
				CHECK_EQ(copy.bytes, 8);
			}
			/* Nothing behind. */
			if (space < 2)
				CHECK_EQ(memory[space * sizes[i]], 0xee);
		}
	driver.table.unload(device, call.image);
	driver.table.close(device);
	free(data);
}

static int launch_with(struct chip *chip, uint64_t size, uint64_t last)
{
	uint64_t cell = 1, scalars[2] = { size, last };
	struct dw_tensor tensor = tensor1(&cell, DW_UINT64, 1);
	int status = chip_call(chip, 1, &tensor, 1, scalars, 2, 1);

	CHECK_EQ(cell, status ? 1 : 2);
	return status;
}

/* Failed before: each smaller one was -EINVAL, and each larger one was taken. */
TEST(launches_of_other_sizes_are_taken_or_named)
{
	const uint64_t size = sizeof(struct dw_sim_launch);
	struct chip *chip = NULL;

	REQUIRE(chip_open("sim", 0, NULL, &chip) == 0);
	REQUIRE(fixture_load(chip, 1, "sim_sizes", "launches") == 0);
	CHECK_EQ(launch_with(chip, size, 0), 0);
	CHECK_EQ(launch_with(chip, offsetof(struct dw_sim_launch, after), 0), 0);
	CHECK_EQ(launch_with(chip, size + MORE, 0), 0);
	CHECK_EQ(launch_with(chip, size + MORE, 1), -E2BIG);
	CHECK_STR(error_text(), "dw_sim_launch");
	CHECK_EQ(launch_with(chip, 4, 0), -EINVAL);
	chip_close(chip);
}

/*
 * Failed before: a smaller description was -EPROTO, and the further bytes of a larger one were not
 * checked.
 */
TEST(descriptions_of_entries_of_other_sizes_are_taken_or_named)
{
	const int32_t inout = DW_DIR_INOUT;
	struct chip *chip = NULL;
	size_t bytes;
	void *data = file_read(fixture("sim_sizes"), &bytes);

	REQUIRE(chip_open("sim", 0, NULL, &chip) == 0);
	CHECK_EQ(fixture_load(chip, 1, "sim_sizes", "larger_zero"), 0);
	CHECK_EQ(fixture_load(chip, 2, "sim_sizes", "larger_used"), -EPROTO);
	CHECK_STR(error_text(), "larger_used");
	CHECK_EQ(image_load_bytes(chip, 3, data, bytes, "smaller", &inout, 1), 0);
	CHECK(fixture_load(chip, 4, "sim_sizes", "smaller") < 0);
	CHECK_STR(error_text(), "signature");
	chip_close(chip);
	free(data);
}

/* `room` was filled by a driver that knows `known` bytes of it. */
static void check_filled(const unsigned char *room, size_t known, size_t size)
{
	CHECK_EQ(memcmp(room, &size, sizeof(size)), 0);
	for (size_t byte = known; byte < size; byte++)
		CHECK_EQ(room[byte], 0);
	for (size_t byte = size; byte < known + MORE; byte++)
		CHECK_EQ(room[byte], 0xee);
}

/* The bytes behind the driver's own struct are set to 0. */
TEST(counters_and_completions_of_other_sizes_are_filled)
{
	static const size_t counters[] = {
		offsetof(struct dw_chip_counters, memory_used), sizeof(struct dw_chip_counters),
		sizeof(struct dw_chip_counters) + MORE,
	};
	static const size_t completions[] = {
		offsetof(struct dw_chip_completion, error), sizeof(struct dw_chip_completion),
		sizeof(struct dw_chip_completion) + MORE,
	};
	static const volatile uint32_t never;
	_Alignas(16) unsigned char room[sizeof(struct dw_chip_completion) + MORE];
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .entry = "add_one" };
	uint64_t cell = 0, bytes = sizeof(cell);
	struct dw_tensor tensor = tensor1(&cell, DW_UINT64, 1);
	struct dw_chip_call call = {
		.size = sizeof(call), .tensors = &tensor, .tensor_bytes = &bytes,
		.tensor_count = 1, .cancelled = &never, .cookie = 77,
		.config = { .block_dim = 1, .aicpu_thread_num = 1 },
	};
	struct dw_chip_error error = { "" };
	struct dw_chip_device *device = NULL;
	struct chip_driver driver;
	struct pollfd ready;
	void *data = file_read(fixture("sim_sizes"), &spec.bytes);

	spec.data = data;
	REQUIRE(chip_driver_load("sim", &driver) == 0);
	REQUIRE(driver.table.open(0, "async=1", &device, &error) == 0);
	REQUIRE(driver.table.load(device, &spec, &call.image, &error) == 0);
	ready = (struct pollfd){ .fd = driver.table.completion_fd(device), .events = POLLIN };
	for (size_t i = 0; i < 3; i++) {
		memset(room, 0xee, sizeof(room));
		memcpy(room, &completions[i], sizeof(size_t));
		CHECK_EQ(driver.table.submit(device, &call, &error), 0);
		while (driver.table.collect(device, (struct dw_chip_completion *)(void *)room) == 0)
			poll(&ready, 1, -1);
		check_filled(room, sizeof(struct dw_chip_completion), completions[i]);
		CHECK_EQ(memcmp(room + offsetof(struct dw_chip_completion, cookie), &call.cookie,
				sizeof(call.cookie)), 0);
		memset(room, 0xee, sizeof(room));
		memcpy(room, &counters[i], sizeof(size_t));
		CHECK_EQ(driver.table.counters(device, (struct dw_chip_counters *)(void *)room), 0);
		check_filled(room, sizeof(struct dw_chip_counters), counters[i]);
	}
	driver.table.unload(device, call.image);
	driver.table.close(device);
	free(data);
}
