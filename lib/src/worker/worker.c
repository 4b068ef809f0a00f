/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The public calls of a Worker: create, add_child, init, run, close, destroy, memory of
 * chips. The top of the layer: it owns nothing, and calls the modules below.
 */
#include <errno.h>
#include "worker/buffer.h"
#include "worker/child.h"
#include "worker/hierarchy.h"
#include "worker/register.h"

/* ------------------------------------------------------------------ create */

static void free_tree(struct dw_worker *worker)
{
	buffers_release(worker);
	hierarchy_drop_arena(worker);
	for (uint32_t i = 0; i < worker->nested_count; i++)
		free_tree(worker->nested[i]);
	/* The callables of a Worker in a process of its own are in our table as well. */
	registrations_release(worker);
	hierarchy_free(worker);
}

DW_API int dw_worker_create(uint32_t level, const struct dw_worker_options *options,
			    struct dw_worker **worker)
{
	struct dw_worker *made;
	int result;

	if (!worker)
		return error_set(-EINVAL, "dw_worker_create: `worker` is NULL");
	result = hierarchy_create(level, options, child_main, &made);
	if (result < 0)
		return result;
	lifecycle_init(made);
	segment_init(made);
	spawner_init(&made->spawner);
	*worker = made;
	return 0;
}

DW_API int dw_worker_add_child(struct dw_worker *parent, struct dw_worker *child, uint32_t *id)
{
	int result = worker_check(parent, "dw_worker_add_child");

	if (result == 0)
		result = worker_check(child, "dw_worker_add_child");
	if (result == 0)
		result = hierarchy_add(parent, child);
	if (result == 0 && id)
		*id = child->id;
	return result;
}

DW_API int dw_worker_chip_id(const struct dw_worker *worker, uint32_t chip, uint32_t *id)
{
	int result = worker_check(worker, "dw_worker_chip_id");

	if (result < 0)
		return result;
	if (!id)
		return error_set(-EINVAL, "dw_worker_chip_id: `id` is NULL");
	if (chip >= worker->options.chip_count)
		return error_set(-ERANGE, "chip %u of Worker %s; it has %u", chip, worker->name,
				 worker->options.chip_count);
	*id = chip;
	return 0;
}

/* -------------------------------------------------------------- init, close */

DW_API int dw_worker_init(struct dw_worker *root)
{
	int result = worker_check(root, "dw_worker_init");

	if (result < 0)
		return result;
	if (root->parent)
		return error_set(-EINVAL, "Worker %s is a child of %s: initialise the root",
				 root->name, root->parent->name);
	lock_take(&root->registering);
	result = lifecycle_bring_up(root);
	lock_give(&root->registering);
	log_forks_done();
	return result;
}

DW_API int dw_worker_close(struct dw_worker *root)
{
	int result;

	if (!root)
		return 0;
	result = worker_check(root, "dw_worker_close");
	if (result < 0)
		return result;
	if (root->parent)
		return error_set(-EINVAL, "Worker %s is a child of %s: close the root", root->name,
				 root->parent->name);
	result = worker_check_outside(root, "dw_worker_close");
	if (result < 0)
		return result;
	return lifecycle_stop(root, deadline_in(root->options.close_timeout_ns));
}

DW_API void dw_worker_destroy(struct dw_worker *root)
{
	if (!root || worker_check(root, "dw_worker_destroy") < 0)
		return;
	if (root->parent) {
		error_set(-EINVAL, "Worker %s is a child of %s: destroy the root, which owns it",
			  root->name, root->parent->name);
		return;
	}
	if (worker_check_outside(root, "dw_worker_destroy") < 0)
		return;
	dw_worker_close(root);
	if (lifecycle_release(root))
		free_tree(root);
	else
		log_at(LOG_ERROR, "%s: not freed, because threads or runs that did not end before "
		       "close_timeout_ns still use it", root->path);
}

/* --------------------------------------------------------------------- run */

static int check_up(struct dw_worker *worker, const char *call)
{
	int result = worker_check(worker, call);

	if (result < 0)
		return result;
	if (worker->life.state != WORKER_UP)
		return error_set(-ENOTCONN, "%s: Worker %s is %s", call, worker->name,
				 worker->life.state == WORKER_NEW      ? "not initialised" :
				 worker->life.state == WORKER_STARTING ? "being initialised" :
									 "closed");
	return 0;
}

