// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Tensors, arguments, and their wire format, byte by byte. */
#include <errno.h>
#include <stdalign.h>
#include "task/error.h"
#include "task/task.h"
#include "unit.h"

static struct dw_tensor tensor(uint64_t data, int dtype, uint32_t elements)
{
	struct dw_tensor made = { .data = data, .shape = { elements }, .ndims = 1,
				  .dtype = (uint8_t)dtype };

	return made;
}

TEST(dtypes_have_the_reference_systems_numbers_and_sizes)
{
	static const struct { int dtype, bytes; const char *name; } wanted[] = {
		{ 0, 4, "float32" }, { 1, 2, "float16" }, { 2, 4, "int32" }, { 3, 2, "int16" },
		{ 4, 1, "int8" }, { 5, 1, "uint8" }, { 6, 2, "bfloat16" }, { 7, 8, "int64" },
		{ 8, 8, "uint64" }, { 64, 8, "float64" }, { 65, 2, "uint16" }, { 66, 4, "uint32" },
		{ 67, 1, "bool" },
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		CHECK_EQ(dw_dtype_bytes(wanted[i].dtype), wanted[i].bytes);
		CHECK(!strcmp(dw_dtype_name(wanted[i].dtype), wanted[i].name));
	}
	for (int i = 9; i < 64; i++)
		CHECK_EQ(dw_dtype_bytes(i), 0);
	CHECK_EQ(dw_dtype_bytes(-1), 0);
	CHECK_EQ(dw_dtype_bytes(68), 0);
	CHECK_EQ(dw_dtype_bytes(INT32_MAX), 0);
	CHECK(!strcmp(dw_dtype_name(9), "unknown"));
	CHECK(!strcmp(dw_dtype_name(-1), "unknown"));
}

TEST(tensor_bytes_of_0_to_5_dimensions)
{
	uint32_t shape[5] = { 2, 3, 5, 7, 11 };
	struct dw_tensor made;
	uint64_t bytes, wanted = 4;

	for (uint32_t n = 0; n <= 5; n++) {
		CHECK_EQ(dw_tensor_init(&made, NULL, DW_FLOAT32, shape, n), 0);
		CHECK_EQ(dw_tensor_bytes(&made, &bytes), 0);
		CHECK_EQ(bytes, wanted);
		CHECK_EQ(made.ndims, n);
		if (n < 5)
			wanted *= shape[n];
	}
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_FLOAT32, NULL, 0), 0);
}

TEST(tensors_that_make_no_sense_are_refused_and_outputs_left_alone)
{
	uint32_t huge[5] = { UINT32_MAX, UINT32_MAX, UINT32_MAX, 1, 1 };
	uint32_t zero[5] = { UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 1 };
	uint32_t limit[2] = { 1u << 31, 1u << 30 };
	struct dw_tensor made, before;
	uint64_t bytes = 4711;

	memset(&made, 0xcc, sizeof(made));
	before = made;
	CHECK_EQ(dw_tensor_init(&made, NULL, 9, huge, 1), -EINVAL);
	CHECK_STR(dw_strerror_last(), "type 9");
	CHECK_EQ(dw_tensor_init(&made, NULL, -1, huge, 1), -EINVAL);
	CHECK_EQ(dw_tensor_init(&made, NULL, 256, huge, 1), -EINVAL);
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_INT8, huge, 6), -EINVAL);
	CHECK_STR(dw_strerror_last(), "ndims is 6");
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_INT8, huge, 3), -EINVAL);
	CHECK_STR(dw_strerror_last(), "shape");
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_INT64, limit, 2), -EINVAL);
	CHECK_EQ(dw_tensor_init(&made, (void *)(uintptr_t)-4, DW_INT8, huge, 1), -EINVAL);
	CHECK_STR(dw_strerror_last(), "address space");
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_INT8, NULL, 1), -EINVAL);
	CHECK(!memcmp(&made, &before, sizeof(made)));

	/* A dimension of 0 makes the tensor empty, with any others. */
	CHECK_EQ(dw_tensor_init(&made, NULL, DW_INT8, zero, 5), 0);
	CHECK_EQ(dw_tensor_bytes(&made, &bytes), 0);
	CHECK_EQ(bytes, 0);

	bytes = 4711;
	made.dtype = 63;
	CHECK_EQ(dw_tensor_bytes(&made, &bytes), -EINVAL);
	CHECK_EQ(bytes, 4711);
	made = tensor(0, DW_INT8, 1);
	made.reserved[6] = 1;
	CHECK_EQ(tensor_check(&made, 3, &bytes), -EINVAL);
	CHECK_STR(dw_strerror_last(), "tensor 3: reserved");
}

