/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See buffer.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine/buffer.h"
#include "engine/record.h"
#include "memory/arena.h"
#include "task/options.h"
#include "worker/buffer.h"
#include "worker/hierarchy.h"

static int check_buffer(struct dw_worker *worker, const char *call)
{
	int result = worker_check(worker, call);

	if (result < 0)
		return result;
	if (worker->parent)
		return error_set(-EINVAL,
				 "%s: Worker %s is a child of %s; buffers belong to the root", call,
				 worker->name, worker->parent->name);
	return hierarchy_make_arena(worker, NULL);
}

/* ---------------------------------------------------------------------- kept */

int buffers_tell_engine(struct dw_worker *worker)
{
	int result = 0;

	for (uint32_t i = 0; i < worker->kept.count && result == 0; i++)
		result = engine_keep(worker->life.engine, &worker->kept.ranges[i]);
	return result;
}

void buffers_release(struct dw_worker *worker)
{
	free(worker->kept.ranges);
}

static int keep_locked(struct dw_worker *worker, const struct range *range)
{
	struct kept_buffers *kept = &worker->kept;
	struct range *grown = realloc(kept->ranges, (kept->count + 1) * sizeof(*grown));
	int result = 0;

	if (!grown)
		return error_set(-ENOMEM, "no memory to note a kept buffer");
	kept->ranges = grown;
	if (worker->life.engine)
		result = engine_keep(worker->life.engine, range);
	if (result == 0)
		kept->ranges[kept->count++] = *range;
	return result;
}

static void forget_locked(struct dw_worker *worker, uint64_t begin)
{
	struct kept_buffers *kept = &worker->kept;

	for (uint32_t i = 0; i < kept->count; i++)
		if (kept->ranges[i].begin == begin) {
			kept->ranges[i] = kept->ranges[--kept->count];
			if (worker->life.engine)
				engine_forget_buffer(worker->life.engine, begin);
			return;
		}
}

/* --------------------------------------------------------------------- calls */

static int create(struct dw_worker *worker, const char *call, uint64_t bytes, bool kept,
		  void **address)
{
	struct range range;
	void *made;
	int result;

	if (!bytes || !address)
		return error_set(-EINVAL, "%s: %s", call, bytes ? "`address` is NULL" : "0 bytes");
	result = arena_alloc(worker->arena, bytes, &made);
	if (result < 0)
		return result;
	if (kept) {
		range = (struct range){ (uintptr_t)made, (uintptr_t)made + bytes };
		lock_take(&worker->registering);
		result = keep_locked(worker, &range);
		lock_give(&worker->registering);
	}
	if (result < 0)
		arena_free(worker->arena, made);
	else
		*address = made;
	return result;
}

DW_API int dw_buffer_create(struct dw_worker *worker, uint64_t bytes, void **address)
{
	int result = check_buffer(worker, "dw_buffer_create");

	return result < 0 ? result : create(worker, "dw_buffer_create", bytes, false, address);
}

DW_API int dw_buffer_create_with(struct dw_worker *worker, const struct dw_buffer_options *options,
				 void **address)
{
	static const char call[] = "dw_buffer_create_with";
	struct dw_buffer_options full;
	int result = check_buffer(worker, call);

	if (result == 0)
		result = options_read(&full, sizeof(full), options, "dw_buffer_options");
	if (result < 0)
		return result;
	if (full.flags & ~DW_BUFFER_KEPT || full.reserved)
		return error_set(-EINVAL,
				 "%s: options.flags is %#x and reserved %u; only DW_BUFFER_KEPT "
				 "(%#x) is known, and reserved should be 0",
				 call, full.flags, full.reserved, DW_BUFFER_KEPT);
	return create(worker, call, full.bytes, full.flags & DW_BUFFER_KEPT, address);
}

static int check_range(const struct dw_worker *worker, const char *call, const void *buffer,
		       const void *other, uint64_t bytes)
{
	if (!buffer || !other)
		return error_set(-EINVAL, "%s: an address is NULL", call);
	if (!arena_contains(worker->arena, (uintptr_t)buffer, bytes))
		return error_set(-EFAULT,
				 "%s: [%p, + %llu) does not lie in the memory of Worker %s", call,
				 buffer, (unsigned long long)bytes, worker->name);
	return 0;
}

static struct range range_at(const void *begin, uint64_t bytes)
{
	return (struct range){ (uintptr_t)begin, (uintptr_t)begin + bytes };
}

DW_API int dw_buffer_write(struct dw_worker *worker, void *to, const void *from, uint64_t bytes)
{
	struct range range = range_at(to, bytes);
	int result = check_buffer(worker, "dw_buffer_write");

	if (result == 0)
		result = check_range(worker, "dw_buffer_write", to, from, bytes);
	if (result < 0 || !bytes)
		return result;
	if (worker->life.state == WORKER_UP)
		return engine_buffer_write(worker->life.engine, &range, from, "dw_buffer_write");
	memcpy(to, from, bytes);
	return 0;
}

DW_API int dw_buffer_read(struct dw_worker *worker, void *to, const void *from, uint64_t bytes)
{
	struct range range = range_at(from, bytes);
	int result = check_buffer(worker, "dw_buffer_read");

	if (result == 0)
		result = check_range(worker, "dw_buffer_read", from, to, bytes);
	if (result < 0 || !bytes)
		return result;
	if (worker->life.state == WORKER_UP)
		return engine_buffer_read(worker->life.engine, &range, to, "dw_buffer_read");
	memcpy(to, from, bytes);
	return 0;
}

/* -EBUSY: a recorded graph in this process uses it. */
static int check_recordings(struct dw_worker *worker, const struct range *range)
{
	int result = 0;

	if (worker->life.engine)
		result = engine_records_use_memory(worker->life.engine, range, "dw_buffer_destroy");
	for (uint32_t i = 0; result == 0 && i < worker->nested_count; i++)
		result = check_recordings(worker->nested[i], range);
	return result;
}

DW_API int dw_buffer_destroy(struct dw_worker *worker, void *address)
{
	int result = check_buffer(worker, "dw_buffer_destroy");
	struct range range;

	if (result < 0)
		return result;
	lock_take(&worker->registering);
	range = range_at(address, arena_bytes(worker->arena, address));
	if (range.begin < range.end)
		result = check_recordings(worker, &range);
	if (result == 0)
		result = arena_free(worker->arena, address);
	if (result == 0)
		forget_locked(worker, (uintptr_t)address);
	lock_give(&worker->registering);
	return result;
}

DW_API int dw_buffer_register(struct dw_worker *worker, void *address, uint64_t bytes)
{
	int result = check_buffer(worker, "dw_buffer_register");

	if (result < 0)
		return result;
	lock_take(&worker->registering);
	if (worker->life.state != WORKER_NEW)
		result = error_set(-EBUSY,
				   "dw_buffer_register: Worker %s was initialised already; the "
				   "children would not have this memory",
				   worker->name);
	else
		result = arena_register(worker->arena, address, bytes);
	lock_give(&worker->registering);
	return result;
}
