/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Reads image files: the neutral format of chip/pto_image.h, and the one before it, which was a
 * chip callable of the old interface. Checks everything that the runtime would follow blindly,
 * including that the entry is there: the runtime would wait for a missing one for ever. No state,
 * any thread.
 */
#include "chip/pto_object.h"
#include "internal.h"
#include "old_layout.h"

/* A part of the image file; NULL: it is not within the file. */
static const void *part(const struct dw_chip_image_spec *spec, uint64_t offset, uint64_t bytes)
{
	if (offset > spec->bytes || bytes > spec->bytes - offset)
		return NULL;
	return (const unsigned char *)spec->data + offset;
}

static int beyond(const char *which, uint64_t offset, uint64_t bytes,
		  const struct dw_chip_image_spec *spec, struct dw_chip_error *error)
{
	return kit_fail(error, -ELIBBAD,
			"pto image: %s has %llu bytes at offset %llu, the image %zu: 1 byte and "
			"more within the image are wanted",
			which, (unsigned long long)bytes, (unsigned long long)offset, spec->bytes);
}

static int name_check(const char *which, const char *name, struct dw_chip_error *error)
{
	if (strnlen(name, PTO_NAME_BYTES) == PTO_NAME_BYTES)
		return kit_fail(error, -ELIBBAD,
				"pto image: the %s name does not end within %d bytes: at most %d "
				"and a NUL are possible",
				which, PTO_NAME_BYTES, PTO_NAME_BYTES - 1);
	return 0;
}

/* Copies a signature out of the file. */
static int signature_read(const void *from, uint32_t count, uint32_t most, int32_t *signature,
			  struct dw_chip_error *error)
{
	if (count > most)
		return kit_fail(error, count > INT32_MAX ? -ELIBBAD : -E2BIG,
				"pto image: a signature of %u arguments: 0 to %u are possible",
				count, most);
	memcpy(signature, from, count * sizeof(*signature));
	for (uint32_t i = 0; i < count; i++)
		if (signature[i] < DW_DIR_SCALAR || signature[i] > DW_DIR_INOUT)
			return kit_fail(error, -ELIBBAD,
					"pto image: direction %d of argument %u is none of 0 to 3",
					signature[i], i);
	return 0;
}

static int cores_make(struct pto_view *view, uint32_t count, struct dw_chip_error *error)
{
	if (count > PTO_CORES_MAX)
		return kit_fail(error, -E2BIG,
				"pto image: %u core functions, at most %d are possible", count,
				PTO_CORES_MAX);
	view->core_count = count;
	view->cores = calloc(count + 1, sizeof(*view->cores));
	if (!view->cores)
		return kit_fail(error, -ENOMEM, "pto image: no memory for %u core functions",
				count);
	return 0;
}

/* ----------------------------------------------------------- neutral format */

static int core_read(const struct dw_chip_image_spec *spec, const struct pto_image_core *entry,
		     struct pto_core_view *core, struct dw_chip_error *error)
{
	const void *signature = part(spec, entry->signature,
				     entry->signature_count * (uint64_t)sizeof(int32_t));
	char which[64];

	snprintf(which, sizeof(which), "the object of core function %d", entry->function);
	core->function = entry->function;
	core->object = part(spec, entry->object, entry->object_bytes);
	if (!core->object || !entry->object_bytes || entry->object_bytes > UINT32_MAX)
		return beyond(which, entry->object, entry->object_bytes, spec, error);
	core->object_bytes = (uint32_t)entry->object_bytes;
	if (!signature)
		return beyond("a signature", entry->signature,
			      entry->signature_count * (uint64_t)sizeof(int32_t), spec, error);
	core->signature_count = entry->signature_count;
	return signature_read(signature, entry->signature_count, PTO_CORE_SIGNATURE_MAX,
			      core->signature, error);
}

static int neutral_read(const struct dw_chip_image_spec *spec, struct pto_view *view,
			struct dw_chip_error *error)
{
	struct pto_image_header header;
	struct pto_image_core entry;
	const unsigned char *cores;
	const void *signature;
	int status;

