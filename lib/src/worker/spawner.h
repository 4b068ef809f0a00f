/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * spawner: the launcher of children that are processes. One single-threaded process per Worker,
 * forked at init, forks, reaps and kills the children, and reports.
 *
 * Owns: struct spawner_process, and everything in the spawner's own process. The two talk by whole
 * structs over one SEQPACKET socket, and neither blocks: the spawner keeps a report until there is
 * room for it.
 *
 * One thread at a time: init or close; spawner_ask() and spawner_receive() with worker->lock, and
 * spawner_ask() also with the engine's lock, so that the socket is closed with both.
 */
#ifndef DW_WORKER_SPAWNER_H
#define DW_WORKER_SPAWNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct dw_worker;

struct spawner_process {
	int socket;			/* -1 in THREAD mode */
	int pidfd;
	int tree_fd;			/* at its end when spawner and all descendants are gone */
	pid_t pid;
	int own_fd;			/* of its parent alone: closed in the spawner; -1 */
};

enum spawner_order {
	SPAWNER_FORK = 1, /* starts this generation of the child */
	SPAWNER_KILL = 2, /* for a parent that may not: the spawner has the credentials of init */
};

struct spawner_command {
	uint32_t order;
	uint32_t index;
	uint32_t generation;
};

/* Of one generation of a child in this order, each at most once but for STOPPED. */
enum spawner_event {
	SPAWNER_SPAWNED = 1, /* pid; a pidfd comes with it (SCM_RIGHTS) */
	SPAWNER_FAILED = 2, /* value: errno; what: of which call */
	SPAWNER_STOPPED = 3, /* value: the signal that has stopped it; 0: it continues */
	SPAWNER_DEAD = 4, /* value: status of wait(2) */
	SPAWNER_GONE = 5, /* the whole subtree */
	/*
	 * At any time: SIGKILL to the child, or to a process that it left behind (pid), was refused
	 * with errno `value`.
	 */
	SPAWNER_NOT_KILLED = 6,
	/*
	 * About no child: the spawner cannot continue, and ends. value: errno; what: of which call.
	 */
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

void spawner_init(struct spawner_process *process);
int spawner_fork(struct dw_worker *worker);
/*
 * Ends the spawner and reaps it; its children have ended, or end with it. -ETIMEDOUT: it cannot be
 * killed, and is left alone.
 */
int spawner_end(struct dw_worker *worker);
/*
 * Sends SIGKILL, and SIGCONT in case the spawner was stopped. False: refused. A process that has
 * ended needs neither.
 */
bool spawner_kill(const struct spawner_process *process);
bool spawner_continue(const struct spawner_process *process);
/* The signal that has stopped it; 0: it runs, or its state is unknown. */
int spawner_stopped(const struct spawner_process *process);
/*
 * Waits at most 10 s until a pidfd or the tree's pipe is at its end: 1, or 0 if it is not; -errno:
 * waiting is impossible.
 */
int spawner_wait_end(int fd);
/* Never blocks. -EAGAIN: the socket is full; it has room again after the spawner's next report. */
int spawner_ask(const struct spawner_process *process, enum spawner_order order, uint32_t index,
		uint32_t generation);
/* 1 with a report and, or -1, its pidfd; 0: none now; -errno, -EPIPE: the end. */
int spawner_receive(const struct spawner_process *process, struct spawner_report *report,
		    int *pidfd);

#endif