TEST(slices_are_views_of_dimension_0)
{
	uint32_t shape[2] = { 10, 3 };
	struct dw_tensor whole, view;
	uint64_t bytes;

	CHECK_EQ(dw_tensor_init(&whole, (void *)4096, DW_INT16, shape, 2), 0);
	CHECK_EQ(dw_tensor_slice(&whole, 4, 5, &view), 0);
	CHECK_EQ(view.data, 4096 + 4 * 6);
	CHECK_EQ(view.shape[0], 5);
	CHECK_EQ(view.shape[1], 3);
	CHECK_EQ(dw_tensor_bytes(&view, &bytes), 0);
	CHECK_EQ(bytes, 30);
	CHECK_EQ(dw_tensor_slice(&whole, 10, 0, &view), 0);
	CHECK_EQ(view.data, 4096 + 60);
	CHECK_EQ(dw_tensor_slice(&whole, 10, 1, &view), -ERANGE);
	CHECK_STR(dw_strerror_last(), "[10, 11)");
	CHECK_EQ(dw_tensor_slice(&whole, UINT32_MAX, UINT32_MAX, &view), -ERANGE);
	whole.ndims = 0;
	CHECK_EQ(dw_tensor_slice(&whole, 0, 1, &view), -ERANGE);
	/* In place. */
	whole.ndims = 2;
	CHECK_EQ(dw_tensor_slice(&whole, 1, 2, &whole), 0);
	CHECK_EQ(whole.data, 4096 + 6);
	whole.shape[0] = 0;
	CHECK_EQ(dw_tensor_slice(&whole, 0, 0, &view), 0);
}

TEST(the_wire_format_is_exact_to_the_byte)
{
	static const unsigned char wanted[8 + 2 * 40 + 2 * 8] = {
		2, 0, 0, 0, 2, 0, 0, 0,
		/* tensor 0 */
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0,
		5, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
		/* tensor 1 */
		0, 0, 0, 0, 0, 0, 0, 0,
		9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0,
		/* scalars */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0, 0, 0, 0, 0, 0, 0xf8, 0x3f,
	};
	struct dw_tensor full = { .data = 0x1122334455667788, .shape = { 1, 2, 3, 4, 5 },
				  .ndims = 5, .dtype = DW_INT64 };
	struct dw_tensor empty = tensor(0, DW_FLOAT64, 9);
	alignas(8) unsigned char blob[sizeof(wanted) + 8];
	struct dw_args *args, view;

	CHECK_EQ(dw_args_create(&args), 0);
	CHECK_EQ(dw_args_add_tensor(args, &full, DW_INPUT), 0);
	CHECK_EQ(dw_args_add_scalar(args, UINT64_MAX), 0);
	CHECK_EQ(dw_args_add_tensor(args, &empty, DW_OUTPUT), 0);
	CHECK_EQ(dw_args_add_double(args, 1.5), 0);
	CHECK_EQ(wire_bytes(args), sizeof(wanted));
	memset(blob, 0xcc, sizeof(blob));
	wire_encode(args, blob);
	CHECK(!memcmp(blob, wanted, sizeof(wanted)));
	CHECK_EQ(blob[sizeof(wanted)], 0xcc);

	memset(&view, 0xcc, sizeof(view));
	CHECK_EQ(wire_decode(blob, sizeof(wanted), &view), 0);
	CHECK_EQ(dw_args_tensor_count(&view), 2);
	CHECK_EQ(dw_args_scalar_count(&view), 2);
	CHECK(!memcmp(dw_args_tensor(&view, 0), &full, sizeof(full)));
	CHECK(!memcmp(dw_args_tensor(&view, 1), &empty, sizeof(empty)));
	CHECK(dw_args_tensor(&view, 2) == NULL);
	CHECK_EQ((uintptr_t)dw_args_data(&view, 0), 0x1122334455667788);
	CHECK(dw_args_data(&view, 2) == NULL);
	CHECK_EQ(dw_args_int(&view, 0), -1);
	CHECK(dw_args_double(&view, 1) == 1.5);
	CHECK_EQ(dw_args_scalar(&view, 2), 0);
	CHECK(view.tags == NULL);
	/* A view is never changed. */
	CHECK_EQ(dw_args_add_tensor(&view, &full, DW_INPUT), -EPERM);
	CHECK_EQ(dw_args_add_scalar(&view, 1), -EPERM);
	args_release(&view);
	dw_args_destroy(args);
}

