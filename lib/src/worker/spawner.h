/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a Worker and its spawner say to each other: whole structs over one
 * SEQPACKET socket.
 */
#ifndef DW_WORKER_SPAWNER_H
#define DW_WORKER_SPAWNER_H

#include "worker/worker.h"

enum spawner_command_kind { SPAWNER_SPAWN = 1, SPAWNER_KILL = 2, SPAWNER_EXIT = 3 };

struct spawner_command {
	uint32_t kind;
	uint32_t index;
	uint32_t generation;
};

enum spawner_event {
	SPAWNER_SPAWNED = 1,	/* pid */
	SPAWNER_FAILED = 2,	/* value: errno of fork */
	SPAWNER_DEAD = 3,	/* value: status of wait(2); usage */
	SPAWNER_GONE = 4,	/* the whole subtree */
};

struct spawner_report {
	uint32_t kind;
	uint32_t index;
	uint32_t generation;
	int32_t pid;
	int32_t value;
	struct rusage usage;
};

#endif
