/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a Worker and its spawner say to each other: whole structs over one
 * SEQPACKET socket. Neither blocks: the spawner keeps a report until there is room for it.
 */
#ifndef DW_WORKER_SPAWNER_H
#define DW_WORKER_SPAWNER_H

#include "worker/worker.h"

enum spawner_order {
	SPAWNER_FORK = 1,	/* this generation of this child */
	SPAWNER_KILL = 2,	/* its parent may not: the spawner still has the credentials of init */
};

struct spawner_command {
	uint32_t order;
	uint32_t index;
	uint32_t generation;
};

/* Of one generation of a child in this order, each at most once but for STOPPED. */
enum spawner_event {
	SPAWNER_SPAWNED = 1,	/* pid; a pidfd comes with it (SCM_RIGHTS) */
	SPAWNER_FAILED = 2,	/* value: errno; what: of which call */
	SPAWNER_STOPPED = 3,	/* value: the signal that has stopped it; 0: it goes on */
	SPAWNER_DEAD = 4,	/* value: status of wait(2) */
	SPAWNER_GONE = 5,	/* the whole subtree */
	/* At any time: a signal to it, or to a process that it has left behind (pid), was refused with errno `value`. */
	SPAWNER_NOT_KILLED = 6,
	/* Of no child: the spawner cannot go on, and ends. value: errno; what: of which call. */
	SPAWNER_ENDS = 7,
};

struct spawner_report {
	uint32_t kind;
	uint32_t index;
	uint32_t generation;
	int32_t pid;
	int32_t value;
	char what[16];
};

/* spawner.c, for the spawner's parent. */
int spawner_fork(struct dw_worker *worker);
/*
 * Ends the spawner and reaps it; its children have ended, or go with it. -ETIMEDOUT: it may not be
 * killed, and is left.
 */
int spawner_end(struct dw_worker *worker);
/* Until a pidfd or the tree's pipe is at its end, at most 10 s: 1, 0; -errno: it cannot be waited for. */
int spawner_wait_end(int fd);
/*
 * -EAGAIN: the socket is full, which ends with the spawner's
 * next report. Never blocks.
 */
int spawner_ask(struct dw_worker *worker, enum spawner_order order, uint32_t index, uint32_t generation);
/* 1 with a report and, or -1, its pidfd; 0: none now; -errno, -EPIPE: the end. */
int spawner_receive(struct dw_worker *worker, struct spawner_report *report, int *pidfd);

/* SIGKILL by all means that there are: 0 or errno. `pid` is a child that was not reaped. */
int spawner_kill_process(pid_t pid);

/*
 * lifeline.c, in the spawner: SIGKILL to children of this process that are not its own and hold one of `count`
 * pipes; not_killed() is told of those that it was refused for.
 */
struct lifeline_calls {
	bool (*is_own)(void *context, pid_t pid);
	void (*not_killed)(void *context, pid_t pid, uint64_t pipe, int error);
};
void lifeline_kill_holders(const uint64_t *pipes, uint32_t count, const struct lifeline_calls *calls, void *context);
/*
 * When the spawner is gone: SIGKILL to every process but this one that could write into the pipe, which all of
 * the spawner's descendants have inherited.
 */
void lifeline_kill_writers(uint64_t pipe);
/* The inode of a pipe. */
uint64_t lifeline_inode(int fd);

#endif
