/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Builds images of the `pto` driver from an orchestration object and core
 * objects. No state, any thread; its arguments are only read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "chip/pto_image.h"
#include "chip/pto_object.h"
#include "distworker/chip.h"
#include "task/error.h"
#include "task/options.h"

/* The interfaces have 32-bit sizes and offsets; the rest is room for their headers. */
#define IMAGE_BYTES_MAX (UINT32_MAX - (1u << 20))

static int signature_check(const char *whose, const int32_t *signature, size_t count, size_t most)
{
	if (count > most)
		return error_set(
			-E2BIG,
			"pto image: the signature of %s has %zu arguments, the interface has room "
			"for %zu",
			whose, count, most);
	if (count && !signature)
		return error_set(-EINVAL,
				 "pto image: the signature of %s is NULL and has %zu arguments",
				 whose, count);
	for (size_t i = 0; i < count; i++)
		if (signature[i] < DW_DIR_SCALAR || signature[i] > DW_DIR_INOUT)
			return error_set(
				-EINVAL,
				"pto image: direction %d of argument %zu of %s is none of SCALAR "
				"0, IN 1, OUT 2, INOUT 3",
				signature[i], i, whose);
	return 0;
}

static int name_check(const char *which, const char *name)
{
	if (strlen(name) >= PTO_NAME_BYTES)
		return error_set(
			-E2BIG,
			"pto image: the %s name \"%s\" has %zu bytes, at most %d are possible",
			which, text_short(name), strlen(name), PTO_NAME_BYTES - 1);
	return 0;
}

/* A missing entry would hang the runtime. */
static int entry_check(const struct dw_pto_image_options *options, const char *which,
		       const char *entry)
{
	struct pto_symbols symbols;
	char list[160];

	if (!pto_object_symbols(options->data, options->bytes, &symbols))
		return error_set(
			-ELIBBAD,
			"pto image: the orchestration object of %zu bytes is no shared object "
			"(64-bit ELF with dynamic symbols): the %s \"%s\" cannot be looked up in "
			"it",
			options->bytes, which, entry);
	if (!pto_symbols_have(&symbols, entry))
		return error_set(
			-ESRCH,
			"pto image: the orchestration object does not export its %s \"%s\"; it "
			"exports %s",
			which, entry, pto_symbols_list(&symbols, list, sizeof(list)));
	return 0;
}

/*
 * A core object with dynamic symbols is one for a simulator, which calls PTO_CORE_ENTRY. One for
 * the hardware has no such symbols.
 */
static int core_object_check(const struct dw_pto_core *core)
{
	struct pto_symbols symbols;
	char list[160];

	if (!pto_object_symbols(core->data, core->bytes, &symbols) ||
	    pto_symbols_have(&symbols, PTO_CORE_ENTRY))
		return 0;
	return error_set(-ESRCH,
			 "pto image: the object of core function %d does not export "
			 "\"" PTO_CORE_ENTRY "\", which a simulator calls; it exports %s",
			 core->function, pto_symbols_list(&symbols, list, sizeof(list)));
}

static int core_check(const struct dw_pto_core *core)
{
	char whose[32];
	int status;

	if (core->function < 0 || core->function > PTO_FUNCTION_MAX)
		return error_set(core->function < 0 ? -EINVAL : -E2BIG,
				 "pto image: function id %d: 0 to %d are possible (0 to 31 with "
				 "a runtime of the old interface)",
				 core->function, PTO_FUNCTION_MAX);
	if (!core->data || core->bytes == 0)
		return error_set(-EINVAL, "pto image: core function %d has no object",
				 core->function);
	if (core->bytes > IMAGE_BYTES_MAX)
		return error_set(
			-E2BIG,
			"pto image: the object of core function %d has %zu bytes, at most %u are "
			"possible",
			core->function, core->bytes, IMAGE_BYTES_MAX);
	snprintf(whose, sizeof(whose), "core function %d", core->function);
	status = signature_check(whose, core->signature, core->signature_count,
				 PTO_CORE_SIGNATURE_MAX);
	return status ? status : core_object_check(core);
}

static int options_check(const struct dw_pto_image_options *options)
{
	int status;

	if (!options->data || options->bytes == 0)
		return error_set(-EINVAL, "pto image: there is no orchestration object");
	if (options->bytes > IMAGE_BYTES_MAX)
		return error_set(
			-E2BIG,
			"pto image: the orchestration object has %zu bytes, at most %u are "
			"possible",
			options->bytes, IMAGE_BYTES_MAX);
	if (!options->entry || !options->entry[0])
		return error_set(-EINVAL, "pto image: the orchestration's entry has no name");
	if (options->core_count > PTO_CORES_MAX)
		return error_set(-E2BIG,
				 "pto image: there are %zu core functions, at most %d are possible",
				 options->core_count, PTO_CORES_MAX);
	if (options->core_count && !options->cores)
		return error_set(-EINVAL, "pto image: cores is NULL and core_count %zu",
				 options->core_count);
	status = name_check("entry", options->entry);
	if (status == 0 && options->config_entry)
		status = name_check("config entry", options->config_entry);
	if (status == 0)
		status = signature_check("the call", options->signature, options->signature_count,
					 PTO_SIGNATURE_MAX);
	if (status == 0)
		status = entry_check(options, "entry", options->entry);
	if (status == 0 && options->config_entry && options->config_entry[0])
		status = entry_check(options, "config entry", options->config_entry);
	return status;
}

