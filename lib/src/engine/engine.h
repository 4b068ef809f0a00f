/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * engine: executes the tasks of one Worker. Orchestrators, tensor map, scopes,
 * heap, ready queues, dispatch into the mailbox rings, completion. It knows nothing
 * of processes: the worker layer reports which workers are up and which have died.
 *
 * Owns: tasks, edges, heap rings, the frames of its hub's rings.
 *
 * Lock. One per engine, engine->lock, held for short stretches and never while a
 * callable, a callback or a wait runs. The thread that holds it does all pending
 * work: the submitting thread harvests and dispatches while it is inside a call,
 * the draining thread while it waits in the *foreground* (hub_wait), and the
 * *background* thread sleeps in poll() unless a child has urgent news while no thread
 * drives. Functions with the suffix _locked need the lock; hub calls marked [owner] too.
 *
 * Task states: FREE → PENDING → READY → RUNNING → DONE | FAILED | SKIPPED →
 * CONSUMED → FREE, never backwards; a retry is RUNNING → READY of the same task,
 * counted. RUNNING means: in a frame of a ring, started or not.
 */
#ifndef DW_ENGINE_ENGINE_H
#define DW_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <distworker/distworker.h>
#include "base/line.h"
#include "callable/callable.h"
#include "engine/probe.h"
#include "mailbox/mailbox.h"
#include "memory/arena.h"
#include "task/error.h"
#include "task/task.h"

/* --------------------------------------------------------------- engine */

struct engine;
struct run_graph;

/*
 * The current activity of a child and of a Worker, in shared memory: a reader may see fields of
 * different moments. Times are CLOCK_MONOTONIC, ns.
 */
struct child_status {
	/* Written by the child. */
	uint64_t since;			/* when it began to work, or to wait */
	uint64_t task;			/* number of the current or last task within its run, … */
	uint64_t ended;			/* tasks that it has run, failed ones included */
	char name[32];			/* … and the name of its callable */
	uint32_t busy;			/* 1: in a callable */
	int32_t tid;			/* of the thread that serves the mailbox */
	uint64_t sleeps;		/* times that it slept … */
	uint64_t spins_won, spins_lost;	/* … and spun, with a frame at its end or without */
	/* Written by its parent's engine. */
	LINE_ALIGNED uint32_t in_ring;	/* frames that were not harvested */
} LINE_ALIGNED;
_Static_assert(offsetof(struct child_status, in_ring) == LINE_BYTES, "one writer per line");

enum blocked { BLOCKED_NOT = 0, BLOCKED_WINDOW = 1, BLOCKED_HEAP = 2 };

struct engine_status {
	struct dw_engine_stats stats;
	uint64_t blocked_since;
	uint32_t blocked;		/* enum blocked: why a submitter waits */
	uint32_t runs;			/* in flight */
};

struct engine_worker {
	enum dw_child_kind kind;
	const char *driver;	/* chips: only images of this driver go there */
	const char *path;	/* "pod0/node1/chip0", for messages */
	bool nested_text;	/* its error texts carry a path already (nested Workers) */
	bool has_memory;	/* of its own, itself or a chip below it */
	bool elsewhere;		/* on another host */
};

/* How the engine reaches the worker layer. Called without the lock unless said otherwise. */
struct engine_ops {
	/*
	 * Kill child `worker` (SIGKILL), because of `why`. engine_worker_dead() follows. False: it
	 * is a thread, which cannot be killed. With the lock; must not block, except on the locks
	 * of nested Workers' engines.
	 */
	bool (*kill)(void *context, uint32_t worker, const char *why);
	/*
	 * Something in flight there was cancelled: nested Workers look at their frame. With the
	 * lock; must not block.
	 */
	void (*cancelled)(void *context, uint32_t worker);
	/*
	 * The kernel's word on a peer (kernel provider; may be NULL). Any thread that waits, or the
	 * background one.
	 */
	void (*changed)(void *context, uint32_t worker, const struct hub_change *change);
	/* `fd` (engine_options.extra_fd) is readable; background thread. */
	void (*extra_readable)(void *context);
	/* epoll_wait() was refused with errno `error`: the background thread ends (may be NULL). */
	void (*deaf)(void *context, int error);
};