	if (spec->bytes < sizeof(header))
		return kit_fail(error, -ELIBBAD,
				"pto image: %zu bytes are less than its header of %zu", spec->bytes,
				sizeof(header));
	memcpy(&header, spec->data, sizeof(header));
	if (header.version != PTO_IMAGE_VERSION || header.size != sizeof(header))
		return kit_fail(error, -ELIBBAD,
				"pto image: version %u of its format, with a header of %u bytes; "
				"this driver reads version %d: build the image anew",
				header.version, header.size, PTO_IMAGE_VERSION);
	if (header.bytes != spec->bytes)
		return kit_fail(error, -ELIBBAD,
				"pto image: %zu bytes of %llu are there: the file is damaged",
				spec->bytes, (unsigned long long)header.bytes);
	view->object = part(spec, header.object, header.object_bytes);
	if (!view->object || !header.object_bytes || header.object_bytes > UINT32_MAX)
		return beyond("the orchestration object", header.object, header.object_bytes, spec,
			      error);
	view->object_bytes = (uint32_t)header.object_bytes;
	signature = part(spec, header.signature,
			 header.signature_count * (uint64_t)sizeof(int32_t));
	if (!signature)
		return beyond("the signature", header.signature,
			      header.signature_count * (uint64_t)sizeof(int32_t), spec, error);
	memcpy(view->entry, header.entry, sizeof(view->entry));
	memcpy(view->config_entry, header.config_entry, sizeof(view->config_entry));
	view->signature_count = header.signature_count;
	status = signature_read(signature, header.signature_count, PTO_SIGNATURE_MAX,
				view->signature, error);
	if (status == 0)
		status = cores_make(view, header.core_count, error);
	cores = part(spec, header.cores, header.core_count * (uint64_t)sizeof(entry));
	if (status == 0 && !cores)
		status = beyond("the table of core functions", header.cores,
				header.core_count * (uint64_t)sizeof(entry), spec, error);
	for (uint32_t i = 0; i < view->core_count && status == 0; i++) {
		memcpy(&entry, cores + i * sizeof(entry), sizeof(entry));
		status = core_read(spec, &entry, &view->cores[i], error);
	}
	return status;
}

/* --------------------------------------------------------------- old format */

static int old_name(const char *which, const char *name, uint32_t length, char *to,
		    struct dw_chip_error *error)
{
	if (length >= PTO_NAME_BYTES || name[length] != '\0' ||
	    strnlen(name, PTO_NAME_BYTES) != length)
		return kit_fail(
			error, -ELIBBAD,
			"pto image: the %s name says %u characters and has %zu: at most 63 and a "
			"NUL are possible",
			which, length, strnlen(name, PTO_NAME_BYTES));
	memcpy(to, name, PTO_NAME_BYTES);
	return 0;
}

static int old_core_read(const unsigned char *storage, uint64_t bytes, uint32_t offset, int32_t id,
			 struct pto_core_view *view, struct dw_chip_error *error)
{
	struct old_core_callable core;

	if (offset % OLD_CHILD_ALIGN || offset > bytes || bytes - offset < sizeof(core))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: core function %d begins at byte %u of %llu: a multiple of %d "
			"with %zu bytes behind it is wanted",
			id, offset, (unsigned long long)bytes, OLD_CHILD_ALIGN, sizeof(core));
	memcpy(&core, storage + offset, sizeof(core));
	if (core.size == 0 || core.size > bytes - offset - sizeof(core))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: core function %d has %u bytes, %llu are left of the image", id,
			core.size, (unsigned long long)(bytes - offset - sizeof(core)));
	view->function = id;
	view->object = storage + offset + sizeof(core);
	view->object_bytes = core.size;
	view->signature_count = (uint32_t)core.signature_count;
	return signature_read(core.signature, view->signature_count, OLD_SIGNATURE_MAX,
			      view->signature, error);
}

