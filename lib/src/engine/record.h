/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * record: graphs that are recorded while their tasks are submitted. replay.h submits them again.
 *
 * Owns: struct dw_graph, struct recorder (the open recording of an Orchestrator), and record_set
 * (the graphs of an engine). A graph refers to its tasks by their place, and holds no callable: a
 * replay looks each one up. Dependencies come from a tensor map of its own, whose tasks never end,
 * so that they do not depend on the timing.
 *
 * Invariants: after its recording nothing of a graph changes but what a replay is given: `values`
 * and `refs`, which belong to the run that `run` names. `run` is set while tasks of that run may
 * use the graph's blocks: these are given back only when it has ended, or has no task in flight.
 *
 * Guarded by the engine's lock, which all functions need unless they say otherwise. The lock of a
 * graph_anchor comes before it: the anchor outlives the engine, for graphs that do.
 */
#ifndef DW_ENGINE_RECORD_H
#define DW_ENGINE_RECORD_H

#include "base/lock.h"
#include "base/range.h"
#include "engine/graph_again.h"

struct border_set;
struct engine;
struct graph_memory;

struct recorded_task {
	struct task_template template; /* of a group: without a payload */
	uint32_t edges_end; /* behind its last one in the graph's array, … */
	uint32_t borders_end; /* … which begins behind the last one of the task before */
	uint32_t first_member, members; /* of a group; 0: it is none */
};

struct recorded_member {
	struct payload_template payload;
	uint32_t worker; /* as dw_submit_group() takes it */
};

struct graph_parameter {
	struct range range; /* in the recording */
	bool written; /* a task may write to it */
	bool unordered; /* a task has it as NO_DEP */
	bool on_chip; /* it is device memory */
};

struct graph_callable {
	dw_callable handle;
	struct callable *callable;
	uint64_t uses; /* tasks */
};

/* Workers that must be there for a replay. */
struct graph_target {
	uint32_t worker; /* DW_ANY: one of the pool, … */
	uint32_t members; /* … or so many */
	uint16_t pool;
};

/* Memory that is at the same place in each replay. */
struct graph_place {
	struct range range;
	bool written;
};

/* A tensor in device memory. */
struct graph_chip_tensor {
	struct range range;
	uint32_t source, worker, tensor;
};

struct graph_block {
	void *address; /* of the arena */
	uint64_t bytes;
};

/* Allocated in powers of two: see recorder_grow(). */
#define RECORD_LIST(type) \
	struct { \
		type *all; \
		uint32_t count; \
	}

struct graph_anchor {
	struct lock lock;
	struct engine *engine; /* NULL: it was destroyed */
	_Atomic uint32_t users; /* graphs, and the engine */
};

struct dw_graph {
	struct dw_graph *next, *previous; /* of the engine; or free */
	struct graph_anchor *anchor;
	uint32_t process; /* process_serial() */
	char *name;
	struct run_graph *run; /* may have tasks of it in flight; or NULL */
	bool recording, replaying; /* a call of that run's thread is at it */
	bool destroyed; /* goes when no task of it is in flight */

	RECORD_LIST(struct recorded_task) tasks;
	RECORD_LIST(struct recorded_edge) edges;
	RECORD_LIST(struct recorded_border) borders;
	RECORD_LIST(struct recorded_member) members;
	RECORD_LIST(struct graph_parameter) parameters;
	uint32_t *by_address; /* the parameters */
	RECORD_LIST(struct graph_callable) callables;
	RECORD_LIST(struct graph_target) targets;
	RECORD_LIST(struct graph_place) places;
	RECORD_LIST(struct graph_chip_tensor) chip_tensors;
	RECORD_LIST(struct graph_block) blocks;
	uint32_t scalars;
	uint64_t *values; /* 0; how far each parameter has moved; scalars */
	struct task_ref *refs;
	struct graph_memory *memory; /* of templates */
	uint64_t block_bytes;
	_Atomic uint64_t replays; /* a counter, for dw_graph_query() */
};

/* Where a value of a replay lies in `values`. */
static inline uint32_t graph_source_of_parameter(uint32_t index)
{
	return 1 + index;
}
static inline uint32_t graph_source_of_scalar(const struct dw_graph *graph, uint32_t index)
{
	return 1 + graph->parameters.count + index;
}

struct record_set {
	struct dw_graph *first;
	struct graph_anchor *anchor; /* NULL: nothing was ever recorded */
	uint32_t serial; /* of names */
};

