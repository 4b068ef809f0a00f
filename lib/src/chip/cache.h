/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * cache: the tensors that a device keeps in its memory from one call to the next, by the names of
 * their contents (mailbox/frame.h), so that what it has is not copied to it again.
 *
 * Owns: struct chip_cache: blocks of device memory, each with the host range and the name that it
 * stands for. Host memory is valid whenever a task is done, since outputs are copied home within
 * their call: a block can be dropped at any time, without a copy.
 *
 * The exception is a *kept* block: a later call writes the same range again (engine/elision.h), so
 * the copy home was left out. It goes home before it is dropped, before a call uses bytes of it in
 * another way, and with cache_settle(). If that fails, the device is out of order (cache_error()).
 * A call that writes it, and has tensors without a place, could be refused for want of room after
 * it has begun: then, too, it goes home before.
 *
 * A call has a *place* for each of its tensors that the cache takes: the device memory, and which
 * way it is to be copied. The others go the way that they go without a cache. Calls end in
 * the order in which they began.
 *
 * Invariants: a host byte lies in at most one block. A block that a call in flight uses (`pins`)
 * stays. A block that a call writes has no name until the call has succeeded, and one that a call
 * fetches has none either: another call that wants it meanwhile gets no place.
 *
 * With DW_CHIP_DEBUG=fill, memory whose contents are undefined is filled with a pattern: dropped
 * blocks, and, on the device and on the host, whatever a call writes without reading it first. This
 * exposes a kernel that reads such memory, or leaves bytes of it unwritten.
 *
 * Belongs to the thread of its chip. No locks.
 */
#ifndef DW_CHIP_CACHE_H
#define DW_CHIP_CACHE_H

#include "chip/chip.h"
#include "mailbox/frame.h"

struct chip_cache;

struct chip_cache_counters {
	uint64_t blocks, bytes;		/* now */
	uint64_t hits, saved_bytes;	/* of calls that ended: tensors that were there */
	uint64_t evictions;		/* blocks that were dropped for others */
	uint64_t kept;			/* outputs whose copy home was left out */
	uint64_t settled;		/* those of them that were copied home later */
};

/*
 * *cache is NULL, and the result 0, where the device or its driver cannot keep anything. -EINVAL: a
 * value of DW_CHIP_DEBUG that is unknown.
 */
int cache_create(struct chip *chip, struct chip_cache **cache);
/* Before the chip is closed. NULL is fine. */
void cache_destroy(struct chip_cache *cache);

/* Called when a kept result was copied home, after its call: `task` made it, as `copy->tensor`. */
typedef void cache_settled_fn(void *context, uint64_t task, const struct dw_chip_copy *copy);
void cache_tell_settled(struct chip_cache *cache, cache_settled_fn *fn, void *context);

/* A call that is posted behind another one and overwrites what that one has written. */
struct superseder {
	const struct dw_args *args;
	const struct frame_names *names;
	const int32_t *signature;
	size_t signature_count;
	uint32_t frame;
	uint64_t task;			/* the number of the one before it, for messages */
};

/*
 * The places of a call that is about to begin; they are valid until its end. `signature`: one
 * direction for each tensor, then the scalars. `by`: the call that supersedes it, or NULL. Returns
 * NULL when none of its tensors has a place.
 */
const struct dw_chip_place *cache_begin(struct chip_cache *cache, const struct dw_args *args,
					const int32_t *signature, size_t signature_count,
					const struct frame_names *names,
					const struct superseder *by);
/*
 * The call that began last was refused, and does not run. `untouched`: it has changed nothing;
 * otherwise the result says whether a kept block was lost.
 */
bool cache_undo(struct chip_cache *cache, bool untouched);
/* Does the oldest call leave outputs to a later frame? Then *frame is that one. */
bool cache_keeps(const struct chip_cache *cache, uint32_t *frame);
/*
 * Call this when the oldest call has ended. `keep`: the frame of cache_keeps() is still there, and
 * will run. Returns 1 if outputs were kept, 0 if none were, or -errno with a text: they could not
 * be copied home, so the call has failed.
 */
int cache_end(struct chip_cache *cache, bool succeeded, bool keep);
/* The task whose kept result was changed by the call that ended last and failed; 0: none. */
uint64_t cache_lost(const struct chip_cache *cache);
/* Copies all that is kept home: 0, or -errno with a text. */
int cache_settle(struct chip_cache *cache);
/* Frames before this one have left the ring: results that are still kept for them are dropped. */
void cache_forgo(struct chip_cache *cache, uint32_t frame);
/* 0, or the error of a kept block that could not be copied home; its text was the thread's last. */
int cache_error(const struct chip_cache *cache);
/* Drops blocks, the oldest first, until `bytes` bytes are free. Returns whether any was dropped. */
bool cache_shrink(struct chip_cache *cache, uint64_t bytes);
/*
 * The same after a call with these arguments found no room. Returns false also when the call uses
 * resident memory, which it may have changed before it failed.
 */
bool cache_shrink_for(struct chip_cache *cache, const struct dw_args *args);

void cache_counters(const struct chip_cache *cache, struct chip_cache_counters *counters);

#endif
