/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * children: the states of a Worker's children, the events that change them, and their effects:
 * spawned → bind and GO; READY → tasks may come; dead → its tasks fail or move; gone → its memory
 * is free, and with a restart policy the next generation is asked for.
 *
 * Owns: struct child_life of each child, struct spawner_loss of each Worker.
 *
 * Deaths. The spawner is the single-threaded parent and reaper of all children. It reports each
 * death with its status, kills the processes that the dead child has left behind, and reports when
 * the last process of its subtree is gone (the lifeline reaches its end). The module reports a
 * death earlier, at the end of the address space, and it alone reports an exec. A spawner
 * whose parent dies kills all and leaves. If the spawner dies, PDEATHSIG kills its children; their
 * parent sees the end of the socket, then of each child's pidfd, then of the tree's pipe.
 *
 * Kills. The owner of the mailboxes kills by pidfd, and continues the spawner in case it was
 * stopped: the death comes by its report. If the owner may not kill (it has dropped its
 * credentials since init, or a filter refuses the call), it asks the spawner. If the spawner may
 * not either, it reports that, and the child counts as dead and gone, under that name.
 *
 * Runs in the engine's background thread, in threads that wait when the module reports a death, and
 * in init and close. Lock: worker->lock, which all functions here expect but children_kill().
 */
#ifndef DW_WORKER_CHILDREN_H
#define DW_WORKER_CHILDREN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "task/error.h"

struct child;
struct dw_worker;
struct link_message;

/*
 * CHILD_NONE → SPAWNING → BOUND (GO was sent) → READY → DEAD → GONE → (restart) SPAWNING.
 * DEAD: the process has ended, or the thread has announced its end.
 * GONE: its whole subtree has ended.
 */
enum child_state { CHILD_NONE, CHILD_SPAWNING, CHILD_BOUND, CHILD_READY, CHILD_DEAD, CHILD_GONE };

struct child_life {
	enum child_state state;
	_Atomic uint32_t generation;	/* of the process: counts spawns */
	pid_t pid;
	int pidfd; /* from SPAWNED to GONE; -1; written with the engine's lock, too */
	bool replacement_announced;	/* DEAD, and the engine knows that a successor will come */
	bool spawn_wanted;		/* SPAWNING, but its spawner was not told yet */
	_Atomic bool kill_wanted; /* the same of a kill by the spawner; or the engine's lock */
	char left[64]; /* "pid 4711: EPERM": cannot be killed, so not replaced */
	int error;			/* of getting ready: -errno, with its text */
	char error_text[ERROR_TEXT_BYTES];
	bool given_up;
	int stopped;			/* the signal that has stopped its process; 0: it runs */
};

/* Why no more events of the children can arrive. */
struct spawner_loss {
	bool gone;			/* the spawner is gone, or cannot be heard */
	char cause[96];			/* "": it died */
};

/* With a child's index: the epoll tag of its pidfd. */
#define CHILD_DIED_TAG	(4ULL << 32)

void children_init(struct dw_worker *worker);
/* Closes all descriptors; no more events arrive. */
void children_release(struct dw_worker *worker);
/* Starts a thread, or asks for a process (now, or when its spawner has room for the message). */
int children_spawn_locked(struct dw_worker *worker, struct child *child);
/* Drops orders that were not sent to the spawner yet: those processes will not start. */
void children_cancel_spawns_locked(struct dw_worker *worker);
/* SIGKILL, if it has been born; worker->lock or the engine's. */
void children_kill(struct child *child);
/* THREAD mode: the thread was joined by its closer. */
void children_joined_locked(struct child *child);
/* No more events of the children will arrive: they count as gone. */
void children_give_up_locked(struct dw_worker *worker, const char *cause);
/* Why the spawner is gone. */
const char *children_loss(const struct dw_worker *worker);


/* Transitions of one child: its process was created; its process or thread has ended … */
void child_spawned(struct child *child, pid_t pid, int pidfd);
void child_dead(struct child *child, const char *cause);
/* … and so has its subtree; its process was stopped by this signal, or (0) continues. */
void child_gone(struct child *child);
void child_stopped(struct child *child, int signal);
/* A message from the living generation has arrived; no more messages can be read. */
void child_message(struct child *child, const struct link_message *message);
void child_unreadable(struct child *child, int error);
/* The child failed to get ready; the first error counts. */
void child_failed(struct child *child, int error, const char *text);
/* The child, or a process that it has left behind, cannot be killed. */
void child_not_killed(struct child *child, pid_t pid, int error);
void child_kill_because(struct child *child, const char *why);
/* The child's spawner is gone, and its pidfd reports its death. */
void child_killed_with_spawner(struct child *child);

/* Sends the orders for which the spawner's socket had no room. */
void children_send_wanted(struct dw_worker *worker);
/* Continues the spawner if it was stopped: it must run now. */
void children_resume_spawner(const struct dw_worker *worker);
/* The spawner is gone; events cannot be waited for; notes the reason for either. */
void children_lose_spawner(struct dw_worker *worker);
void children_lose_events(struct dw_worker *worker);
void children_say_loss(struct dw_worker *worker, const char *cause);
/* Call it once all children are dead: kills the helpers that a dead spawner has left behind. */
void children_kill_left(struct dw_worker *worker);

static inline bool child_life_over(const struct child_life *life)
{
	return life->state == CHILD_NONE || life->state == CHILD_GONE;
}

#endif