struct recorder;

/* `parameters`: checked tensors. NULL `name`: one by number. 0, or -ENOMEM with a text. */
int recorder_begin(struct engine *engine, struct run_graph *run, const char *name,
		   const struct dw_tensor *parameters, size_t count, struct scope *scope,
		   struct recorder **recorder);
/* Complete, for the caller; or an error with a text, and the recording is dropped. */
int recorder_end(struct recorder *recorder, struct dw_graph **graph);
void recorder_drop(struct recorder *recorder);
const char *recorder_name(const struct recorder *recorder);
/* The innermost scope that was open when the recording began. */
const struct scope *recorder_scope(const struct recorder *recorder);

/* Before a submit: -EINVAL, and what the task, or a member of it, may not refer to. */
int recorder_check(struct engine *engine, const struct recorder *recorder,
		   const struct dw_args *args, const struct range *ranges,
		   const struct dw_submit_options *options);
/* A block of the graph: 0, -ENOMEM. `bytes` is a multiple of HEAP_ALIGN. */
int recorder_alloc(struct engine *engine, struct recorder *recorder, uint64_t bytes,
		   uint64_t *address);
/*
 * After a submit, before anything is dispatched. Errors wait for recorder_end(). A group has
 * several arguments, one after the other in `ranges`.
 */
void recorder_task(struct engine *engine, struct recorder *recorder, const struct task *task,
		   struct dw_args *const *args, const struct range *ranges,
		   const struct dw_submit_options *options);
/* As dw_record_scalar(). */
int recorder_scalar(struct recorder *recorder, size_t member, size_t scalar, size_t parameter);

/* --------------------------------------------------------------- life of graphs */

/* record.c's half of recorder_end(): borders, memory, and what replays are given. */
int recorder_seal(struct dw_graph *graph, const struct border_set *borders);
/* Memory of a graph, aligned to 16 bytes, zeroed; NULL: none. Any thread, before its end. */
void *graph_memory_take(struct dw_graph *graph, size_t bytes);
/* Room for one more; false: no memory. */
bool recorder_grow(void *list, uint32_t count, size_t bytes);
#define RECORD_ADD(list) \
	(recorder_grow(&(list)->all, (list)->count, sizeof(*(list)->all)) ? \
		 &(list)->all[(list)->count++] : \
		 NULL)

/* In the engine from here on, as one that is being recorded in `run`. -ENOMEM with a text. */
int graph_create(struct engine *engine, const char *name, struct run_graph *run,
		 struct dw_graph **graph);
/* It is complete, or else it goes. */
void graph_recorded(struct dw_graph *graph, bool complete);
/* For graph_find_parameter(), once all of them are there. False: no memory. */
bool graph_sort_parameters(struct dw_graph *graph);
/* Its source in the parameters: a range lies in one (1 + index), in none (0), or partly (-1). */
int64_t graph_find_parameter(const struct dw_graph *graph, const struct range *range);
bool graph_has_block(const struct dw_graph *graph, uint64_t address);
/* Whether a run other than this one has tasks of the graph that are not final. */
bool graph_is_busy(const struct dw_graph *graph, const struct run_graph *run);
/* Takes it over from a run that has no task in flight. */
void graph_take(struct engine *engine, struct dw_graph *graph, struct run_graph *run);
static inline void graph_set_replaying(struct dw_graph *graph, bool replaying)
{
	graph->replaying = replaying;
	if (replaying)
		atomic_fetch_add_explicit(&graph->replays, 1, memory_order_relaxed);
}
void graph_set_value(struct dw_graph *graph, uint32_t source, uint64_t value);
static inline void graph_set_ref(struct dw_graph *graph, uint32_t place, struct task *task)
{
	graph->refs[place] = (struct task_ref){ task, task->head.generation };
}
/* As dw_graph_destroy(). Takes the locks. */
void graph_destroy(struct dw_graph *graph);
/* None of its tasks is in flight. */
void graphs_run_ended(struct engine *engine, const struct run_graph *run);
/* The engine goes. Without the lock. */
void graphs_release(struct engine *engine);
/* -EBUSY with a text in which `what` would be taken away: a graph uses it. Takes the lock. */
int engine_records_use_callable(struct engine *engine, dw_callable handle, const char *what);
int engine_records_use_memory(struct engine *engine, const struct range *range, const char *what);

#endif
