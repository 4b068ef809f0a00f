/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shared by the tests of the pto driver: the options of the stand-in runtimes, the images that they
 * expect, in the format of today and in the one before it, and calls straight to the driver.
 */
#ifndef TESTS_UNIT_PTO_TEST_H
#define TESTS_UNIT_PTO_TEST_H

#include "unit.h"
#include "chip_test.h"
#include "pto_objects.h"

static char pto_options_text[8 * PATH_MAX], pto_log_path[PATH_MAX];

static inline void pto_file_write(const char *path, const void *data, size_t bytes)
{
	FILE *file = fopen(path, "wb");

	if (!CHECK(file && fwrite(data, 1, bytes, file) == bytes))
		abort();
	fclose(file);
}

/* Writes the blobs, and returns options that name them all; `runtime` is a fixture. */
static inline const char *pto_options(const char *runtime, const char *mode)
{
	static char folder[PATH_MAX];
	char path[2 * PATH_MAX];

	if (!folder[0])
		snprintf(folder, sizeof(folder), "%.4000s", test_folder());
	snprintf(path, sizeof(path), "%s/%s_aicpu.bin", folder, runtime);
	pto_file_write(path, "the aicpu binary", 16);
	snprintf(path, sizeof(path), "%s/%s_aicore.bin", folder, runtime);
	pto_file_write(path, "the aicore binary, longer", 25);
	snprintf(pto_options_text, sizeof(pto_options_text),
		 "host=%s/fixtures/%s.so,aicpu=%s/%s_aicpu.bin,aicore=%s/%s_aicore.bin,"
		 "sim_context=%s/fixtures/pto_context.so",
		 folder, runtime, folder, runtime, folder, runtime, folder);
	snprintf(pto_log_path, sizeof(pto_log_path), "%.4000s/%s_log.txt", folder, runtime);
	unlink(pto_log_path);
	setenv("PTO_LOG", pto_log_path, 1);
	setenv("PTO_MODE", mode, 1);
	unsetenv("PTO_FORM");
	unsetenv("PTO_SET");
	return pto_options_text;
}

/* The same with further options. */
static inline const char *pto_options_more(const char *runtime, const char *mode, const char *more)
{
	pto_options(runtime, mode);
	strncat(pto_options_text, more,
		sizeof(pto_options_text) - strlen(pto_options_text) - 1);
	return pto_options_text;
}

static inline const char *pto_log_text(void)
{
	static char text[1 << 20];
	size_t bytes;
	char *data = file_read(pto_log_path, &bytes);

	snprintf(text, sizeof(text), "%.*s", (int)bytes, data ? data : "");
	free(data);
	return text;
}

/* Counts the lines of the log that begin with this text. */
static inline unsigned int pto_log_count(const char *line)
{
	unsigned int count = 0;

	for (const char *at = pto_log_text(); at && *at; at = strchr(at, '\n') ?
						      strchr(at, '\n') + 1 : NULL)
		count += strncmp(at, line, strlen(line)) == 0;
	return count;
}

/* ------------------------------------------------------------------ images */

/* What the orchestration object exports. */
static const char *pto_exports = "orchestrate configure";

struct builder {
	struct dw_pto_image_options options;
	struct dw_pto_core *cores;
	size_t children;
	int32_t signature[300];
};

/* The image that the stand-ins expect. */
static inline struct builder *builder_create(size_t orchestration_bytes, size_t children,
					     size_t arguments)
{
	static const int32_t core_signature[2] = { DW_DIR_IN, DW_DIR_OUT };
	struct builder *builder = calloc(1, sizeof(*builder));

	builder->children = children;
	builder->cores = calloc(children + 1, sizeof(*builder->cores));
	builder->signature[0] = builder->signature[1] = DW_DIR_IN;
	builder->signature[2] = DW_DIR_OUT;
	for (size_t i = 0; i < children; i++)
		builder->cores[i] = (struct dw_pto_core){
			.size = sizeof(struct dw_pto_core), .function = (int32_t)i,
			.data = pto_object_make("kernel_entry", 600 + 7 * i, (unsigned int)i),
			.bytes = 600 + 7 * i, .signature = core_signature, .signature_count = 2,
		};
	builder->options = (struct dw_pto_image_options){
		.size = sizeof(builder->options),
		.data = pto_object_make(pto_exports, orchestration_bytes, 0),
		.bytes = orchestration_bytes, .entry = "orchestrate", .config_entry = "configure",
		.signature = builder->signature, .signature_count = arguments,
		.cores = builder->cores, .core_count = children,
	};
	return builder;
}

static inline void builder_free(struct builder *builder)
{
	for (size_t i = 0; i < builder->children; i++)
		free((void *)(uintptr_t)builder->cores[i].data);
	free(builder->cores);
	free((void *)(uintptr_t)builder->options.data);
	free(builder);
}

static inline void pto_put32(unsigned char *at, uint64_t value)
{
	uint32_t word = (uint32_t)value;

	memcpy(at, &word, sizeof(word));
}

