/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * An open device: its images by callable handle, its calls in flight, its
 * memory. chip.h says which thread may call, and when.
 *
 * Invariant: slots [head, head + in_flight) of the ring `calls` are submitted and not
 * collected, oldest first; a synchronous driver has at most one, and it is done.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/text.h"
#include "chip/chip.h"
#include "task/error.h"
#include "task/options.h"

#define CHIP_DEPTH_MAX 16
#define CHIP_INLINE_TENSORS 16
#define CHIP_BLOCKS_DEFAULT 1
#define CHIP_AICPU_DEFAULT 3

static const volatile uint32_t never_cancelled;

struct image_slot {
	uint64_t key;
	struct dw_chip_image *image;	/* NULL: free */
};

struct call_slot {
	uint64_t cookie;
	uint64_t started;
	uint64_t *tensor_bytes;		/* inline_bytes, or grown */
	size_t tensor_space;
	uint64_t inline_bytes[CHIP_INLINE_TENSORS];
	struct dw_chip_copies copies;
};

struct chip {
	struct chip_driver driver;
	struct dw_chip_device *device;
	struct dw_chip_properties properties;
	uint32_t id;
	uint32_t depth;
	bool async;
	bool lost;
	char loss[ERROR_TEXT_BYTES];	/* lost: the driver's first sentence about it */
	bool notes_copies;
	/* open addressing, power of two, at most half full */
	struct image_slot *images;
	size_t image_space;
	size_t image_count;
	struct call_slot calls[CHIP_DEPTH_MAX];
	uint32_t head;
	uint32_t in_flight;
	uint64_t last_ended;		/* a queued call starts when the one before it ends */
	struct dw_chip_completion completion;
	/* Ranges that chip_alloc() made and chip_free() did not take back, sorted by handle. */
	struct resident {
		uint64_t handle, bytes;
	} *residents;
	size_t resident_count, resident_space;
};

/* Sets the text of a driver's error: its sentence, or the errno's name if it gave none. */
static int driver_error(struct chip *chip, int status, struct dw_chip_error *error,
			const char *what)
{
	if (status >= 0)
		status = -EIO;
	error->text[sizeof(error->text) - 1] = '\0';
	if (error->text[0])
		error_set(status, "%s", error->text);
	else
		error_set(status, "chip %s:%u: %s failed: %s", chip->driver.table.name, chip->id,
			  what, error_name(status));
	if (status == -ENODEV && chip->device && !chip->lost) {
		chip->lost = true;
		text_copy(chip->loss, sizeof(chip->loss), error_text());
	}
	return status;
}

/* A driver that succeeds and gives a text has made a remark. */
static void driver_remark(const struct chip *chip, const struct dw_chip_error *remark)
{
	if (remark->text[0])
		log_at(LOG_INFO, "chip %s:%u: %.*s", chip->driver.table.name, chip->id,
		       (int)sizeof(remark->text), remark->text);
}

static int lost_error(const struct chip *chip)
{
	return error_set(-ENODEV, "chip %s:%u is lost: its driver said so in an earlier call: %s",
			 chip->driver.table.name, chip->id, chip->loss);
}

int chip_open(const char *name, uint32_t id, const char *options, struct chip **result)
{
	struct dw_chip_error text = { "" };
	struct chip *chip = calloc(1, sizeof(*chip));
	const struct dw_chip_driver *table;
	int status;

	if (!chip)
		return error_set(-ENOMEM, "no memory for chip %s:%u", text_short(name), id);
	status = chip_driver_load(name, &chip->driver);
	if (status < 0) {
		free(chip);
		return status;
	}
	table = &chip->driver.table;
	chip->id = id;
	for (unsigned int i = 0; i < CHIP_DEPTH_MAX; i++) {
		chip->calls[i].tensor_bytes = chip->calls[i].inline_bytes;
		chip->calls[i].tensor_space = CHIP_INLINE_TENSORS;
	}
	status = table->open(id, options, &chip->device, &text);
	if (status < 0 || !chip->device) {
		chip->device = NULL;
		status = driver_error(chip, status, &text, "open");
		free(chip);
		return status;
	}
	driver_remark(chip, &text);
	chip->properties.size = sizeof(chip->properties);
	status = table->properties(chip->device, &chip->properties, &text);
	if (status < 0) {
		status = driver_error(chip, status, &text, "properties");
		goto close;
	}
	chip_fill_defaults(&chip->properties);
	chip->async = !table->run || ((chip->properties.capabilities & DW_CHIP_CAP_ASYNC) &&
				      table->submit && table->collect && table->completion_fd);
	chip->depth = chip->async ? chip->properties.queue_depth : 1;
	if (chip->depth == 0)
		chip->depth = 1;
	if (chip->depth > CHIP_DEPTH_MAX)
		chip->depth = CHIP_DEPTH_MAX;
	if ((chip->properties.capabilities & DW_CHIP_CAP_MEMORY) &&
	    (!table->alloc || !table->free || !table->copy_in || !table->copy_out)) {
		status = error_set(
			-ELIBBAD,
			"chip driver %s claims device memory (DW_CHIP_CAP_MEMORY) and has not all "
			"of alloc, free, copy_in, copy_out",
			text_short(chip->driver.path));
		goto close;
	}
	*result = chip;
	return 0;
close:
	table->close(chip->device);
	free(chip);
	return status;
}