TEST(no_arguments_are_eight_zero_bytes)
{
	alignas(8) unsigned char blob[8];
	struct dw_args args, view;

	args_init(&args);
	CHECK_EQ(wire_bytes(&args), 8);
	memset(blob, 0xcc, sizeof(blob));
	wire_encode(&args, blob);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(blob[i], 0);
	CHECK_EQ(wire_decode(blob, 8, &view), 0);
	CHECK_EQ(dw_args_tensor_count(&view), 0);
	CHECK_EQ(dw_args_scalar_count(&view), 0);
	args_release(&args);
}

TEST(blobs_are_made_and_read_by_programs)
{
	char blob[256], small[8] = "abcdefg";
	struct dw_tensor in = tensor(0x1000, DW_INT16, 7), bad = tensor(0x1000, DW_INT16, 7);
	struct dw_args *args, *read;
	size_t bytes = 0;

	REQUIRE(dw_args_create(&args) == 0 && dw_args_create(&read) == 0);
	CHECK_EQ(dw_args_add_tensor(args, &in, DW_OUTPUT), 0);
	for (uint64_t i = 0; i < 12; i++)
		CHECK_EQ(dw_args_add_scalar(args, i * i), 0);
	CHECK_EQ(dw_args_to_blob(args, NULL, &bytes), 0);
	CHECK_EQ(bytes, 8 + 40 + 12 * 8);
	bytes = sizeof(small);
	CHECK_EQ(dw_args_to_blob(args, small, &bytes), 0);
	CHECK_EQ(bytes, 8 + 40 + 12 * 8);
	CHECK(!strcmp(small, "abcdefg"));
	/* At an odd address. */
	bytes = sizeof(blob) - 1;
	CHECK_EQ(dw_args_to_blob(args, blob + 1, &bytes), 0);
	CHECK_EQ(bytes, 8 + 40 + 12 * 8);
	CHECK_EQ(dw_args_add_scalar(read, 77), 0);
	CHECK_EQ(dw_args_from_blob(blob + 1, bytes, read), 0);
	CHECK_EQ(dw_args_tensor_count(read), 1);
	CHECK_EQ(dw_args_scalar_count(read), 12);
	CHECK(!memcmp(dw_args_tensor(read, 0), &in, sizeof(in)));
	for (uint64_t i = 0; i < 12; i++)
		CHECK_EQ(dw_args_scalar(read, i), i * i);
	CHECK_EQ(read->tags[0], DW_INPUT);
	/* A refused blob changes nothing. */
	CHECK_EQ(dw_args_from_blob(blob + 1, bytes - 1, read), -EBADMSG);
	CHECK_EQ(dw_args_from_blob(blob + 1, 7, read), -EBADMSG);
	bad.ndims = 6;
	memcpy(blob + 1 + 8, &bad, sizeof(bad));
	CHECK_EQ(dw_args_from_blob(blob + 1, bytes, read), -EINVAL);
	memset(blob + 1, 0xff, 4);
	CHECK_EQ(dw_args_from_blob(blob + 1, bytes, read), -EBADMSG);
	CHECK_EQ(dw_args_scalar_count(read), 12);
	CHECK_EQ(dw_args_from_blob(NULL, 8, read), -EINVAL);
	CHECK_EQ(dw_args_from_blob(blob, 8, NULL), -EINVAL);
	CHECK_EQ(dw_args_to_blob(NULL, blob, &bytes), -EINVAL);
	CHECK_EQ(dw_args_to_blob(args, blob, NULL), -EINVAL);
	CHECK_EQ(dw_args_to_blob(args, NULL, &bytes), -EINVAL);
	read->view = true;
	CHECK_EQ(dw_args_from_blob(blob, 8, read), -EPERM);
	read->view = false;
	dw_args_destroy(args);
	dw_args_destroy(read);
}