static int old_read(const struct dw_chip_image_spec *spec, struct pto_view *view,
		    struct dw_chip_error *error)
{
	struct old_chip_callable callable;
	const unsigned char *storage = (const unsigned char *)spec->data + sizeof(callable);
	uint64_t bytes = spec->bytes - sizeof(callable);
	int status;

	memcpy(&callable, spec->data, sizeof(callable));
	if (callable.size == 0 || callable.size > bytes)
		return kit_fail(error, -ELIBBAD,
				"pto image: an orchestration object of %u bytes in %llu",
				callable.size, (unsigned long long)bytes);
	if (callable.child_count < 0 || callable.child_count > OLD_CHILDREN_MAX)
		return kit_fail(error, -E2BIG,
				"pto image: %d core functions, at most %d are possible",
				callable.child_count, OLD_CHILDREN_MAX);
	view->object = storage;
	view->object_bytes = callable.size;
	status = old_name("entry", callable.name, callable.name_length, view->entry, error);
	if (status == 0)
		status = old_name("config entry", callable.config_name,
				  callable.config_name_length, view->config_entry, error);
	view->signature_count = (uint32_t)callable.signature_count;
	if (status == 0)
		status = signature_read(callable.signature, view->signature_count,
					OLD_SIGNATURE_MAX, view->signature, error);
	if (status == 0)
		status = cores_make(view, (uint32_t)callable.child_count, error);
	for (uint32_t i = 0; i < view->core_count && status == 0; i++) {
		if (callable.child_offsets[i] < callable.size)
			status = kit_fail(
				error, -ELIBBAD,
				"pto image: core function %d begins at byte %u, inside the "
				"orchestration object",
				callable.child_ids[i], callable.child_offsets[i]);
		else
			status = old_core_read(storage, bytes, callable.child_offsets[i],
					       callable.child_ids[i], &view->cores[i], error);
	}
	return status;
}

/* ------------------------------------------------------------------- checks */

static int limits_check(const struct pto_view *view, const struct pto_limits *limits,
			struct dw_chip_error *error)
{
	if (view->object_bytes > limits->object_bytes)
		return kit_fail(error, -E2BIG,
				"pto image: an orchestration object of %u bytes: this runtime "
				"takes at most %u",
				view->object_bytes, limits->object_bytes);
	if (view->signature_count > limits->signature)
		return kit_fail(error, -E2BIG,
				"pto image: a signature of %u arguments: this runtime takes at "
				"most %u",
				view->signature_count, limits->signature);
	if (view->core_count > limits->cores)
		return kit_fail(error, -E2BIG,
				"pto image: %u core functions: this runtime takes at most %u",
				view->core_count, limits->cores);
	for (uint32_t i = 0; i < view->core_count; i++) {
		const struct pto_core_view *core = &view->cores[i];

		if (core->function < 0 || core->function > limits->function)
			return kit_fail(error, core->function < 0 ? -ELIBBAD : -E2BIG,
					"pto image: function id %d: this runtime takes 0 to %d",
					core->function, limits->function);
		if (core->signature_count > limits->core_signature)
			return kit_fail(
				error, -E2BIG,
				"pto image: core function %d has a signature of %u arguments: this "
				"runtime takes at most %u",
				core->function, core->signature_count, limits->core_signature);
	}
	return 0;
}

static int ids_check(const struct pto_view *view, struct dw_chip_error *error)
{
	bool given[PTO_FUNCTION_MAX + 1] = { false };

	for (uint32_t i = 0; i < view->core_count; i++) {
		if (given[view->cores[i].function])
			return kit_fail(error, -ELIBBAD,
					"pto image: two core functions have the id %d",
					view->cores[i].function);
		given[view->cores[i].function] = true;
	}
	return 0;
}

