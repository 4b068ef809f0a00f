/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The chip layer: finding and checking drivers, images by handle, calls, errors. */
#include <sys/stat.h>
#include "unit.h"
#include "chip_test.h"
#include "chip/driver_kit.h"

static bool says(const char *part)
{
	return strstr(error_text(), part) != NULL;
}

TEST(driver_is_found_by_name_and_by_path)
{
	struct dw_chip_driver_info info = DW_OPTIONS(dw_chip_driver_info);
	struct chip *chip = NULL;
	char path[PATH_MAX];

	CHECK(dw_chip_driver_query("sim", &info) == 0);
	CHECK(strcmp(info.name, "sim") == 0 && info.abi_version == DW_CHIP_ABI_VERSION);
	CHECK(chip_open("sim", 3, NULL, &chip) == 0);
	CHECK(strcmp(chip_properties(chip)->name, "sim3") == 0);
	chip_close(chip);
	strcpy(path, info.path);
	CHECK(chip_open(path, 0, NULL, &chip) == 0);
	chip_close(chip);
	chip_close(NULL);
}

TEST(missing_driver_names_the_folders_searched)
{
	struct chip *chip = NULL;

	CHECK(chip_open("nosuch", 0, NULL, &chip) == -ENOENT);
	CHECK(says("libdistworker-chip-nosuch.so") && says(test_folder()) && says("DW_CHIP_PATH"));
	CHECK(chip_open("/nowhere/driver.so", 0, NULL, &chip) == -ENOENT &&
	      says("/nowhere/driver.so"));
	CHECK(chip_open("bad name", 0, NULL, &chip) == -EINVAL && says("bad name"));
	CHECK(chip_open("", 0, NULL, &chip) == -EINVAL);
	CHECK(chip_open(NULL, 0, NULL, &chip) == -EINVAL);
	CHECK(chip == NULL);
}

TEST(driver_of_another_version_is_refused_with_both_versions)
{
	struct chip *chip = NULL;

	CHECK(chip_open(fixture("chip_abi"), 0, NULL, &chip) == -EPROTO);
	CHECK(says("99") && says("speaks 1"));
}

TEST(driver_with_a_gap_in_its_table_is_refused_by_member)
{
	struct chip *chip = NULL;

	CHECK(chip_open(fixture("chip_gap"), 0, NULL, &chip) == -ELIBBAD && says("no load"));
	CHECK(chip_open(fixture("sim_kernels"), 0, NULL, &chip) == -ELIBBAD &&
	      says("dw_chip_driver_v1"));
	CHECK(chip_open("/proc/self/exe", 0, NULL, &chip) < 0);
	CHECK(chip_open("/etc/passwd", 0, NULL, &chip) == -ELIBBAD);
}

TEST(drivers_are_listed_once_and_sorted)
{
	char names[512];

	CHECK(dw_chip_driver_list(names, sizeof(names)) == 0);
	CHECK(strstr(names, "sim") != NULL);
	CHECK(dw_chip_driver_list(names, 2) == -ERANGE);
	CHECK(dw_chip_driver_list(NULL, 0) == -EINVAL);
}

TEST(devices_are_enumerated_with_options)
{
	struct dw_chip_properties properties[3];
	size_t count = 0;

	CHECK(dw_chip_enumerate("sim", NULL, NULL, sizeof(struct dw_chip_properties), &count) ==
		      0 &&
	      count == 64);
	count = 3;
	CHECK(dw_chip_enumerate("sim", "devices=2,cores=7", properties, sizeof(properties[0]),
				&count) == 0 &&
	      count == 2);
	CHECK(properties[1].cores == 7 && strcmp(properties[1].name, "sim1") == 0);
	count = 0;
	CHECK(dw_chip_enumerate("sim", "devices=x", NULL, sizeof(struct dw_chip_properties),
				&count) == -EINVAL &&
	      says("devices=x"));
	CHECK(dw_chip_enumerate("sim", NULL, NULL, sizeof(struct dw_chip_properties), NULL) ==
	      -EINVAL);
}