/* All elements have the size that the first one says. */
static int cores_read(const struct dw_pto_image_options *options, struct dw_pto_core *cores)
{
	const char *element = (const char *)options->cores;
	uint16_t given[PTO_FUNCTION_MAX + 1] = { 0 };	/* core function + 1 */
	int status = 0;

	for (size_t i = 0; i < options->core_count && status == 0; i++) {
		size_t size = ((const struct dw_pto_core *)element)->size;

		if (size != options->cores->size)
			return error_set(
				-EINVAL,
				"pto image: the size of core function %zu is %zu and that of the "
				"first %zu; "
				"it should be sizeof(struct dw_pto_core)",
				i, size, options->cores->size);
		status = options_read(&cores[i], sizeof(cores[i]), element, "dw_pto_core");
		if (status == 0)
			status = core_check(&cores[i]);
		if (status == 0 && given[cores[i].function])
			status = error_set(
				-EINVAL,
				"pto image: function id %d is given twice, to core functions %d "
				"and %zu",
				cores[i].function, given[cores[i].function] - 1, i);
		if (status == 0)
			given[cores[i].function] = (uint16_t)(i + 1);
		element += size;
	}
	return status;
}

/* Reserves `bytes` of the image at *end, and returns their offset. */
static uint64_t place(uint64_t *end, uint64_t bytes, uint64_t align)
{
	uint64_t offset = (*end + align - 1) & ~(align - 1);

	*end = offset + bytes;
	return offset;
}

/* Lays the image out and returns its size; sizes of objects are below 2^32. */
static uint64_t lay_out(const struct dw_pto_image_options *options,
			const struct dw_pto_core *cores, struct pto_image_header *header,
			struct pto_image_core *entries)
{
	uint64_t end = sizeof(*header);

	header->cores = place(&end, options->core_count * sizeof(*entries), 8);
	header->signature = place(&end, options->signature_count * sizeof(int32_t), 8);
	for (size_t i = 0; i < options->core_count; i++)
		entries[i].signature = place(&end, cores[i].signature_count * sizeof(int32_t), 8);
	header->object = place(&end, options->bytes, PTO_IMAGE_ALIGN);
	for (size_t i = 0; i < options->core_count; i++)
		entries[i].object = place(&end, cores[i].bytes, PTO_IMAGE_ALIGN);
	header->bytes = end;
	return end;
}

static void put(unsigned char *image, uint64_t offset, const void *data, size_t bytes)
{
	if (bytes)
		memcpy(image + offset, data, bytes);
}

static int build(const struct dw_pto_image_options *options, const struct dw_pto_core *cores,
		 struct pto_image_core *entries, void **image, size_t *bytes)
{
	struct pto_image_header header = {
		.version = PTO_IMAGE_VERSION, .size = sizeof(header),
		.object_bytes = options->bytes,
		.signature_count = (uint32_t)options->signature_count,
		.core_count = (uint32_t)options->core_count,
	};
	uint64_t end = lay_out(options, cores, &header, entries);
	unsigned char *whole;

	if (end > IMAGE_BYTES_MAX)
		return error_set(-E2BIG,
				 "pto image: it would have %llu bytes, at most %u are possible",
				 (unsigned long long)end, IMAGE_BYTES_MAX);
	memcpy(header.magic, PTO_IMAGE_MAGIC, sizeof(header.magic));
	strcpy(header.entry, options->entry);
	if (options->config_entry)
		strcpy(header.config_entry, options->config_entry);
	whole = calloc(1, end);
	if (!whole)
		return error_set(-ENOMEM, "pto image: no memory for %llu bytes",
				 (unsigned long long)end);
	memcpy(whole, &header, sizeof(header));
	put(whole, header.signature, options->signature,
	    options->signature_count * sizeof(int32_t));
	put(whole, header.object, options->data, options->bytes);
	for (size_t i = 0; i < options->core_count; i++) {
		entries[i].function = cores[i].function;
		entries[i].signature_count = cores[i].signature_count;
		entries[i].object_bytes = cores[i].bytes;
		put(whole, entries[i].signature, cores[i].signature,
		    cores[i].signature_count * sizeof(int32_t));
		put(whole, entries[i].object, cores[i].data, cores[i].bytes);
	}
	put(whole, header.cores, entries, options->core_count * sizeof(*entries));
	*image = whole;
	*bytes = (size_t)end;
	return 0;
}

int dw_pto_image_build(const struct dw_pto_image_options *given, void **image, size_t *bytes)
{
	struct pto_image_core *entries = NULL;
	struct dw_pto_core *cores = NULL;
	struct dw_pto_image_options options;
	int status = options_read(&options, sizeof(options), given, "dw_pto_image_options");

	if (status == 0)
		status = options_check(&options);
	if (status < 0)
		return status;
	cores = calloc(options.core_count + 1, sizeof(*cores));
	entries = calloc(options.core_count + 1, sizeof(*entries));
	if (!cores || !entries)
		status = error_set(-ENOMEM, "pto image: no memory for %zu core functions",
				   options.core_count);
	if (status == 0)
		status = cores_read(&options, cores);
	if (status == 0)
		status = build(&options, cores, entries, image, bytes);
	free(cores);
	free(entries);
	return status;
}