/* The config entry is not looked up, since the runtime works without it. */
static int symbols_check(const struct pto_view *view, bool simulator, struct dw_chip_error *error)
{
	struct pto_symbols symbols;
	char list[160];

	if (!pto_object_symbols(view->object, view->object_bytes, &symbols))
		return kit_fail(
			error, -ELIBBAD,
			"pto image: its orchestration object of %u bytes is no shared object "
			"(64-bit ELF with dynamic symbols): the entry \"%s\" cannot be looked "
			"up in it",
			view->object_bytes, view->entry);
	if (!pto_symbols_have(&symbols, view->entry))
		return kit_fail(
			error, -ESRCH,
			"pto image: its orchestration object does not export the entry \"%s\"; it "
			"exports %s",
			view->entry, pto_symbols_list(&symbols, list, sizeof(list)));
	for (uint32_t i = 0; i < view->core_count; i++) {
		const struct pto_core_view *core = &view->cores[i];

		if (!pto_object_symbols(core->object, core->object_bytes, &symbols)) {
			if (!simulator)
				continue;
			return kit_fail(
				error, -ELIBBAD,
				"pto image: the object of core function %d is no shared object "
				"(64-bit ELF with dynamic symbols), as a simulator needs it",
				core->function);
		}
		if (!pto_symbols_have(&symbols, PTO_CORE_ENTRY))
			return kit_fail(
				error, -ESRCH,
				"pto image: the object of core function %d does not export "
				"\"" PTO_CORE_ENTRY "\", which a simulator calls; it exports %s",
				core->function, pto_symbols_list(&symbols, list, sizeof(list)));
	}
	return 0;
}

/* The registration must agree with the image. */
static int spec_check(const struct dw_chip_image_spec *spec, const struct pto_view *view,
		      struct dw_chip_error *error)
{
	if (spec->entry && spec->entry[0] && strcmp(spec->entry, view->entry) != 0)
		return kit_fail(error, -ESRCH, "pto image: its entry is \"%s\", not \"%s\"",
				view->entry, text_short(spec->entry));
	if (spec->signature &&
	    (spec->signature_count != view->signature_count ||
	     memcmp(spec->signature, view->signature,
		    spec->signature_count * sizeof(int32_t)) != 0))
		return kit_fail(
			error, -EINVAL,
			"pto image: the signature given (%zu arguments) is not the image's own "
			"(%u): give the same, or none",
			spec->signature_count, view->signature_count);
	return 0;
}

static int format_read(const struct dw_chip_image_spec *spec, struct pto_view *view,
		       struct dw_chip_error *error)
{
	if (spec->bytes >= sizeof(PTO_IMAGE_MAGIC) - 1 &&
	    memcmp(spec->data, PTO_IMAGE_MAGIC, sizeof(PTO_IMAGE_MAGIC) - 1) == 0)
		return neutral_read(spec, view, error);
	if (spec->bytes >= sizeof(struct old_chip_callable))
		return old_read(spec, view, error);
	return kit_fail(error, -ELIBBAD,
			"pto image: %zu bytes are less than its header: build it with `distworker "
			"image pto`",
			spec->bytes);
}

int pto_view_read(const struct dw_chip_image_spec *spec, const struct pto_limits *limits,
		  bool simulator, struct pto_view *view, struct dw_chip_error *error)
{
	int status;

	memset(view, 0, sizeof(*view));
	status = format_read(spec, view, error);
	if (status == 0)
		status = name_check("entry", view->entry, error);
	if (status == 0)
		status = name_check("config entry", view->config_entry, error);
	if (status == 0 && !view->entry[0])
		status = kit_fail(error, -ELIBBAD, "pto image: its entry has no name");
	if (status == 0)
		status = limits_check(view, limits, error);
	if (status == 0)
		status = ids_check(view, error);
	if (status == 0)
		status = spec_check(spec, view, error);
	if (status == 0)
		status = symbols_check(view, simulator, error);
	if (status < 0)
		pto_view_free(view);
	return status;
}

void pto_view_free(struct pto_view *view)
{
	free(view->cores);
	view->cores = NULL;
	view->core_count = 0;
}
