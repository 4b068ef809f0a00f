/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Tasks that record on a board when and where they ran, for an engine of engine_rig.h. */
#ifndef TIMED_TASKS_H
#define TIMED_TASKS_H

#include "unit.h"
#include "engine_rig.h"

struct board {
	_Atomic int64_t ran;
	_Atomic int64_t worker[1024];
	_Atomic uint64_t ended[1024];
	_Atomic uint64_t
		took[1024]; /* ns, as measured: more than was asked for on a busy machine */
	_Atomic int64_t members;
	_Atomic int64_t told;
	_Atomic bool scribbled;
	_Atomic pid_t scribbler;	/* 0: it has not begun */
};

/* Scalars: board, index, ns to sleep. */
static int timed(const struct dw_args *args, void *context)
{
	struct board *board = (struct board *)dw_args_scalar(args, 0);
	uint64_t i = dw_args_scalar(args, 1), begin = rig_now();

	(void)context;
	if (dw_args_scalar(args, 2))
		rig_sleep(dw_args_scalar(args, 2));
	board->worker[i] = getpid();
	board->ended[i] = rig_now();
	board->took[i] = board->ended[i] - begin;
	atomic_fetch_add(&board->ran, 1);
	return 0;
}

static int timed_node(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	(void)orch;
	(void)config;
	return timed(args, context);
}

static dw_callable timed_handle, node_handle;

struct job {
	struct board *board;
	struct dw_args *args;
	uint64_t begin;
	int variant;
	struct rig *rig;
};

static int submit(struct dw_orch *orch, struct job *job, dw_callable callable, uint64_t index,
		  uint64_t ns, void *data, enum dw_tag tag, uint32_t worker)
{
	struct dw_submit_options options = DW_OPTIONS(dw_submit_options);

	options.place = DW_PLACE(worker);
	dw_args_reset(job->args);
	if (data)
		rig_add(job->args, data, 1, tag);
	dw_args_add_scalar(job->args, (uint64_t)(uintptr_t)job->board);
	dw_args_add_scalar(job->args, index);
	dw_args_add_scalar(job->args, ns);
	return dw_submit(orch, callable, job->args, &options, NULL);
}

static struct rig *open_with(struct rig_options options, struct job *job)
{
	struct rig *rig;

	if (!timed_handle) {
		timed_handle = rig_sub("timed", timed);
		node_handle = rig_node("timed_node", timed_node);
	}
	rig = rig_open(options);
	if (!rig)
		return NULL;
	job->board = rig_buffer(rig, sizeof(*job->board));
	dw_args_create(&job->args);
	return rig;
}

static void done_with(struct rig *rig, struct job *job)
{
	dw_args_destroy(job->args);
	rig_close(rig);
}

__attribute__((unused)) static int many_equal(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct job *job = context;

	(void)args;
	(void)config;
	job->begin = rig_now();
	for (uint64_t i = 0; i < 40; i++)
		submit(orch, job, timed_handle, i, 10000000, NULL, 0, DW_ANY);
	return 0;
}

#endif
