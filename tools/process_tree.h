/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * This process and its descendants as /proc shows them: every thread with its
 * context switches and its CPU time. Looking costs the watched threads nothing.
 */
#ifndef TOOLS_PROCESS_TREE_H
#define TOOLS_PROCESS_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct thread_sample {
	pid_t pid, tid;
	uint64_t voluntary, involuntary;	/* context switches */
};

struct process_sample {
	pid_t pid;
	uint64_t cpu_ns;			/* threads that have ended included */
};

struct tree_sample {
	struct thread_sample *threads;		/* sorted by tid */
	size_t thread_count, thread_space;
	struct process_sample *processes;	/* sorted by pid */
	size_t process_count, process_space;
	/* Of this process, threads that have ended included; /proc forgets those of others. */
	uint64_t own_voluntary, own_involuntary;
};

/*
 * 0 or -errno. The calling thread is left out: it is the one that watches, and takes
 * both samples of a comparison. Zero-initialise the sample first, and free it with
 * tree_sample_release().
 */
int tree_sample_take(struct tree_sample *sample);
void tree_sample_release(struct tree_sample *sample);

struct tree_change {
	uint32_t processes, threads;		/* at the end */
	uint64_t voluntary, involuntary, cpu_ns;
	pid_t busiest;				/* the thread with the most switches; 0: none */
};
/*
 * The difference of two samples. A new process counts from zero; that of a process that has ended
 * is lost.
 */
void tree_sample_compare(const struct tree_sample *before, const struct tree_sample *after,
			 struct tree_change *change);

#endif
