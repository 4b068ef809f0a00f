/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Recorded graphs: tasks whose dependencies are found once, and that are then posted again and
 * again. A part of distworker.h, which has the conventions, the table of threads and the limits,
 * and includes this file.
 *
 *   dw_record_begin(orch, &options);	    from here on submits are recorded, and run as ever
 *   dw_submit(orch, …); …
 *   dw_record_end(orch, &graph);
 *   dw_replay(orch, graph, …);		    the same tasks once more
 *
 * A replay has the result of submitting its tasks one by one: its first tasks wait for what was
 * submitted before it, and what comes later waits for its last ones; failures follow data, and
 * names, priorities, places, retries, deadlines and groups are those of the recording.
 *
 * Memory. A tensor of a recorded task lies in one of these:
 *
 *   in a parameter	another one may take its place at each replay
 *   in a block of the	what dw_alloc(), and DW_OUTPUT tensors with address 0, have been given
 *   graph		inside the recording: it has the same address at each replay, and stays
 *			until the graph goes; scopes do not end it
 *   in a buffer, in	the same at each replay; dw_buffer_destroy(), dw_chip_memory_destroy() and
 *   memory that was	dw_callable_unregister() are -EBUSY, and name the graph, while a graph of
 *   registered, or in	the same process uses what they are to take away. A graph in the process
 *   that of a chip	of a nested Worker notices it at its next replay: -ESTALE
 *
 * Memory that ends with a scope or a run, from dw_alloc() or dw_chip_alloc() outside, and all that
 * a nested Worker on another host is given, can only be a parameter.
 *
 * On Workers with chips that have memory of their own, below them or among their children, or with
 * Workers on other hosts, a replay finds the dependencies anew, since what these keep depends on
 * all that has happened before.
 *
 * Threads. dw_record_* and dw_replay(): the thread that runs the orchestration function to which
 * the dw_orch was given; dw_graph_*: any thread. Fork: as for a Worker; -EBADFD.
 */
#ifndef DISTWORKER_RECORD_H
#define DISTWORKER_RECORD_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dw_graph;	/* recorded tasks and their dependencies */

struct dw_record_options {
	size_t size;
	const char *name;		/* for messages; default "graph1", "graph2", …; 255 bytes */
	/* Tensors whose memory may be another at each replay: pairwise disjoint, none empty. */
	const struct dw_tensor *parameters;
	size_t parameter_count;
};

/*
 * From here on each dw_submit(), dw_submit_group() and dw_submit_copy() of this Orchestrator is
 * recorded, besides being executed, up to dw_record_end(). Runs that tasks start, or that the
 * function itself starts, record by themselves. `options` may be NULL. When the orchestration
 * function returns inside a recording, that is dropped.
 *
 * Inside a recording these are -EINVAL, with a text that names it, and change nothing:
 *  - `after` of a task that was submitted before the recording;
 *  - dw_orch_wait(), dw_orch_wait_task(): a replay does not wait;
 *  - dw_scope_end() of a scope that was open before; dw_record_end() in a scope that was not;
 *  - dw_chip_alloc(), dw_chip_free(), and tensors in memory of dw_chip_alloc() that is no
 *    parameter;
 *  - tensors in memory of dw_alloc() from before that is no parameter, and those that lie partly
 *    in a parameter;
 *  - dw_record_begin(), dw_replay().
 *
 * -EINVAL: a parameter that makes no sense, is empty, or overlaps with another; -EFAULT: one lies
 * outside the arena; -ENAMETOOLONG; -ENOMEM.
 */
DW_API int dw_record_begin(struct dw_orch *orch, const struct dw_record_options *options);
/*
 * Scalar `scalar` of the task that this recording has submitted last becomes scalar parameter
 * `parameter`: each replay passes a value for it. Several scalars may be the same parameter. Of a
 * group: that of member `member`; else `member` is 0. -EINVAL: no recording is open; -ERANGE: there
 * is no such task, member or scalar, or `parameter` is over 65,535; -EEXIST: the scalar is a
 * parameter already; -ENOMEM.
 */
DW_API int dw_record_scalar(struct dw_orch *orch, size_t member, size_t scalar, size_t parameter);
/*
 * Ends the recording; *graph is the caller's until dw_graph_destroy(). Does not wait: the tasks may
 * still be running. -EINVAL: no recording is open, or a scope that was opened in it still is;
 * -ENOMEM: there was too little memory for the recording, which is dropped; its tasks run all the
 * same.
 */
DW_API int dw_record_end(struct dw_orch *orch, struct dw_graph **graph);

/*
 * Submits the recorded tasks again, in any run of the Worker that the graph was recorded on, and
 * returns without waiting for them; `graph` may be replayed again at once. Blocks as dw_submit()
 * does while 8,192 tasks of the run are not final, and so goes on in pieces with a graph of more;
 * dw_worker_interrupt() ends that wait only before the first task.
 *
 * `parameters` has a tensor for each one of the recording, with as many bytes; the recorded tasks
 * keep the shapes and types that they have. Where two parameters, or a parameter and other memory
 * of the graph, lay apart, they lie apart now, unless the graph only reads both. `scalars` has one
 * value for each scalar parameter. The arrays are read during the call. NULL and 0: there are none.
 *
 * Everything is checked before the first task is submitted, and then nothing has changed:
 *  -EINVAL the numbers or sizes are not those of the recording, parameters overlap, the graph is of
 *  another Worker, or a recording is open; -EBUSY another run replays or records the graph, and has
 *  tasks that are not final, or a thread that does not return may still write to its memory;
 *  -ESTALE a callable was unregistered; -ENODEV a worker that a task is directed to is dead, or
 *  none of its kind is left, or fewer than a group has members; -EFAULT a parameter lies outside
 *  the arena, or chip memory is lost; -EACCES see check_declared; -ECANCELED; -ENOMEM.
 * Later only two errors are possible: -ECANCELED, as the run was, and -ENOMEM, for which the call
 * cancels the run: a part of the graph without the rest makes no sense.
 */
DW_API int dw_replay(struct dw_orch *orch, struct dw_graph *graph,
		     const struct dw_tensor *parameters, size_t parameter_count,
		     const uint64_t *scalars, size_t scalar_count);

struct dw_graph_info {
	size_t size;
	char name[64];			/* shortened in its middle if need be */
	uint64_t tasks;			/* a group is one */
	uint64_t edges;			/* dependencies between them */
	uint64_t borders;		/* ranges in which they meet other tasks */
	uint64_t bytes;			/* of the graph's own blocks */
	uint64_t parameters, scalars;
	uint64_t replays;		/* so far */
};
/* What a graph has. -EINVAL. */
DW_API int dw_graph_query(struct dw_graph *graph, struct dw_graph_info *info);
/*
 * The graph is not replayed any more. Does not wait: its memory goes when the tasks of its last
 * replay are final. Not during a dw_replay() of it. NULL is fine; may be called after its Worker
 * was closed or destroyed. Within another process it only sets dw_strerror_last().
 */
DW_API void dw_graph_destroy(struct dw_graph *graph);

#ifdef __cplusplus
}
#endif

#endif /* DISTWORKER_RECORD_H */
