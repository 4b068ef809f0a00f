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
#include "distworker/chip.h"
#include "task/error.h"
#include "task/options.h"

static int signature_check(const char *whose, const int32_t *signature, size_t count)
{
	if (count > PTO_SIGNATURE_MAX)
		return error_set(
			-E2BIG,
			"pto image: the signature of %s has %zu arguments, the interface has room "
			"for %d",
			whose, count, PTO_SIGNATURE_MAX);
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

static int core_check(const struct dw_pto_core *cores, size_t i)
{
	const struct dw_pto_core *core = &cores[i];
	char whose[32];

	if (!core->data || core->bytes == 0)
		return error_set(-EINVAL, "pto image: core function %d has no object",
				 core->function);
	if (core->bytes > UINT32_MAX - sizeof(struct pto_core_callable))
		return error_set(
			-E2BIG,
			"pto image: the object of core function %d has %zu bytes, a 32-bit size is "
			"possible",
			core->function, core->bytes);
	for (size_t j = 0; j < i; j++)
		if (cores[j].function == core->function)
			return error_set(
				-EINVAL,
				"pto image: function id %d is given twice, to core functions %zu "
				"and %zu",
				core->function, j, i);
	snprintf(whose, sizeof(whose), "core function %d", core->function);
	return signature_check(whose, core->signature, core->signature_count);
}

static int options_check(const struct dw_pto_image_options *options)
{
	int status;

	if (!options->data || options->bytes == 0)
		return error_set(-EINVAL, "pto image: there is no orchestration object");
	if (options->bytes > PTO_ORCHESTRATION_MAX)
		return error_set(
			-E2BIG,
			"pto image: the orchestration object has %zu bytes, at most %u are "
			"possible",
			options->bytes, PTO_ORCHESTRATION_MAX);
	if (!options->entry || !options->entry[0])
		return error_set(-EINVAL, "pto image: the orchestration's entry has no name");
	if (options->core_count > PTO_CHILDREN_MAX)
		return error_set(-E2BIG,
				 "pto image: there are %zu core functions, at most %d are possible",
				 options->core_count, PTO_CHILDREN_MAX);
	if (options->core_count && !options->cores)
		return error_set(-EINVAL, "pto image: cores is NULL and core_count %zu",
				 options->core_count);
	status = name_check("entry", options->entry);
	if (status == 0 && options->config_entry)
		status = name_check("config entry", options->config_entry);
	if (status == 0)
		status = signature_check("the call", options->signature, options->signature_count);
	return status;
}

/* The elements lie as far apart as the first says; all have one size. */
static int cores_read(const struct dw_pto_image_options *options, struct dw_pto_core *cores)
{
	const char *element = (const char *)options->cores;
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
			status = core_check(cores, i);
		element += size;
	}
	return status;
}

static uint64_t child_align(uint64_t offset)
{
	return (offset + PTO_CHILD_ALIGN - 1) & ~(uint64_t)(PTO_CHILD_ALIGN - 1);
}

static void core_write(const struct dw_pto_core *core, unsigned char *at)
{
	struct pto_core_callable header = { .size = (uint32_t)core->bytes };

	header.signature_count = (int32_t)core->signature_count;
	if (core->signature_count)
		memcpy(header.signature, core->signature, core->signature_count * sizeof(int32_t));
	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), core->data, core->bytes);
}

int dw_pto_image_build(const struct dw_pto_image_options *given, void **image, size_t *bytes)
{
	struct pto_chip_callable header = { .size = 0 };
	struct dw_pto_image_options full, *options = &full;
	struct dw_pto_core cores[PTO_CHILDREN_MAX];
	unsigned char *storage, *whole;
	uint64_t end;
	int status = options_read(&full, sizeof(full), given, "dw_pto_image_options");

	if (status == 0)
		status = options_check(options);
	if (status == 0)
		status = cores_read(options, cores);
	if (status < 0)
		return status;
	end = options->bytes;
	for (size_t i = 0; i < options->core_count; i++) {
		end = child_align(end);
		header.child_ids[i] = cores[i].function;
		header.child_offsets[i] = (uint32_t)end;
		end += sizeof(struct pto_core_callable) + cores[i].bytes;
		if (end > UINT32_MAX)
			return error_set(
				-E2BIG,
				"pto image: its objects end at byte %llu, 32-bit offsets are "
				"possible",
				(unsigned long long)end);
	}
	header.child_count = (int32_t)options->core_count;
	header.size = (uint32_t)options->bytes;
	header.signature_count = (int32_t)options->signature_count;
	if (options->signature_count)
		memcpy(header.signature, options->signature,
		       options->signature_count * sizeof(int32_t));
	strcpy(header.name, options->entry);
	header.name_length = (uint32_t)strlen(options->entry);
	if (options->config_entry) {
		strcpy(header.config_name, options->config_entry);
		header.config_name_length = (uint32_t)strlen(options->config_entry);
	}
	whole = calloc(1, sizeof(header) + end);
	if (!whole)
		return error_set(-ENOMEM, "pto image: no memory for %llu bytes",
				 (unsigned long long)end + sizeof(header));
	memcpy(whole, &header, sizeof(header));
	storage = whole + sizeof(header);
	memcpy(storage, options->data, options->bytes);
	for (size_t i = 0; i < options->core_count; i++)
		core_write(&cores[i], storage + header.child_offsets[i]);
	*image = whole;
	*bytes = sizeof(header) + end;
	return 0;
}
