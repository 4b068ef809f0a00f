/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * hierarchy: the objects of a tree: Workers, their children, names and paths.
 *
 * Owns: struct dw_worker and struct child, except for the structs in them, each of which belongs to
 * the module whose header defines it. docs/architecture.md lists the modules of this layer.
 *
 *   application ── spawner ── sub worker
 *    (Worker)        ├─────── chip worker
 *                    └─────── nested Worker ── spawner ── …
 *
 * Invariant: the shape, all names and all paths are final once the root's init has begun.
 *
 * Locks. `lock` guards the states of the children; it is taken before the engine's lock.
 * `registering` of the root is taken before all other locks. A field without a lock here is written
 * before the first child starts, or by the thread that initialises or closes the Worker.
 */
#ifndef DW_WORKER_HIERARCHY_H
#define DW_WORKER_HIERARCHY_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>
#include "base/clock.h"
#include "base/lock.h"
#include "engine/engine.h"
#include "task/name.h"
#include "worker/buffer.h"
#include "worker/children.h"
#include "worker/death.h"
#include "worker/lifecycle.h"
#include "worker/link.h"
#include "worker/spawner.h"
#include "worker/status_segment.h"
#include "worker/thread.h"

#define PATH_BYTES 96
#define NAME_BYTES (NAME_WORKER_MOST + 1)

/*
 * Everything that a child does, from GO to its end, in its own process or thread. Returns its exit
 * code. The launchers call it; child.c implements it.
 */
typedef int child_entry(struct child *child, uint32_t generation, bool process);

struct child {
	struct dw_worker *owner;
	uint32_t index;			/* mailbox and engine worker */
	enum dw_child_kind kind;
	char path[PATH_BYTES];
	struct dw_worker *nested;	/* CHILD_WORKER */
	const struct dw_chip_options *chip;	/* CHILD_CHIP */

	struct link link;
	struct child_life life;
	struct death_record death;
	struct child_thread thread;
	struct status_writer status;	/* in the child's own process or thread */
};

struct dw_worker {
	uint32_t level;
	struct dw_worker_options options;	/* defaults filled in, strings owned */
	char name[NAME_BYTES];
	char path[PATH_BYTES];
	char above[PATH_BYTES];		/* root on a node: path of its parent at home, or empty */
	struct dw_chip_options *chips;
	struct dw_worker *parent;
	uint32_t id;			/* in the parent: index among its children */
	pid_t owner_pid;		/* the process that may use this object */
	child_entry *entry;

	struct dw_worker **nested;
	uint32_t nested_count;
	struct child *children;		/* subs, chips, nested Workers */
	uint32_t child_count;
	struct engine_worker *engine_workers;
	struct arena *arena;

	/*
	 * Of the root: a thread that finds a symbol or an image registered finds it announced, and
	 * nothing is registered during an init, whose children would not hear of it.
	 */
	struct lock registering;
	pthread_mutex_t lock;
	pthread_cond_t changed;		/* CLOCK_MONOTONIC; state of a child or of the spawner */

	struct kept_buffers kept;
	struct worker_life life;
	struct status_places segment;
	struct spawner_process spawner;
	struct spawner_loss loss;
};

/* A new root, with its options checked and copied. */
int hierarchy_create(uint32_t level, const struct dw_worker_options *options, child_entry *entry,
		     struct dw_worker **worker);
/* Frees one Worker; the caller has freed the Workers below it. */
void hierarchy_free(struct dw_worker *worker);
/* -ELOOP, -EEXIST, -EINVAL, -EBUSY with a text. */
int hierarchy_add(struct dw_worker *parent, struct dw_worker *child);
/* Gives names and paths to the whole tree. */
int hierarchy_name(struct dw_worker *root);
/* Makes the array of children, and drops it. */
int hierarchy_make_children(struct dw_worker *worker);
void hierarchy_drop_children(struct dw_worker *worker);
/* The arena is made by the first buffer or by init, whichever comes first. Any thread. */
int hierarchy_make_arena(struct dw_worker *worker, struct arena *outer);
void hierarchy_drop_arena(struct dw_worker *worker);
/* A nested Worker belongs to the process of its child from now on. */
void hierarchy_enter_process(struct dw_worker *nested);

/* Is it on another host, so that this process has only its gateway? */
static inline bool worker_is_elsewhere(const struct dw_worker *worker)
{
	return worker && worker->options.host;
}

int worker_check(const struct dw_worker *worker, const char *call);
/*
 * -EDEADLK if the calling thread is inside a run or a task of this Worker's tree; the second: only
 * inside a task.
 */
int worker_check_outside(struct dw_worker *worker, const char *call);
int worker_check_no_task(struct dw_worker *worker, const char *call);
/* Does the calling thread execute a task of this Worker, or of one below it? */
bool worker_inside_task(const struct dw_worker *worker);
const char *worker_child_name(enum dw_child_kind kind);
struct dw_worker *worker_root(struct dw_worker *worker);
/* How many children a Worker has, before and after they are made. */
uint32_t worker_width(const struct dw_worker *worker);
/*
 * How long init and close may take at this level: less than at the level above, so that a timeout
 * is reported from the place where it happened.
 */
uint64_t worker_init_budget(const struct dw_worker *worker);
uint64_t worker_close_budget(const struct dw_worker *worker);

#endif