void chip_close(struct chip *chip)
{
	if (!chip)
		return;
	for (size_t i = 0; i < chip->image_space; i++)
		if (chip->images[i].image)
			chip->driver.table.unload(chip->device, chip->images[i].image);
	chip->driver.table.close(chip->device);
	for (unsigned int i = 0; i < CHIP_DEPTH_MAX; i++) {
		if (chip->calls[i].tensor_bytes != chip->calls[i].inline_bytes)
			free(chip->calls[i].tensor_bytes);
		free(chip->calls[i].copies.entries);
	}
	free(chip->residents);
	free(chip->images);
	free(chip);
}

const struct dw_chip_properties *chip_properties(const struct chip *chip)
{
	return &chip->properties;
}

void chip_fill_defaults(struct dw_chip_properties *properties)
{
	if (properties->capabilities & DW_CHIP_CAP_DEFAULTS)
		return;
	if (!properties->default_block_dim)
		properties->default_block_dim = CHIP_BLOCKS_DEFAULT;
	if (!properties->default_aicpu_thread_num)
		properties->default_aicpu_thread_num = CHIP_AICPU_DEFAULT;
}

uint32_t chip_depth(const struct chip *chip)
{
	return chip->depth;
}

uint32_t chip_in_flight(const struct chip *chip)
{
	return chip->in_flight;
}

bool chip_is_async(const struct chip *chip)
{
	return chip->async;
}

int chip_completion_fd(const struct chip *chip)
{
	return chip->async ? chip->driver.table.completion_fd(chip->device) : -1;
}

bool chip_lost(const struct chip *chip)
{
	return chip->lost;
}

/* ------------------------------------------------------------------ images */

static size_t image_home(uint64_t key, size_t space)
{
	return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (space - 1);
}

/* The slot of `key`, or the free one where it would go. */
static struct image_slot *image_slot(const struct chip *chip, uint64_t key)
{
	size_t i = image_home(key, chip->image_space);

	while (chip->images[i].image && chip->images[i].key != key)
		i = (i + 1) & (chip->image_space - 1);
	return &chip->images[i];
}

static int images_grow(struct chip *chip)
{
	struct image_slot *old = chip->images;
	size_t space = chip->image_space;

	if ((chip->image_count + 1) * 2 <= space)
		return 0;
	chip->image_space = space ? space * 2 : 16;
	chip->images = calloc(chip->image_space, sizeof(*chip->images));
	if (!chip->images) {
		chip->images = old;
		chip->image_space = space;
		return error_set(-ENOMEM, "no memory for the table of %zu chip images",
				 chip->image_count + 1);
	}
	for (size_t i = 0; i < space; i++)
		if (old[i].image)
			*image_slot(chip, old[i].key) = old[i];
	free(old);
	return 0;
}

bool chip_image_loaded(const struct chip *chip, uint64_t key)
{
	return chip->image_space && image_slot(chip, key)->image;
}

