/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See buffer.h.
 */
#include <errno.h>
#include <string.h>
#include "engine/buffer.h"
#include "engine/run.h"
#include "engine/state.h"

int engine_keep(struct engine *engine, const struct range *range)
{
	int result;

	lock_take(&engine->lock);
	result = names_keep(&engine->graph.names, range);
	lock_give(&engine->lock);
	return result;
}

void engine_forget_buffer(struct engine *engine, uint64_t begin)
{
	lock_take(&engine->lock);
	names_forget_buffer(&engine->graph.names, begin);
	lock_give(&engine->lock);
}

static int check_unused_locked(const struct engine *engine, const struct range *range,
			       bool writing, const char *what)
{
	for (const struct dw_run *run = engine->runs.first; run; run = run->next)
		if (tensor_map_in_use(run->graph.map, range->begin, range->end, writing))
			return error_set(-EBUSY,
					 "%s: tasks that have not ended %s bytes of "
					 "[%#llx, + %llu)",
					 what, writing ? "use" : "write",
					 (unsigned long long)range->begin,
					 (unsigned long long)(range->end - range->begin));
	return 0;
}

int engine_buffer_write(struct engine *engine, const struct range *range, const void *from,
			const char *what)
{
	int result;

	lock_take(&engine->lock);
	result = check_unused_locked(engine, range, true, what);
	lock_give(&engine->lock);
	if (result < 0)
		return result;
	memcpy((void *)(uintptr_t)range->begin, from, range->end - range->begin);
	lock_take(&engine->lock);
	names_written(&engine->graph.names, range);
	for (const struct dw_run *run = engine->runs.first; run; run = run->next)
		tensor_map_set_name(run->graph.map, range->begin, range->end, 0);
	lock_give(&engine->lock);
	return 0;
}

int engine_buffer_read(struct engine *engine, const struct range *range, void *to,
		       const char *what)
{
	int result;

	lock_take(&engine->lock);
	result = check_unused_locked(engine, range, false, what);
	lock_give(&engine->lock);
	if (result == 0)
		memcpy(to, (const void *)(uintptr_t)range->begin, range->end - range->begin);
	return result;
}
