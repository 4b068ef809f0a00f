/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The calls of an orchestration function besides submits: memory, scopes, and the number of
 * workers. See submit.h.
 */
#include <errno.h>
#include "engine/progress.h"
#include "engine/record.h"
#include "engine/run.h"
#include "engine/state.h"
#include "engine/submit.h"

DW_API int dw_alloc(struct dw_orch *orch, int dtype, const uint32_t *shape, uint32_t ndims,
		    struct dw_tensor *tensor)
{
	struct dw_tensor made;
	struct engine *engine;
	uint64_t bytes;
	int result;

	result = orch_usable(orch);
	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "tensor is NULL");
	if (result == 0)
		result = dw_tensor_init(&made, NULL, dtype, shape, ndims);
	if (result == 0)
		result = dw_tensor_bytes(&made, &bytes);
	if (result < 0)
		return result;
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = orch->run->graph.cancelled ? orch_cancelled(orch->run) :
		 orch_heap_alloc_locked(orch, heap_aligned(bytes), &made.data);
	engine_unlock_and_wake(engine);
	if (result == 0)
		*tensor = made;
	return result;
}

DW_API int dw_scope_begin(struct dw_orch *orch)
{
	struct engine *engine;
	struct scope *scope;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	if (orch->scope->depth >= SCOPE_MAX_DEPTH)
		return error_set(-EOVERFLOW, "%d scopes are open; no more fit into each other",
				 SCOPE_MAX_DEPTH);
	engine = orch->run->engine;
	lock_take(&engine->lock);
	result = scope_create(orch->scope, &orch->run->graph, &scope);
	if (result == 0)
		orch_set_scope(orch, scope);
	lock_give(&engine->lock);
	return result;
}

DW_API int dw_scope_end(struct dw_orch *orch)
{
	struct engine *engine;
	struct scope *scope;
	int result = orch_usable(orch);

	if (result < 0)
		return result;
	scope = orch->scope;
	if (!scope->outer)
		return error_set(-EINVAL,
				 "no scope is open: dw_scope_end() without dw_scope_begin()");
	if (orch->recorder && scope == recorder_scope(orch->recorder))
		return orch_not_recording(orch, "dw_scope_end()",
					  "the scope was open before dw_record_begin; end it after "
					  "dw_record_end");
	engine = orch->run->engine;
	lock_take(&engine->lock);
	orch_set_scope(orch, scope->outer);
	if (scope_end(engine->heap, scope))
		waiters_settle(engine);
	engine_unlock_and_wake(engine);
	return 0;
}

DW_API uint32_t dw_orch_worker_count(const struct dw_orch *orch)
{
	const struct engine *engine = orch_usable(orch) == 0 ? orch->run->engine : NULL;

	return engine ? engine->rings.count - engine->schedule.sub_count : 0;
}

DW_API uint32_t dw_orch_sub_count(const struct dw_orch *orch)
{
	return orch_usable(orch) == 0 ? orch->run->engine->schedule.sub_count : 0;
}