int chip_image_load(struct chip *chip, uint64_t key, const struct dw_chip_image_spec *spec)
{
	struct dw_chip_image_spec full;
	struct dw_chip_error text = { "" };
	struct dw_chip_image *image = NULL;
	struct image_slot *slot;
	int status;

	status = options_read(&full, sizeof(full), spec, "dw_chip_image_spec");
	if (status < 0)
		return status;
	if (!full.data || full.bytes == 0)
		return error_set(-EINVAL, "chip image %s is empty", text_short(full.name));
	if (chip_image_loaded(chip, key))
		return error_set(-EEXIST, "chip image %#llx is loaded on chip %s:%u already",
				 (unsigned long long)key, chip->driver.table.name, chip->id);
	if (chip->lost)
		return lost_error(chip);
	status = images_grow(chip);
	if (status < 0)
		return status;
	status = chip->driver.table.load(chip->device, &full, &image, &text);
	if (status < 0 || !image)
		return driver_error(chip, status, &text, "load");
	driver_remark(chip, &text);
	slot = image_slot(chip, key);
	slot->key = key;
	slot->image = image;
	chip->image_count++;
	return 0;
}

int chip_image_unload(struct chip *chip, uint64_t key)
{
	struct image_slot *slot = chip->image_space ? image_slot(chip, key) : NULL;
	size_t mask = chip->image_space - 1;
	size_t hole, i;

	if (!slot || !slot->image)
		return error_set(-ENOENT, "chip image %#llx is not loaded on chip %s:%u",
				 (unsigned long long)key, chip->driver.table.name, chip->id);
	if (chip->in_flight)
		return error_set(
			-EBUSY,
			"chip image %#llx cannot be unloaded while %u calls are in flight on chip "
			"%s:%u",
			(unsigned long long)key, chip->in_flight, chip->driver.table.name,
			chip->id);
	chip->driver.table.unload(chip->device, slot->image);
	chip->image_count--;
	/* Close the gap: move entries that belong into the hole. */
	hole = (size_t)(slot - chip->images);
	for (i = (hole + 1) & mask; chip->images[i].image; i = (i + 1) & mask) {
		size_t home = image_home(chip->images[i].key, chip->image_space);

		if (((i - home) & mask) >= ((i - hole) & mask)) {
			chip->images[hole] = chip->images[i];
			hole = i;
		}
	}
	chip->images[hole].image = NULL;
	return 0;
}

const int32_t *chip_image_signature(struct chip *chip, uint64_t key, size_t *count)
{
	if (!chip->driver.table.signature || !chip_image_loaded(chip, key))
		return NULL;
	return chip->driver.table.signature(chip->device, image_slot(chip, key)->image, count);
}

/* ------------------------------------------------------------------- calls */

static int call_check_counts(const struct chip *chip, const struct dw_args *args)
{
	const struct dw_chip_properties *properties = &chip->properties;

	if (properties->max_tensors && args->tensor_count > properties->max_tensors)
		return error_set(-E2BIG,
				 "%u tensors are more than the %u that chip %s:%u takes per call",
				 args->tensor_count, properties->max_tensors,
				 chip->driver.table.name, chip->id);
	if (properties->max_scalars && args->scalar_count > properties->max_scalars)
		return error_set(-E2BIG,
				 "%u scalars are more than the %u that chip %s:%u takes per call",
				 args->scalar_count, properties->max_scalars,
				 chip->driver.table.name, chip->id);
	return 0;
}

static int call_check_tensors(const struct chip *chip, const struct dw_args *args,
			      struct call_slot *slot)
{
	if (args->tensor_count > slot->tensor_space) {
		uint64_t *grown = malloc(args->tensor_count * sizeof(*grown));

		if (!grown)
			return error_set(-ENOMEM, "no memory for %u tensors", args->tensor_count);
		if (slot->tensor_bytes != slot->inline_bytes)
			free(slot->tensor_bytes);
		slot->tensor_bytes = grown;
		slot->tensor_space = args->tensor_count;
	}
	for (uint32_t i = 0; i < args->tensor_count; i++) {
		int status = tensor_check(&args->tensors[i], i, &slot->tensor_bytes[i]);

		if (status < 0)
			return status;
		if (args->tensors[i].dtype == DW_FLOAT64 &&
		    !(chip->properties.capabilities & DW_CHIP_CAP_FLOAT64))
			return error_set(-ENOTSUP,
					 "tensor %u is float64, which chip %s:%u cannot take", i,
					 chip->driver.table.name, chip->id);
	}
	return 0;
}