/* The image that the previous builder made; it checked no symbols. malloc'ed. */
static inline unsigned char *builder_old_format(const struct builder *builder, size_t *bytes)
{
	const struct dw_pto_image_options *o = &builder->options;
	uint64_t end = o->bytes, offsets[32] = { 0 };
	unsigned char *image, *core;

	for (size_t i = 0; i < o->core_count; i++) {
		offsets[i] = (end + 63) / 64 * 64;
		end = offsets[i] + 128 + builder->cores[i].bytes;
	}
	*bytes = 468 + end;
	image = calloc(1, *bytes);
	memcpy(image, o->signature, o->signature_count * 4);
	pto_put32(image + 64, o->signature_count);
	pto_put32(image + 68, o->bytes);
	strcpy((char *)image + 72, o->entry);
	pto_put32(image + 136, strlen(o->entry));
	pto_put32(image + 396, o->core_count);
	if (o->config_entry) {
		strcpy((char *)image + 400, o->config_entry);
		pto_put32(image + 464, strlen(o->config_entry));
	}
	memcpy(image + 468, o->data, o->bytes);
	for (size_t i = 0; i < o->core_count; i++) {
		pto_put32(image + 140 + 4 * i, (uint32_t)builder->cores[i].function);
		pto_put32(image + 268 + 4 * i, offsets[i]);
		core = image + 468 + offsets[i];
		memcpy(core, builder->cores[i].signature, builder->cores[i].signature_count * 4);
		pto_put32(core + 64, builder->cores[i].signature_count);
		pto_put32(core + 68, builder->cores[i].bytes);
		memcpy(core + 128, builder->cores[i].data, builder->cores[i].bytes);
	}
	return image;
}

static inline int builder_load(struct chip *chip, uint64_t key, const struct builder *builder,
			       bool old_format)
{
	void *image = NULL;
	size_t bytes = 0;
	int status = 0;

	if (old_format)
		image = builder_old_format(builder, &bytes);
	else
		status = dw_pto_image_build(&builder->options, &image, &bytes);
	if (status == 0)
		status = image_load_bytes(chip, key, image, bytes, NULL, NULL, 0);
	free(image);
	return status;
}

static inline int pto_image_load(struct chip *chip, uint64_t key, size_t orchestration_bytes,
				 size_t children)
{
	struct builder *builder = builder_create(orchestration_bytes, children, 9);
	int status = builder_load(chip, key, builder, getenv("PTO_TEST_OLD_IMAGES"));

	builder_free(builder);
	return status;
}

/* ------------------------------------------------------------- the driver alone */

/*
 * Calls the driver directly, without the library's chip layer, which fills in defaults and checks
 * types: the driver gets calls unchanged.
 */
struct bare {
	struct chip_driver driver;
	struct dw_chip_device *device;
	struct dw_chip_image *image;
	struct dw_chip_error error;
};

static inline int bare_load(struct bare *bare, const struct builder *builder)
{
	struct dw_chip_image_spec spec = { .size = sizeof(spec), .name = "bare" };
	void *image = NULL;
	int status = dw_pto_image_build(&builder->options, &image, &spec.bytes);

	bare->error.text[0] = '\0';
	spec.data = image;
	if (status == 0)
		status = bare->driver.table.load(bare->device, &spec, &bare->image, &bare->error);
	free(image);
	return status;
}

static inline bool bare_open(struct bare *bare, const char *options, const struct builder *builder)
{
	memset(bare, 0, sizeof(*bare));
	if (!CHECK_EQ(chip_driver_load("pto", &bare->driver), 0) ||
	    !CHECK_EQ(bare->driver.table.open(3, options, &bare->device, &bare->error), 0) ||
	    !CHECK_EQ(bare_load(bare, builder), 0)) {
		printf("# %s\n", bare->error.text);
		return false;
	}
	return true;
}

static inline int bare_run(struct bare *bare, const struct dw_tensor *tensors, size_t tensor_count,
			   const uint64_t *scalars, size_t scalar_count, struct dw_config config)
{
	static const volatile uint32_t never;
	uint64_t bytes[300] = { 0 };
	struct dw_chip_call call = {
		.size = sizeof(call), .image = bare->image, .tensors = tensors,
		.tensor_bytes = bytes, .tensor_count = tensor_count, .scalars = scalars,
		.scalar_count = scalar_count, .config = config, .cancelled = &never,
	};

	for (size_t i = 0; i < tensor_count; i++) {
		uint64_t elements = 1;

		for (uint32_t j = 0; j < tensors[i].ndims; j++)
			elements *= tensors[i].shape[j];
		/* Types that the library does not know have one byte. */
		bytes[i] = elements * (dw_dtype_bytes(tensors[i].dtype) ?
				       dw_dtype_bytes(tensors[i].dtype) : 1);
	}
	bare->error.text[0] = '\0';
	return bare->driver.table.run(bare->device, &call, &bare->error);
}

static inline void bare_close(struct bare *bare)
{
	if (bare->image)
		bare->driver.table.unload(bare->device, bare->image);
	bare->driver.table.close(bare->device);
}

#endif
