/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * worker: the hierarchy, its processes and threads, callables, lifecycle.
 *
 * Owns: the tree of struct dw_worker, one *spawner* process per Worker whose
 * children are processes, the children themselves, the tree's statistics.
 *
 * Who forks what. dw_worker_init() goes twice over the Workers of this process
 * (the root, and nested ones whose parents' mode is THREAD). worker_prepare() makes
 * arena, hub and engine and forks the spawner; worker_start() starts threads and asks the
 * spawner for the children. So this process never forks after its first thread. A
 * nested Worker whose parent's mode is PROCESS is a copy of the same object in the
 * forked child, which does both there.
 *
 *   application ── spawner ── sub worker
 *    (Worker)        ├─────── chip worker
 *                    └─────── nested Worker ── spawner ── …
 *
 * Who notices which death. The spawner is single-threaded, parent and reaper of all
 * children; it reports each death with its status, kills what the dead one has left
 * behind, and reports when the last process of its subtree is gone (a pipe that the subtree
 * inherits reaches its end: the lifeline). The module tells of a death before that, at the end
 * of the address space, when the kernel has yet to free it, and of an exec, of which nobody else does. If the spawner's parent dies (pidfd), it kills
 * all and leaves; if the spawner dies, PDEATHSIG kills its children, their mailboxes' owner sees
 * the end of the socket, each child's pidfd (sent with the report of its birth), and then
 * the end of a pipe which all of them inherited (tree_fd).
 *
 * Who kills. The owner of the mailboxes, by pidfd. The spawner is continued then, in
 * case that somebody has stopped it: the death comes by its report. If the owner may not (it has dropped its
 * credentials since init, or a filter refuses the call), the spawner is asked to; if it may not either, it says so,
 * and the child counts as dead and gone, by that name.
 *
 * Messages. Spawner: one SEQPACKET socket. Each child: one SEQPACKET pair made
 * before the fork ("link"): GO and CANCEL down, READY, ERROR and a thread's OVER up. They are read by
 * the engine's background thread, in worker_events(), and by whoever gets the module's word of a death.
 *
 * Locks: worker->lock guards the children's states; it is taken before the engine's lock.
 * Functions that the engine calls with its lock (worker_ops) never take worker->lock.
 */
#ifndef DW_WORKER_WORKER_H
#define DW_WORKER_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/nesting.h"
#include "task/name.h"
#include "trace/trace.h"
#include "worker/link.h"

#define PATH_BYTES 96
#define NAME_BYTES (NAME_WORKER_MOST + 1)

enum worker_state { WORKER_NEW, WORKER_STARTING, WORKER_UP, WORKER_CLOSING, WORKER_CLOSED };

/*
 * CHILD_NONE → SPAWNING → BOUND (GO was sent) → READY → DEAD → GONE → (restart) SPAWNING.
 * DEAD: the process has ended, or the thread has said that it will. GONE: so has its whole subtree.
 */
enum child_state { CHILD_NONE, CHILD_SPAWNING, CHILD_BOUND, CHILD_READY, CHILD_DEAD, CHILD_GONE };

#define HISTORY 8

struct death {
	uint64_t at;			/* CLOCK_MONOTONIC, ns */
	char cause[48];
};

struct child {
	struct dw_worker *owner;
	uint32_t index;			/* mailbox and engine worker */
	enum dw_child_kind kind;
	char path[PATH_BYTES];
	struct dw_worker *nested;	/* CHILD_WORKER */
	const struct dw_chip_options *chip;	/* CHILD_CHIP */
	int link_parent, link_child;	/* ends of its link; -1 where closed */
	dw_callable shown;		/* of the name on the segment; by the child itself */

	/* Guarded by owner->lock. */
	enum child_state state;
	_Atomic uint32_t generation;	/* of the process: counts spawns */
	pid_t pid;
	int pidfd;			/* from SPAWNED to GONE; -1; written with the engine's lock, too */
	bool replacement_announced;			/* DEAD, and the engine was told of a successor */
	bool spawn_wanted;		/* SPAWNING, but its spawner was not told yet */
	_Atomic bool kill_wanted;	/* the same of a kill that only the spawner may do; or the engine's lock */
	char left[64];			/* "pid 4711: EPERM": what nobody could kill; no successor takes its place */
	int error;			/* of getting ready: -errno, with its text */
	char error_text[ERROR_TEXT_BYTES];
	bool given_up;
	int stopped;			/* the signal that has stopped its process; 0: it runs */
	uint32_t deaths;		/* ever */
	struct death history[HISTORY];	/* the last ones: deaths % HISTORY comes next */
	uint32_t window[60];		/* deaths in each of the last 60 s, for the crash loop */
	uint64_t window_second;		/* the last one that `window` has */

	/* Guarded by the engine's lock. */
	char why[192];			/* it is being killed by us; "": it is not */

	pthread_t thread;		/* THREAD mode */
	bool thread_started;
	bool thread_over;		/* it touches nothing any more */
};

struct dw_worker {
	uint32_t level;
	struct dw_worker_options options;	/* defaults filled in, strings owned */
	char name[NAME_BYTES];
	char path[PATH_BYTES];
	struct dw_chip_options *chips;
	struct dw_worker *parent;
	uint32_t id;			/* in the parent: index among its children */
	pid_t owner_pid;		/* the process that may use this object */

	struct dw_worker **nested;
	uint32_t nested_count;
	struct child *children;		/* subs, chips, nested Workers */
	uint32_t child_count;
	struct engine_worker *engine_workers;

	struct arena *arena;
	struct hub *hub;
	struct engine *engine;
	/* Places on the segment: this Worker's own, and those of its children. */
	struct segment_worker *segment_worker;
	struct segment_child *segment_children;
	struct dw_child_stats *stats;
	struct child_status *child_status;
	struct status_segment *segment_memory;	/* of the root: all of it … */
	struct status_segment *segment_layout;	/* … and its first lines in memory of our own */
	int segment_fd;			/* of the root: -1: nobody sees it from outside */
	struct trace_files trace_files;	/* of the root: DW_TRACE, DW_GRAPH */
	struct trace *trace;		/* of this Worker's engine; NULL: nothing is traced */
	int spawner_fd;			/* socket, -1 in THREAD mode */
	int spawner_pidfd;
	int tree_fd;			/* at its end when spawner and all descendants are gone */
	pid_t spawner_pid;
	int up_link;			/* nested in a process: our end of the link to our parent; -1 */
	uint32_t up_generation;
	int events_fd;			/* epoll over spawner socket, links, up_link */

	/*
	 * Of the root; before all other locks. A thread that finds a symbol or an image known finds it announced, and
	 * nothing is registered in the middle of an init, of which its children would not hear.
	 */
	pthread_mutex_t registering;
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* CLOCK_MONOTONIC; state of a child or of the spawner */
	_Atomic enum worker_state state;	/* written with the lock */
	bool spawner_gone;
	char spawner_end[96];		/* why it is gone, or cannot be heard; "": it died */
	bool init_failed;		/* of the root: the last init */
};

/* worker.c */
int worker_check(const struct dw_worker *worker, const char *call);
/* -EDEADLK when the calling thread is inside of a run or a task of this Worker's tree; of a task. */
int worker_check_outside(struct dw_worker *worker, const char *call);
int worker_check_no_task(struct dw_worker *worker, const char *call);
const char *worker_child_name(enum dw_child_kind kind);
struct dw_worker *worker_root(struct dw_worker *worker);
int worker_make_arena(struct dw_worker *worker, struct arena *outer);

/*
 * start.c: the two passes of init, and the way down. On an error the Worker is as it was before, and
 * may be tried again.
 */
int worker_prepare(struct dw_worker *worker, struct arena *outer);
int worker_start(struct dw_worker *worker);
int worker_stop(struct dw_worker *worker, uint64_t deadline_ns);
/* THREAD mode: the child's thread, which waits for GO; worker->lock. */
int worker_start_thread(struct child *child);
/* How long init and close may take here: less than above, so that the cause comes from where it is. */
uint64_t worker_init_budget(const struct dw_worker *worker);
uint64_t worker_close_budget(const struct dw_worker *worker);
/*
 * Gives back what init has made: the Worker is new again, with its callables and its buffers. False: threads or
 * runs that did not end in time still use it, so that all of it stays.
 */
bool worker_release(struct dw_worker *worker);

/* events.c. What the background thread was woken for: a child's index, or one of these. */
#define EVENT_SPAWNER	(1ULL << 32)
#define EVENT_UP	(2ULL << 32)
#define EVENT_TREE	(3ULL << 32)
#define EVENT_DIED	(4ULL << 32)	/* and a child's index: its pidfd, when there is no spawner */
extern const struct engine_ops worker_ops;
void worker_events(void *context);
/* Starts a thread, or asks for a process (now, or when its spawner has room for the message); worker->lock. */
int worker_spawn_locked(struct dw_worker *worker, struct child *child);
/* SIGKILL, if it has been born; worker->lock or the engine's. */
void worker_kill_child(struct child *child);
/* THREAD mode: it is joined, and nobody waits for it any more; worker->lock. */
void worker_joined_locked(struct child *child);
/* Nothing more will be heard of the children: they count as gone; worker->lock. */
void worker_give_up_locked(struct dw_worker *worker, const char *cause);

/* child.c: what a child does, from GO to its end. Returns its exit code. */
int child_main(struct child *child, uint32_t generation, bool process);

/* death.c: the words for a death, and whether somebody dies too often. worker->lock. */
/* Of a wait(2) status, and what is known beside it; the result is what callers are told. */
void death_describe(struct child *child, int status, char *text, size_t space);
/* Why the child was to be killed, once; "". */
void death_take_why(struct child *child, char *text, size_t space);
/* Counts a death; whether it was one too many within 60 s. */
bool death_is_loop(struct child *child, const char *cause);
/* Appends "; given up after …" with the deaths before. */
void death_history(const struct child *child, char *text, size_t space);

/* descendants.c: no process of a child whose address space has ended can write any more; worker->lock. */
bool descendants_none(struct child *child);

/* stats.c: a copy of counters that others write, and the processor time of who is alive. */
void stats_copy(struct dw_child_stats *to, const struct dw_child_stats *from, const struct child_status *now);

/* register.c */
void registrations_release(struct dw_worker *worker);

/* control.c: frames of kind FRAME_CONTROL */
enum control_code { CONTROL_REGISTER = 1, CONTROL_UNREGISTER = 2 };
struct chip;
int control_handle(struct child *child, struct chip *chip, uint64_t code, const void *blob,
		   uint32_t bytes);
/* To every child that is READY and that it concerns; the first error, with the child's path. */
int control_broadcast(struct dw_worker *worker, uint64_t code, const void *blob, uint32_t bytes);
/* The same until a deadline: -ETIMEDOUT, and who has not answered is told nevertheless. */
int control_broadcast_until(struct dw_worker *worker, uint64_t code, const void *blob,
			    uint32_t bytes, uint64_t deadline_ns);
/* Tells a replacement what was registered after init; does not wait for it. */
int control_replay(struct child *child);
/* A callable as the blob of CONTROL_REGISTER; free() it. */
int control_encode(const struct callable *callable, void **blob, uint32_t *bytes);

#endif
