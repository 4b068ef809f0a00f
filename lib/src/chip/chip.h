/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * chip: finds and loads chip drivers, owns one open device and the images on it,
 * and runs calls through it. Knows nothing of mailboxes or processes.
 *
 * Called by the worker layer's chip child, in the chip's own process (or thread),
 * never before a fork. A struct chip belongs to the thread that opened it: every call
 * on it comes from that thread, chip_close() too. No locks.
 *
 * One form for all drivers: chip_submit(), then chip_collect() until it gives the
 * completion. With a driver that is not asynchronous submit runs the call to its
 * end, and the completion is there when it returns. Calls complete in the order of their
 * submission. The loop of a chip worker is
 *
 *     while (chip_in_flight() < chip_depth() && (frame = next))
 *             if (chip_submit() < 0)  → complete the frame with the error
 *     if (chip_collect() == 1)        → complete that frame
 *     if something was done: again
 *     if nothing is in flight: endpoint_wait()
 *     else: poll { completion_fd, bell_fd (only when in_flight < depth) }
 *
 * chip_collect() before the poll is not optional: a completion that was there when submit
 * returned does not make the fd readable.
 *
 * Errors: -errno with a text through error_set().
 */
#ifndef DW_CHIP_CHIP_H
#define DW_CHIP_CHIP_H

#include <stdbool.h>
#include <distworker/chip.h>
#include "task/task.h"

struct chip;

/*
 * Loads `driver` (a name or a path, see chip_driver_load) and opens device `device`.
 *  -EINVAL name or options; -ENOENT no such driver, with the folders that were
 *  searched; -ELIBBAD not a driver; -EPROTO other ABI version, names both; or the
 *  error of the driver's open.
 */
int chip_open(const char *driver, uint32_t device, const char *options, struct chip **chip);
/* Unloads every image and closes the device. The driver stays loaded. NULL is fine. */
void chip_close(struct chip *chip);

const struct dw_chip_properties *chip_properties(const struct chip *chip);
/* Fills in the library's defaults where the driver names none and does not choose by itself. */
void chip_fill_defaults(struct dw_chip_properties *properties);
/* How many calls may be between chip_submit() and chip_collect(): 1, or more with CAP_ASYNC. */
uint32_t chip_depth(const struct chip *chip);
uint32_t chip_in_flight(const struct chip *chip);
/* Do calls run beside this thread? If so, a call that chip_submit() refused has changed nothing. */
bool chip_is_async(const struct chip *chip);
/* POLLIN while a completion can be collected; -1 for a driver that is not asynchronous. */
int chip_completion_fd(const struct chip *chip);
/* The device has answered -ENODEV: it cannot be used any more. */
bool chip_lost(const struct chip *chip);

/*
 * Images by the handle of their callable. The memory behind `spec` may go away when
 * load returns. -EEXIST, -ENOENT; unload: -EBUSY while a call is in flight.
 */
int chip_image_load(struct chip *chip, uint64_t key, const struct dw_chip_image_spec *spec);
int chip_image_unload(struct chip *chip, uint64_t key);
bool chip_image_loaded(const struct chip *chip, uint64_t key);
/* The directions of a loaded image; NULL: its driver does not tell them. */
const int32_t *chip_image_signature(struct chip *chip, uint64_t key, size_t *count);

/*
 * Hands a call to the device. The tensors and scalars that `args` points to (not
 * the struct itself), and `cancelled` (may be NULL), stay valid until the call's completion was
 * collected. An error means that nothing was started: no completion will come.
 *  -EBUSY chip_depth() calls are in flight; -ENOENT image; -EINVAL a tensor or
 *  the config makes no sense; -E2BIG more arguments than the device takes; -ENOTSUP an
 *  element type that it cannot take; -ENODEV the device is lost; -ECANCELED.
 * `places`: of the tensors on the device (cache.h), valid until the call has ended; NULL: none.
 */
int chip_submit_at(struct chip *chip, uint64_t key, const struct dw_args *args,
		   const struct dw_chip_place *places, const struct dw_config *config,
		   uint64_t cookie, const volatile uint32_t *cancelled);
static inline int chip_submit(struct chip *chip, uint64_t key, const struct dw_args *args,
			      const struct dw_config *config, uint64_t cookie,
			      const volatile uint32_t *cancelled)
{
	return chip_submit_at(chip, key, args, NULL, config, cookie, cancelled);
}

/*
 * Makes completions list the copies that were made for their calls. False: the driver does not
 * report copies. Call it before the first chip_submit().
 */
bool chip_note_copies(struct chip *chip);

struct chip_completion {
	uint64_t cookie;
	int32_t status;		/* 0 or -errno */
	const char *text; /* of the error; valid until the next call on this chip. Never NULL */
	uint64_t started;	/* CLOCK_MONOTONIC, ns */
	uint64_t ended;
	/* With chip_note_copies() only; valid until the next submit. */
	const struct dw_chip_copy *copies;
	uint32_t copy_count;
};
/*
 * Returns 1 and the next completion, or 0 if there is none yet. Never blocks. -errno: the driver is
 * broken, and no completion will come.
 */
int chip_collect(struct chip *chip, struct chip_completion *completion);

/*
 * Memory that stays on the device. `handle` is an address range that the caller
 * chose and that has no other use; tensors that lie in it mean this memory.
 * -EOPNOTSUPP: the device has no memory of its own. -EEXIST, -ENOENT, -ENOMEM, -ERANGE.
 */
int chip_alloc(struct chip *chip, uint64_t handle, uint64_t bytes);
int chip_free(struct chip *chip, uint64_t handle);
/* Does the address lie in memory that chip_alloc() made here? */
bool chip_owns(const struct chip *chip, uint64_t address);
/*
 * The same with undefined contents, for the cache alone (cache.h): chip_owns() does not know it,
 * and it is not for the tensors of a caller.
 */
int chip_reserve(struct chip *chip, uint64_t handle, uint64_t bytes);
void chip_release(struct chip *chip, uint64_t handle);
int chip_copy_in(struct chip *chip, uint64_t handle, const void *host, uint64_t bytes);
int chip_copy_out(struct chip *chip, void *host, uint64_t handle, uint64_t bytes);
/* Copies between two parts of such memory, through host memory if the driver has no such copy. */
int chip_copy_within(struct chip *chip, uint64_t to, uint64_t from, uint64_t bytes);

int chip_counters(struct chip *chip, struct dw_chip_counters *counters);

/* ------------------------------------------------------------------ loader */

/* A driver's table; the members that an older driver does not have are zero. */
struct chip_driver {
	struct dw_chip_driver table;
	char path[4096];
};

/*
 * By path when `name` has a slash; else libdistworker-chip-NAME.so in the
 * folders of DW_CHIP_PATH (colons), in the folder of this library, in distworker/ below it, and
 * in DW_DRIVER_DIR (set at build time). Stays loaded for the life of the process. Any thread.
 */
int chip_driver_load(const char *name, struct chip_driver *driver);

#endif