/* Room to note a copy in and a copy back of each tensor. NULL: copies are not noted. */
static struct dw_chip_copies *copies_room(const struct chip *chip, struct call_slot *slot,
					  uint32_t tensors)
{
	struct dw_chip_copies *copies = &slot->copies;
	struct dw_chip_copy *grown;

	copies->count = 0;
	if (!chip->notes_copies)
		return NULL;
	if (copies->space < 2 * tensors) {
		grown = realloc(copies->entries, 2 * (size_t)tensors * sizeof(*grown));
		if (!grown)
			return NULL;
		copies->size = sizeof(*copies);
		copies->entries = grown;
		copies->space = 2 * tensors;
		for (uint32_t i = 0; i < copies->space; i++)
			grown[i].size = sizeof(*grown);
	}
	return copies->space ? copies : NULL;
}

bool chip_note_copies(struct chip *chip)
{
	chip->notes_copies = chip->properties.capabilities & DW_CHIP_CAP_COPIES;
	return chip->notes_copies;
}

static int config_refused(const struct chip *chip, const char *field, int32_t value)
{
	return error_set(-EINVAL,
			 "config.%s is %d: 1 or more is wanted, or 0 for the default of chip %s:%u",
			 field, value, chip->driver.table.name, chip->id);
}

static int config_fill(const struct chip *chip, const struct dw_config *config,
		       struct dw_config *full)
{
	if (config)
		*full = *config;
	if (full->block_dim < 0)
		return config_refused(chip, "block_dim", full->block_dim);
	if (full->aicpu_thread_num < 0)
		return config_refused(chip, "aicpu_thread_num", full->aicpu_thread_num);
	if (chip->properties.capabilities & DW_CHIP_CAP_DEFAULTS)
		return 0;
	if (full->block_dim == 0)
		full->block_dim = (int32_t)chip->properties.default_block_dim;
	if (full->aicpu_thread_num == 0)
		full->aicpu_thread_num = (int32_t)chip->properties.default_aicpu_thread_num;
	return 0;
}

/* The call of a synchronous driver: its result is the completion that collect gives. */
static void call_run(struct chip *chip, const struct dw_chip_call *call)
{
	struct dw_chip_completion *done = &chip->completion;

	done->cookie = call->cookie;
	done->error.text[0] = '\0';
	done->status = chip->driver.table.run(chip->device, call, &done->error);
	if (done->status == 0)
		driver_remark(chip, &done->error);
	done->started_ns = 0;
	done->ended_ns = now_ns();
}

int chip_submit_at(struct chip *chip, uint64_t key, const struct dw_args *args,
		   const struct dw_chip_place *places, const struct dw_config *config,
		   uint64_t cookie, const volatile uint32_t *cancelled)
{
	struct dw_chip_call call = { .size = sizeof(call) };
	struct dw_chip_error text;
	struct call_slot *slot;
	int status;

	if (chip->lost)
		return lost_error(chip);
	if (chip->in_flight == chip->depth)
		return error_set(-EBUSY, "chip %s:%u has %u calls in flight: collect first",
				 chip->driver.table.name, chip->id, chip->in_flight);
	if (!chip_image_loaded(chip, key))
		return error_set(-ENOENT, "chip image %#llx is not loaded on chip %s:%u",
				 (unsigned long long)key, chip->driver.table.name, chip->id);
	if (cancelled && __atomic_load_n(cancelled, __ATOMIC_RELAXED))
		return error_set(-ECANCELED, "cancelled before it started");
	slot = &chip->calls[(chip->head + chip->in_flight) % CHIP_DEPTH_MAX];
	status = call_check_counts(chip, args);
	if (status == 0)
		status = call_check_tensors(chip, args, slot);
	if (status == 0)
		status = config_fill(chip, config, &call.config);
	if (status < 0)
		return status;
	call.image = image_slot(chip, key)->image;
	call.tensors = args->tensors;
	call.tensor_bytes = slot->tensor_bytes;
	call.tensor_count = args->tensor_count;
	call.scalars = args->scalars;
	call.scalar_count = args->scalar_count;
	call.cookie = cookie;
	call.cancelled = cancelled ? cancelled : &never_cancelled;
	call.places = places;
	call.copies = copies_room(chip, slot, args->tensor_count);
	slot->cookie = cookie;
	slot->started = now_ns();
	if (!chip->async) {
		call_run(chip, &call);
		/* An asynchronous driver would have refused the call before it started anything. */
		if (chip->completion.status == -ENOMEM)
			return driver_error(chip, -ENOMEM, &chip->completion.error, "run");
	} else {
		text.text[0] = '\0';
		status = chip->driver.table.submit(chip->device, &call, &text);
		if (status < 0)
			return driver_error(chip, status, &text, "submit");
		driver_remark(chip, &text);
	}
	chip->in_flight++;
	return 0;
}

