/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What a trace says: where the time of its tasks went, the longest waits, and the critical path:
 * from the task that completed last back to the producer that it got ready by, and so on.
 */
#ifndef TOOLS_TRACE_FACTS_H
#define TOOLS_TRACE_FACTS_H

#include <stdbool.h>
#include "trace_file.h"

#define STAGES (STAMPS - 1)

/* Of the times between two stamps: for people, and in JSON. */
extern const char *const stage_names[STAGES], *const stage_keys[STAGES];

struct stage {
	uint64_t total, most;
};

struct facts {
	size_t ran, states[TRACED_STATES];
	uint64_t first, last;		/* submitted, completed */
	struct stage stages[STAGES];
	const struct traced_task **waits;	/* the longest from ready to started */
	size_t wait_count;
	const struct traced_task **path;	/* critical, from its end */
	size_t path_count;
	const char *owner;
};

/* false: no memory; facts_release() all the same. */
bool facts_gather(const struct traced *traced, const char *owner, size_t longest,
		  struct facts *facts);
void facts_release(struct facts *facts);
/* Of the critical path: from its beginning to its end, and the part in which its tasks run. */
uint64_t facts_path_length(const struct facts *facts);
uint64_t facts_path_work(const struct facts *facts);

static inline bool has_run(const struct traced_task *task)
{
	return task->worker[0] != '\0';
}

static inline uint64_t wait_of(const struct traced_task *task)
{
	return task->stamps[STAMP_STARTED] - task->stamps[STAMP_READY];
}

static inline uint64_t run_time(const struct traced_task *task)
{
	return task->stamps[STAMP_ENDED] - task->stamps[STAMP_STARTED];
}

#endif