/* Checks that precede a wait for a run of this Worker. */
static int check_outside(struct dw_worker *worker, const char *call)
{
	return worker_inside_task(worker) ?
		error_set(-EDEADLK,
			  "%s: the call is made by a callable that is a task of Worker %s, or of "
			  "one below it, and the run could need the child that waits for it",
			  call, worker->path) : 0;
}

DW_API int dw_worker_run(struct dw_worker *worker, dw_orch_fn *fn, const struct dw_args *args,
			 const struct dw_config *config, void *context)
{
	int result = check_up(worker, "dw_worker_run");

	if (result == 0 && config)
		result = engine_check_config(config, "config");
	if (result == 0)
		result = check_outside(worker, "dw_worker_run");
	if (result < 0)
		return result;
	return engine_run(worker->life.engine, fn, args, config, context, NULL);
}

DW_API int dw_worker_start(struct dw_worker *worker, dw_orch_fn *fn, const struct dw_args *args,
			   const struct dw_config *config, void *context,
			   const struct dw_run_options *options, struct dw_run **run)
{
	struct dw_run_options full = DW_OPTIONS(dw_run_options);
	int result = check_up(worker, "dw_worker_start");

	if (result == 0 && !run)
		result = error_set(-EINVAL, "dw_worker_start: `run` is NULL");
	if (result == 0 && config)
		result = engine_check_config(config, "config");
	if (result == 0)
		result = engine_read_run_options(options, &full);
	if (result == 0 && full.here)
		result = check_outside(worker, "dw_worker_start");
	if (result < 0)
		return result;
	return engine_run_start(worker->life.engine, fn, args, config, context, &full, run);
}

DW_API int dw_run_cancel(struct dw_run *run)
{
	return engine_run_cancel(run, -ECANCELED, "cancelled by the application");
}

DW_API int dw_worker_cancel(struct dw_worker *worker)
{
	int result = check_up(worker, "dw_worker_cancel");

	if (result < 0)
		return result;
	engine_cancel_all(worker->life.engine, -ECANCELED, "cancelled by the application");
	return 0;
}

DW_API int dw_worker_interrupt(struct dw_worker *worker)
{
	int result = check_up(worker, "dw_worker_interrupt");

	if (result < 0)
		return result;
	engine_interrupt(worker->life.engine);
	return 0;
}

/* ----------------------------------------------------------- chip memory */

/* A Worker below one whose children are processes is up in its own process alone. */
static int check_chip_memory(struct dw_worker *worker, const char *call)
{
	int result = check_up(worker, call);

	if (result == -ENOTCONN && worker->parent &&
	    worker->parent->options.mode == DW_PROCESS && worker->life.state == WORKER_NEW)
		result = error_set(-ENOTCONN,
				   "%s: Worker %s is a process of its own, or was never "
				   "initialised: call this in its orchestration function, with "
				   "dw_orch_worker()",
				   call, worker->name);
	return result;
}

DW_API int dw_chip_memory_create(struct dw_worker *worker, uint32_t id, int dtype,
				 const uint32_t *shape, uint32_t ndims, struct dw_tensor *tensor)
{
	int result = check_chip_memory(worker, "dw_chip_memory_create");

	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "dw_chip_memory_create: `tensor` is NULL");
	if (result < 0)
		return result;
	return engine_chip_memory_create(worker->life.engine, id, dtype, shape, ndims, tensor);
}

DW_API int dw_chip_memory_destroy(struct dw_worker *worker, const struct dw_tensor *tensor)
{
	int result = check_chip_memory(worker, "dw_chip_memory_destroy");

	if (result == 0 && !tensor)
		result = error_set(-EINVAL, "dw_chip_memory_destroy: `tensor` is NULL");
	return result < 0 ? result : engine_chip_memory_destroy(worker->life.engine, tensor);
}

DW_API struct dw_worker *dw_orch_worker(struct dw_orch *orch)
{
	return orch_usable(orch) == 0 ? engine_context(orch_engine(orch)) : NULL;
}