struct engine_options {
	const char *path;		/* of the Worker: "pod0/node1" */
	uint32_t level;			/* of the Worker */
	struct hub *hub; /* worker i is mailbox i; subs, then chips, then nested Workers */
	struct arena *arena;
	uint32_t worker_count;
	const struct engine_worker *workers;
	/*
	 * Shared memory, one entry per worker: the engine keeps the counters (tasks_*, busy_ns,
	 * wakes) in it.
	 */
	struct dw_child_stats *worker_stats;
	struct child_status *worker_status; /* their current activity; NULL: not shared */
	struct engine_status *status;		/* this Worker's own; NULL: not shared */
	struct probe probe;			/* a subscriber that watches; ops NULL: none */
	uint64_t timeout_ns, heap_timeout_ns;
	uint64_t init_timeout_ns;	/* of a replacement, until it is up; 0: none */
	const struct arena *outer_arena; /* `declared`: tensors in it must be; NULL: unchecked */
	int extra_fd; /* polled by the background thread beside the hub; -1: none */
	const struct engine_ops *ops;
	void *ops_context;
};

/* Before the forks: allocates, starts nothing. */
int engine_create(const struct engine_options *options, struct engine **engine);
/* After the forks: starts the background thread. */
int engine_start(struct engine *engine);
struct deadline;
/* No new runs; running ones are cancelled. Returns when none is left, or -ETIMEDOUT. */
int engine_drain(struct engine *engine, struct deadline *deadline);
uint32_t engine_runs(struct engine *engine);	/* in flight */
void engine_stop(struct engine *engine);	/* ends the background thread */
void engine_destroy(struct engine *engine);

/*
 * Reports of the worker layer. `worker` counts as in engine_options. Any thread.
 *  up:     attached and READY; tasks may go there.
 *  dead:   tasks that had not started go elsewhere or wait for a replacement (`returns`: there
 *          will be one). Harvests the completions from before the death. A started task fails
 *          with `error` (EOWNERDEAD "killed by SIGSEGV, pid 4711") or is retried; as the subtree
 *          may still write, the tasks behind it, its memory and the end of its run wait for `gone`.
 *  stopped: its process was stopped by this signal, or (0) goes on. For messages.
 *  gone:   its whole subtree has ended. Follows each `dead`; may be repeated.
 *  (replacement: hub_rearm and hub_bind, then up again.)
 */
void engine_worker_up(struct engine *engine, uint32_t worker);
void engine_worker_dead(struct engine *engine, uint32_t worker, bool returns, int error,
			const char *cause);
void engine_worker_stopped(struct engine *engine, uint32_t worker, int signal);
void engine_worker_gone(struct engine *engine, uint32_t worker);
/* Runs `call` with the engine's lock: for hub calls of the worker layer. */
void engine_locked(struct engine *engine, void (*call)(void *context), void *context);

/* A thread waits for the uses of a retired callable: this engine reports the end of each task. */
void engine_request_notify(struct engine *engine, const struct callable *callable);

/*
 * Limits of a control frame that does not return: past them, its worker process is killed, and a
 * worker thread is STUCK (stuck.h).
 */
struct engine_control_limits {
	const char *what;		/* a literal, for messages: "dw_chip_alloc()" */
	uint64_t timeout_ns;		/* from when it could start; 0: none */
	const struct run_graph *run; /* NULL, or a run whose deadline and cancel end it as well */
	bool returning;		/* waits for the replacement of a worker that has died */
};

/*
 * Sends a control frame to one worker, waits for its completion, returns its status and sets its
 * text. `blob` is copied; `limits` may be NULL. -EOWNERDEAD; -ETIMEDOUT; the error of the run.
 */