/*
 * Deadlines and estimates are computed from these times. A time that the driver does not know, or
 * took from another clock, lies outside the interval during which the call was here, and is
 * replaced.
 */
static void set_times(const struct chip *chip, const struct call_slot *slot,
		      const struct dw_chip_completion *done, struct chip_completion *completion)
{
	uint64_t now = now_ns(), first = slot->started;

	completion->ended = done->ended_ns >= first && done->ended_ns <= now ? done->ended_ns : now;
	if (first < chip->last_ended)
		first = chip->last_ended < completion->ended ? chip->last_ended : completion->ended;
	completion->started = done->started_ns >= slot->started &&
			      done->started_ns <= completion->ended ? done->started_ns : first;
}

int chip_collect(struct chip *chip, struct chip_completion *completion)
{
	struct dw_chip_completion *done = &chip->completion;
	const struct call_slot *slot = &chip->calls[chip->head];
	int status;

	if (chip->in_flight == 0)
		return 0;
	if (chip->async) {
		memset(done, 0, offsetof(struct dw_chip_completion, error) + 1);
		done->size = sizeof(*done);
		status = chip->driver.table.collect(chip->device, done);
		if (status == 0)
			return 0;
		if (status < 0)
			return driver_error(chip, status, &done->error, "collect");
		if (done->cookie != slot->cookie)
			return error_set(
				-EPROTO,
				"chip driver %s completed call %#llx, but %#llx is the oldest in "
				"flight: calls complete in order",
				text_short(chip->driver.path), (unsigned long long)done->cookie,
				(unsigned long long)slot->cookie);
	}
	completion->cookie = done->cookie;
	completion->status = done->status > 0 ? -EIO : done->status;
	set_times(chip, slot, done, completion);
	completion->copies = slot->copies.entries;
	completion->copy_count = slot->copies.count;
	chip->last_ended = completion->ended;
	chip->head = (chip->head + 1) % CHIP_DEPTH_MAX;
	chip->in_flight--;
	if (done->status) {
		driver_error(chip, done->status, &done->error, "run");
		completion->text = error_text();
	} else {
		completion->text = "";
	}
	return 1;
}

/* ------------------------------------------------------------------ memory */

static int memory_check(const struct chip *chip)
{
	if (!(chip->properties.capabilities & DW_CHIP_CAP_MEMORY))
		return error_set(-EOPNOTSUPP, "chip %s:%u has no device-resident memory",
				 chip->driver.table.name, chip->id);
	return chip->lost ? lost_error(chip) : 0;
}

/* Returns the index of the first range that ends behind the address, or resident_count. */
static size_t resident_search(const struct chip *chip, uint64_t address)
{
	size_t low = 0, high = chip->resident_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct resident *resident = &chip->residents[middle];

		if (address >= resident->handle && address - resident->handle >= resident->bytes)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int chip_alloc(struct chip *chip, uint64_t handle, uint64_t bytes)
{
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);
	size_t at;

	if (status < 0)
		return status;
	if (handle == 0 || bytes == 0 || handle + bytes < handle)
		return error_set(-EINVAL,
				 "device memory of %llu bytes at handle %#llx makes no sense",
				 (unsigned long long)bytes, (unsigned long long)handle);
	if (chip->resident_count == chip->resident_space) {
		size_t space = chip->resident_space ? chip->resident_space * 2 : 16;
		struct resident *grown = realloc(chip->residents, space * sizeof(*grown));

		if (!grown)
			return error_set(-ENOMEM, "no memory to note device memory on chip %s:%u",
					 chip->driver.table.name, chip->id);
		chip->residents = grown;
		chip->resident_space = space;
	}
	status = chip->driver.table.alloc(chip->device, handle, bytes, &text);
	if (status < 0)
		return driver_error(chip, status, &text, "alloc");
	at = resident_search(chip, handle);
	memmove(&chip->residents[at + 1], &chip->residents[at],
		(chip->resident_count - at) * sizeof(*chip->residents));
	chip->residents[at] = (struct resident){ handle, bytes };
	chip->resident_count++;
	return 0;
}