TEST(hostile_blobs_are_refused)
{
	alignas(8) int32_t blob[16] = { 0 };
	struct dw_args view;
	static const struct { int32_t tensors, scalars; uint64_t bytes; } bad[] = {
		{ 0, 0, 0 }, { 0, 0, 7 }, { 0, 0, 9 }, { 0, 0, UINT64_MAX },
		{ -1, 0, 8 }, { 0, -1, 8 }, { -1, 5, 8 }, { INT32_MIN, INT32_MIN, 8 },
		{ 1, 0, 8 }, { 1, 0, 47 }, { 1, 0, 49 }, { 0, 1, 15 }, { 0, 1, 17 },
		{ INT32_MAX, INT32_MAX, 8 }, { INT32_MAX, INT32_MAX, 64 },
		/* Products that would wrap at 32 bits to the given size. */
		{ 107374183, 0, 48 }, { 0, 536870912, 8 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		blob[0] = bad[i].tensors;
		blob[1] = bad[i].scalars;
		if (!CHECK_EQ(wire_decode(blob, bad[i].bytes, &view), -EBADMSG))
			printf("# case %zu\n", i);
	}
	blob[0] = blob[1] = 0;
	CHECK_EQ(wire_decode((char *)blob + 4, 8, &view), -EBADMSG);
	CHECK_STR(dw_strerror_last(), "aligned");
}

TEST(arguments_outgrow_the_object_and_keep_everything)
{
	enum { COUNT = 5000 };
	struct dw_args *args, view;
	void *blob;

	CHECK_EQ(dw_args_create(&args), 0);
	for (int round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			struct dw_tensor one = tensor(i * 64, DW_INT8, i);

			CHECK_EQ(dw_args_add_tensor(args, &one, (enum dw_tag)(i % 5)), 0);
			CHECK_EQ(dw_args_add_int(args, -(int64_t)i), 0);
		}
		blob = malloc(wire_bytes(args));
		REQUIRE(blob);
		wire_encode(args, blob);
		CHECK_EQ(wire_decode(blob, wire_bytes(args), &view), 0);
		CHECK_EQ(dw_args_tensor_count(&view), COUNT);
		for (uint32_t i = 0; i < COUNT; i++) {
			CHECK_EQ(dw_args_tensor(&view, i)->data, i * 64);
			CHECK_EQ(args->tags[i], i % 5);
			CHECK_EQ(dw_args_int(&view, i), -(int64_t)i);
		}
		free(blob);
		dw_args_reset(args);
		CHECK_EQ(dw_args_tensor_count(args), 0);
	}
	dw_args_destroy(args);
	dw_args_destroy(NULL);
	dw_args_reset(NULL);
	CHECK_EQ(dw_args_tensor_count(NULL), 0);
	CHECK_EQ(dw_args_scalar(NULL, 0), 0);
}

TEST(bad_arguments_are_refused_at_the_call_that_made_them)
{
	struct dw_tensor good = tensor(64, DW_INT8, 1), bad = good;
	struct dw_args *args;

	CHECK_EQ(dw_args_create(NULL), -EINVAL);
	CHECK_EQ(dw_args_create(&args), 0);
	CHECK_EQ(dw_args_add_tensor(args, &good, DW_INPUT), 0);
	CHECK_EQ(dw_args_add_tensor(args, &good, (enum dw_tag)5), -EINVAL);
	CHECK_STR(dw_strerror_last(), "tensor 1: tag 5");
	CHECK_EQ(dw_args_add_tensor(args, &good, (enum dw_tag)-1), -EINVAL);
	CHECK_EQ(dw_args_add_tensor(args, NULL, DW_INPUT), -EINVAL);
	CHECK_EQ(dw_args_add_tensor(NULL, &good, DW_INPUT), -EINVAL);
	CHECK_EQ(dw_args_add_scalar(NULL, 1), -EINVAL);
	bad.dtype = 200;
	CHECK_EQ(dw_args_add_tensor(args, &bad, DW_INPUT), -EINVAL);
	CHECK_STR(dw_strerror_last(), "tensor 1: element type 200");
	CHECK_EQ(dw_args_tensor_count(args), 1);
	dw_args_destroy(args);
}

TEST(the_version_is_the_one_of_the_file)
{
	CHECK(!strcmp(dw_version(), DW_VERSION));
}