TEST(options_that_make_no_sense_are_named)
{
	static const struct { const char *options; int status; const char *part; } bad[] = {
		{ "colour=red", -EINVAL, "colour" },
		{ "memory", -EINVAL, "memory=VALUE" },
		{ "memory=12Q", -EINVAL, "12Q" },
		{ "memory=-1", -EINVAL, "-1" },
		{ "memory=99999999999T", -EINVAL, "memory" },
		{ "=3", -EINVAL, "key" },
		{ "cores=0", -EINVAL, "from 1" },
		{ "fail=0", -EINVAL, "fail=0" },
		{ "fail=3x", -EINVAL, "fail=3x" },
		{ "copy_fail=name", -EINVAL, "copy_fail" },
		{ "async=2", -EINVAL, "async" },
	};
	struct chip *chip = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(chip_open("sim", 0, bad[i].options, &chip) == bad[i].status &&
		      says(bad[i].part));
	CHECK(chip_open("sim", 64, NULL, &chip) == -ENODEV && says("64"));
	CHECK(chip_open("sim", 1, "devices=1", &chip) == -ENODEV && says("devices="));
	CHECK(chip == NULL);
}

TEST(option_values_may_hold_commas_and_units)
{
	const char *text = "a=1K,,b=x\\,y\\\\z,c=";
	struct dw_chip_error error = { "" };
	struct kit_option option;
	uint64_t number = 0;

	CHECK(kit_option_next(&text, &option, &error) == 1 && strcmp(option.key, "a") == 0);
	CHECK(kit_number(&option, 0, 4096, &number, &error) == 0 && number == 1024);
	CHECK(kit_number(&option, 0, 1023, &number, &error) == -EINVAL);
	CHECK(kit_option_next(&text, &option, &error) == 1 && strcmp(option.value, "x,y\\z") == 0);
	CHECK(kit_option_next(&text, &option, &error) == 1 && option.value[0] == '\0');
	CHECK(kit_option_next(&text, &option, &error) == 0);
}

TEST(images_are_kept_by_handle_through_loads_and_unloads)
{
	enum { IMAGES = 100 };
	struct chip *chip = NULL;
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .entry = "vector_add" };
	size_t bytes;
	void *data = file_read(fixture("sim_kernels"), &bytes);

	CHECK(chip_open("sim", 0, NULL, &chip) == 0);
	spec.data = data;
	spec.bytes = bytes;
	for (uint64_t i = 0; i < IMAGES; i++)
		CHECK(chip_image_load(chip, i * 64, &spec) == 0);
	CHECK(chip_image_load(chip, 64, &spec) == -EEXIST);
	for (uint64_t i = 0; i < IMAGES; i += 2)
		CHECK(chip_image_unload(chip, i * 64) == 0);
	for (uint64_t i = 0; i < IMAGES; i++)
		CHECK(chip_image_loaded(chip, i * 64) == (i % 2 == 1));
	CHECK(chip_image_unload(chip, 0) == -ENOENT);
	spec.bytes = 0;
	CHECK(chip_image_load(chip, 1, &spec) == -EINVAL);
	spec.size = 8;
	CHECK(chip_image_load(chip, 1, &spec) == -EINVAL);
	chip_close(chip);
	free(data);
}