int chip_free(struct chip *chip, uint64_t handle)
{
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);
	size_t at;

	if (status < 0)
		return status;
	status = chip->driver.table.free(chip->device, handle, &text);
	if (status < 0)
		return driver_error(chip, status, &text, "free");
	at = resident_search(chip, handle);
	if (at < chip->resident_count && chip->residents[at].handle == handle) {
		chip->resident_count--;
		memmove(&chip->residents[at], &chip->residents[at + 1],
			(chip->resident_count - at) * sizeof(*chip->residents));
	}
	return 0;
}

bool chip_owns(const struct chip *chip, uint64_t address)
{
	size_t at = resident_search(chip, address);

	return at < chip->resident_count && address >= chip->residents[at].handle;
}

int chip_reserve(struct chip *chip, uint64_t handle, uint64_t bytes)
{
	const struct dw_chip_driver *table = &chip->driver.table;
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);

	if (status < 0)
		return status;
	status = (table->reserve ? table->reserve : table->alloc)(chip->device, handle, bytes,
								  &text);
	return status < 0 ? driver_error(chip, status, &text, "reserve") : 0;
}

void chip_release(struct chip *chip, uint64_t handle)
{
	struct dw_chip_error text = { "" };

	if (!chip->lost)
		chip->driver.table.free(chip->device, handle, &text);
}

int chip_copy_in(struct chip *chip, uint64_t handle, const void *host, uint64_t bytes)
{
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);

	if (status < 0 || bytes == 0)
		return status;
	status = chip->driver.table.copy_in(chip->device, handle, host, bytes, &text);
	return status < 0 ? driver_error(chip, status, &text, "copy_in") : 0;
}

int chip_copy_out(struct chip *chip, void *host, uint64_t handle, uint64_t bytes)
{
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);

	if (status < 0 || bytes == 0)
		return status;
	status = chip->driver.table.copy_out(chip->device, host, handle, bytes, &text);
	return status < 0 ? driver_error(chip, status, &text, "copy_out") : 0;
}

#define BOUNCE_BYTES (1ULL << 20)

static int copy_by_host(struct chip *chip, uint64_t to, uint64_t from, uint64_t bytes)
{
	uint64_t most = bytes < BOUNCE_BYTES ? bytes : BOUNCE_BYTES;
	void *bounce = malloc(most);
	int status = 0;

	if (!bounce)
		return error_set(-ENOMEM, "no memory for a copy of %llu bytes on chip %s:%u",
				 (unsigned long long)bytes, chip->driver.table.name, chip->id);
	for (uint64_t at = 0; at < bytes && status == 0; at += most) {
		uint64_t part = bytes - at < most ? bytes - at : most;

		status = chip_copy_out(chip, bounce, from + at, part);
		if (status == 0)
			status = chip_copy_in(chip, to + at, bounce, part);
	}
	free(bounce);
	return status;
}

int chip_copy_within(struct chip *chip, uint64_t to, uint64_t from, uint64_t bytes)
{
	struct dw_chip_error text = { "" };
	int status = memory_check(chip);

	if (status < 0 || bytes == 0)
		return status;
	if (!chip->driver.table.copy_within)
		return copy_by_host(chip, to, from, bytes);
	status = chip->driver.table.copy_within(chip->device, to, from, bytes, &text);
	return status < 0 ? driver_error(chip, status, &text, "copy_within") : 0;
}

int chip_counters(struct chip *chip, struct dw_chip_counters *counters)
{
	int status;

	memset(counters, 0, sizeof(*counters));
	counters->size = sizeof(*counters);
	if (!chip->driver.table.counters)
		return 0;
	status = chip->driver.table.counters(chip->device, counters);
	if (status < 0)
		return error_set(status, "chip %s:%u: counters failed: %s", chip->driver.table.name,
				 chip->id, error_name(status));
	return 0;
}
