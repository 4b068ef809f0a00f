/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a Worker and its spawner say to each other: whole structs over one
 * SEQPACKET socket. Neither blocks: the spawner keeps a report until there is room for it.
 */
#ifndef DW_WORKER_SPAWNER_H
#define DW_WORKER_SPAWNER_H

#include "worker/worker.h"

/* The one command: fork this generation of this child. */
struct spawner_command {
	uint32_t index;
	uint32_t generation;
};

/* Of one generation of a child in this order, each at most once. */
enum spawner_event {
	SPAWNER_SPAWNED = 1,	/* pid; a pidfd comes with it (SCM_RIGHTS) */
	SPAWNER_FAILED = 2,	/* value: errno; what: of which call */
	SPAWNER_DEAD = 3,	/* value: status of wait(2) */
	SPAWNER_GONE = 4,	/* the whole subtree */
};

struct spawner_report {
	uint32_t kind;
	uint32_t index;
	uint32_t generation;
	int32_t pid;
	int32_t value;
	char what[16];
};

/* spawner.c, for the spawner's parent: 1 with a report and, or -1, its pidfd; 0: none now; -errno, -EPIPE: the end. */
int spawner_receive(struct dw_worker *worker, struct spawner_report *report, int *pidfd);

/* orphans.c, in the spawner: SIGKILL to children of this process that are not its own and hold one of `count` pipes. */
void orphans_kill(const uint64_t *pipes, uint32_t count, bool (*is_own)(void *context, pid_t pid),
		  void *context);
/*
 * When the spawner is gone: SIGKILL to every process but this one that could write into the pipe, which all of
 * the spawner's descendants have inherited.
 */
void orphans_kill_writers(uint64_t pipe);
/* The inode of a pipe. */
uint64_t orphans_pipe(int fd);

#endif