int engine_control(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
		   uint32_t bytes, const struct engine_control_limits *limits);
/* The same until a deadline (UINT64_MAX: none): -ETIMEDOUT, and the frame stays on its way. */
int engine_control_until(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			 uint32_t bytes, const struct engine_control_limits *limits,
			 uint64_t deadline_ns);
/*
 * The same without waiting, for the background thread: the frame comes before every task that is
 * handed out later. An error of the child is lost. -ENOMEM, -EOWNERDEAD.
 */
int engine_control_send(struct engine *engine, uint32_t worker, uint64_t code, const void *blob,
			uint32_t bytes, const struct engine_control_limits *limits);

/*
 * Codes of the engine's own control frames, to chips. The blob of the first two is laid out as
 * arguments on the wire: no tensors, two scalars. That of a copy are arguments: its tensors.
 */
enum engine_control_code {
	ENGINE_CONTROL_CHIP_ALLOC = 0x100,
	ENGINE_CONTROL_CHIP_FREE = 0x101,
	ENGINE_CONTROL_CHIP_COPY = 0x102,	/* from tensor 1 to tensor 0 */
};
struct engine_chip_memory {
	uint32_t tensors, scalars;	/* 0, 2 */
	uint64_t handle, bytes;		/* as for chip_alloc() and chip_free() */
};

/* The task that a nested run is. All of it is valid until the run has ended. */
struct engine_nested_run {
	const _Atomic uint32_t *cancel;		/* a word in its frame */
	const struct dw_args *declared;		/* the tensors that it may access; NULL: any */
	const struct frame_names *names;	/* of its tensors; NULL: none */
	const char *task_name;			/* for messages */
	uint64_t tasks_before;			/* the numbers of its tasks begin behind this */
};

/*
 * As dw_worker_run/start/…. `nested`: NULL for a run of the application. The orchestration function
 * runs between running_push() and running_pop() (task/running.h): it can fail with a text.
 */
int engine_run(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
	       const struct dw_config *config, void *context,
	       const struct engine_nested_run *nested);
int engine_run_start(struct engine *engine, dw_orch_fn *fn, const struct dw_args *args,
		     const struct dw_config *config, void *context,
		     const struct dw_run_options *options, struct dw_run **run);
/* Fills `full`, of which the size is set; NULL: the defaults. */
int engine_read_run_options(const struct dw_run_options *options, struct dw_run_options *full);
int engine_run_wait(struct dw_run *run);
int engine_run_cancel(struct dw_run *run, int error, const char *why);
/* The runs whose cancel word is set: a late notice does not hit the next run. Any thread. */
void engine_cancel_flagged(struct engine *engine, int error, const char *why);
void engine_cancel_all(struct engine *engine, int error, const char *why);
/* As dw_worker_interrupt(). */
void engine_interrupt(struct engine *engine);
void engine_stats(struct engine *engine, struct dw_engine_stats *stats);
/* -EINVAL with a text in which `what` is the config's name. */
int engine_check_config(const struct dw_config *config, const char *what);

/* Device memory that outlives runs: dw_chip_memory_create() and dw_chip_memory_destroy(). */
int engine_chip_memory_create(struct engine *engine, uint32_t id, int dtype, const uint32_t *shape,
			      uint32_t ndims, struct dw_tensor *tensor);
int engine_chip_memory_destroy(struct engine *engine, const struct dw_tensor *tensor);

/* -EINVAL: NULL; -EBADFD: of another process. */
int orch_usable(const struct dw_orch *orch);
/* As dw_submit(), of a task that another engine has named: its tensors keep `names` (or NULL). */
int engine_submit_named(struct dw_orch *orch, dw_callable handle, struct dw_args *args,
			const struct dw_config *config, const struct frame_names *names);
/* The engine that an orchestrator works for; for dw_orch_find() and the like. */
struct engine *orch_engine(struct dw_orch *orch);
/* engine_options.ops_context: the worker layer's own. */
void *engine_context(const struct engine *engine);

#endif