TEST(arguments_that_make_no_sense_start_nothing)
{
	float data[4] = { 1, 2, 3, 4 };
	struct dw_tensor t[3] = { tensor1(data, DW_FLOAT32, 4), tensor1(data, DW_FLOAT32, 4),
				  tensor1(data, DW_FLOAT32, 4) };
	struct dw_args args = view(t, 3, NULL, 0);
	struct dw_config config = { .block_dim = -1 };
	volatile uint32_t cancelled = 1;
	struct chip_completion done;
	struct chip *chip = NULL;

	CHECK(chip_open("sim", 0, NULL, &chip) == 0);
	CHECK(chip_submit(chip, 5, &args, NULL, 0, NULL) == -ENOENT && says("0x5"));
	CHECK(fixture_load(chip, 5, "sim_kernels", "vector_add") == 0);
	CHECK(chip_submit(chip, 5, &args, &config, 0, NULL) == -EINVAL && says("block_dim"));
	config = (struct dw_config){ .aicpu_thread_num = -4 };
	CHECK(chip_submit(chip, 5, &args, &config, 0, NULL) == -EINVAL && says("aicpu_thread_num"));
	CHECK(chip_submit(chip, 5, &args, NULL, 0, &cancelled) == -ECANCELED);
	t[1].dtype = 33;
	CHECK(chip_submit(chip, 5, &args, NULL, 0, NULL) == -EINVAL);
	t[1].dtype = DW_FLOAT32;
	CHECK(chip_in_flight(chip) == 0 && chip_collect(chip, &done) == 0);
	CHECK(chip_submit(chip, 5, &args, NULL, 77, NULL) == 0);
	CHECK(chip_depth(chip) == 1 && chip_completion_fd(chip) == -1);
	CHECK(chip_submit(chip, 5, &args, NULL, 78, NULL) == -EBUSY);
	CHECK(chip_image_unload(chip, 5) == -EBUSY);
	CHECK(chip_collect(chip, &done) == 1 && done.cookie == 77 && done.status == 0);
	CHECK(done.started && done.ended >= done.started && done.text[0] == '\0');
	CHECK(chip_collect(chip, &done) == 0);
	chip_close(chip);
}

/* Deadlines are computed from these times; a driver's mistake must not end other tasks. */
TEST(times_of_another_clock_are_not_believed)
{
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .data = "x", .bytes = 1 };
	struct chip_completion completion;
	struct dw_args args = { 0 };
	struct timespec now;
	uint64_t before, after;
	struct chip *chip;

	for (uint32_t id = 0; id < 3; id++) {
		REQUIRE(chip_open(fixture("chip_clock"), id, NULL, &chip) == 0);
		CHECK(chip_image_load(chip, 1, &spec) == 0);
		for (int i = 0; i < 3; i++) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			before = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
			CHECK(chip_submit(chip, 1, &args, NULL, 7, NULL) == 0);
			CHECK(chip_collect(chip, &completion) == 1);
			clock_gettime(CLOCK_MONOTONIC, &now);
			after = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
			CHECK(before <= completion.started);
			CHECK(completion.started <= completion.ended);
			CHECK(completion.ended <= after);
		}
		chip_close(chip);
	}
}

/*
 * Failed before: "its driver said so in an earlier call". If that call was one of the cache, which
 * goes on without device memory, no task had the reason.
 */
TEST(each_call_to_a_lost_chip_tells_why_it_is_lost)
{
	float data[3][4] = { 0 };
	struct dw_tensor t[3] = { tensor1(data[0], DW_FLOAT32, 4), tensor1(data[1], DW_FLOAT32, 4),
				  tensor1(data[2], DW_FLOAT32, 4) };
	struct dw_args args = view(t, 3, NULL, 0);
	struct chip_completion done;
	struct chip *chip = NULL;

	REQUIRE(chip_open("sim", 0, "lost_after=1", &chip) == 0);
	CHECK(fixture_load(chip, 5, "sim_kernels", "vector_add") == 0);
	CHECK(chip_submit(chip, 5, &args, NULL, 1, NULL) == 0);
	CHECK(chip_collect(chip, &done) == 1 && done.status == 0);
	CHECK(chip_submit(chip, 5, &args, NULL, 2, NULL) == 0);
	CHECK(chip_collect(chip, &done) == 1 && done.status == -ENODEV);
	error_set(-EIO, "another");
	CHECK(chip_alloc(chip, 4096, 64) == -ENODEV && says("chip sim:0 is lost"));
	CHECK(says("sim device 0 is lost (driver option lost_after=1)"));
	error_set(-EIO, "another");
	CHECK(chip_submit(chip, 5, &args, NULL, 3, NULL) == -ENODEV && says("chip sim:0 is lost"));
	CHECK(says("sim device 0 is lost (driver option lost_after=1)"));
	chip_close(chip);
}
