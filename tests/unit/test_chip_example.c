/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The example driver of docs/examples/chip-driver, used like a third-party driver. */
#include "unit.h"
#include "chip_test.h"

static struct chip *calc(const char *formula)
{
	char path[PATH_MAX + 64];
	struct chip *chip = NULL;

	snprintf(path, sizeof(path), "%s/../../examples/libdistworker-chip-calc.so", test_folder());
	if (!CHECK_EQ(chip_open(path, 0, NULL, &chip), 0)) {
		printf("# %s\n", error_text());
		return NULL;
	}
	if (formula)
		CHECK_EQ(image_load_bytes(chip, 1, formula, strlen(formula), NULL, NULL, 0), 0);
	return chip;
}

TEST(example_driver_computes)
{
	float x[3] = { 1, 2, 3 }, y[3] = { 10, 20, 30 }, out[3] = { 0 };
	struct dw_tensor t[3] = { tensor1(x, DW_FLOAT32, 3), tensor1(y, DW_FLOAT32, 3),
				  tensor1(out, DW_FLOAT32, 3) };
	struct chip *chip = calc("0 1 + 0 *");
	struct dw_chip_counters counters;

	REQUIRE(chip);
	CHECK(strcmp(chip_properties(chip)->name, "calc0") == 0);
	CHECK_EQ(chip_call(chip, 1, t, 3, NULL, 0, 1), 0);
	CHECK(out[0] == 11 && out[1] == 44 && out[2] == 99);
	CHECK_EQ(chip_counters(chip, &counters), 0);
	CHECK(counters.calls == 1);
	chip_close(chip);
}

TEST(example_driver_words_its_errors)
{
	static const struct { const char *formula, *part; } bad[] = {
		{ "0 +", "has 1 operands" }, { "0 1", "leaves 2 values" }, { "0 x", "\"x\"" },
	};
	double wide[2];
	float x[2];
	struct dw_tensor t[2] = { tensor1(x, DW_FLOAT32, 2), tensor1(x, DW_INT32, 2) };
	struct chip *chip = calc("0");

	REQUIRE(chip);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(image_load_bytes(chip, 2, bad[i].formula, strlen(bad[i].formula), NULL,
					  NULL, 0),
			 -ELIBBAD);
		CHECK_STR(error_text(), bad[i].part);
	}
	CHECK_EQ(chip_call(chip, 1, t, 1, NULL, 0, 1), -EINVAL);
	CHECK_STR(error_text(), "1 input tensors");
	CHECK_EQ(chip_call(chip, 1, t, 2, NULL, 0, 1), -ENOTSUP);
	t[1] = tensor1(x, DW_FLOAT32, 1);
	CHECK_EQ(chip_call(chip, 1, t, 2, NULL, 0, 1), -EINVAL);
	/* The library refuses the types that the driver does not claim. */
	t[1] = tensor1(wide, DW_FLOAT64, 2);
	CHECK_EQ(chip_call(chip, 1, t, 2, NULL, 0, 1), -ENOTSUP);
	CHECK_STR(error_text(), "float64");
	CHECK_EQ(chip_alloc(chip, 0x1000, 8), -EOPNOTSUPP);
	chip_close(chip);
}
