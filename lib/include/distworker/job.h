/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Jobs, which `distworker run JOB.so` loads. A job is a shared object that
 * exports one symbol:
 *
 *     DISTWORKER_JOB_EXPORT const struct distworker_job *distworker_job_v1(void);
 *
 * The tool builds the hierarchy that its user asked for, and then calls, in
 * this order and from the same process:
 *
 *   prepare   before dw_worker_init(): parse options, register callables and
 *             images, make buffers
 *   run       the orchestration of the root, from a thread of the library
 *   status    now and then while `run` goes on, from another thread
 *   report    after a run that succeeded, before the hierarchy is taken down
 *   release   always after prepare, also when prepare failed after it set *state
 *
 * Only `prepare`, `run` and `report` are required. A job links nothing but libdistworker.
 */
#ifndef DISTWORKER_JOB_H
#define DISTWORKER_JOB_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DISTWORKER_JOB_ABI_VERSION 1
#define DISTWORKER_JOB_SYMBOL "distworker_job_v1"
#define DISTWORKER_JOB_EXPORT __attribute__((visibility("default")))

#define DISTWORKER_TREE_NONE UINT32_MAX

/*
 * One Worker of the hierarchy. Neither it nor its chips grow within one DISTWORKER_JOB_ABI_VERSION.
 */
struct distworker_tree_node {
	const char *path;		/* "pod0/node1" */
	uint32_t level;			/* 3 … 6 */
	uint32_t parent;		/* index in the tree; DISTWORKER_TREE_NONE: the root */
	uint32_t worker;		/* its id in its parent, for DW_PLACE() */
	uint32_t subs;
	uint32_t chip_count;
	uint32_t child_count;		/* Workers directly below; not chips, not subs */
	const uint32_t *children;	/* their indices in the tree */
	/* of this version: sizeof(struct dw_chip_options) apart */
	const struct dw_chip_options *chips;
};

/*
 * The hierarchy, parents before their children; entry 0 is the root. It lies in
 * memory from before the fork: callables may read it in any process.
 */
struct distworker_tree {
	uint32_t count;
	const struct distworker_tree_node *nodes;
};

/* The argument of prepare. Valid until release returns. */
struct distworker_job_environment {
	size_t size;
	struct dw_worker *root;		/* not initialised yet */
	const struct distworker_tree *tree;
	const char *folder;		/* where the job's file lies; no slash at the end */
	/* of the first chip of the tree; NULL: there are no chips */
	const char *driver;
	int argc;			/* the job's own options; argv[0] is the job's name */
	char **argv;
	/* Sets the text of the error that is about to be returned; returns -error. */
	int (*fail)(const struct distworker_job_environment *environment, int error,
		    const char *format, ...) __attribute__((format(printf, 3, 4)));
};

/* Where report puts its results: lines on a terminal, members of an object in JSON. */
struct distworker_job_report {
	size_t size;
	void (*number)(const struct distworker_job_report *report, const char *key, double value,
		       const char *text);	/* `text`: how a person reads it; NULL: as it is */
	void (*text)(const struct distworker_job_report *report, const char *key,
		     const char *value);
	/* As above, for a result that is not good enough: returns -error. */
	int (*fail)(const struct distworker_job_report *report, int error,
		    const char *format, ...) __attribute__((format(printf, 3, 4)));
};

struct distworker_job {
	size_t size;			/* of this struct: members beyond it are NULL */
	uint32_t abi_version;		/* DISTWORKER_JOB_ABI_VERSION */
	uint32_t reserved;		/* 0 */
	const char *name;
	const char *description;	/* one line */
	const char *usage;		/* its options, one per line, for `run JOB -- --help` */

	/*
	 * 0 or -errno, with a text through environment->fail or from the library. *state
	 * must point to something that every process has at that address: memory from
	 * before the fork, or from dw_buffer_create().
	 */
	int (*prepare)(const struct distworker_job_environment *environment, void **state);
	/* Runs on the root; `context` is the state, `args` is empty. */
	dw_orch_fn *run;
	/* How far it is, 0 … 1, and a few words about it. Any thread; must not block. */
	double (*status)(void *state, char *text, size_t bytes);
	int (*report)(void *state, const struct distworker_job_report *report);
	void (*release)(void *state);
};

typedef const struct distworker_job *distworker_job_entry(void);
/* The function that a job defines; declared here so that it has its name in C++, too. */
DISTWORKER_JOB_EXPORT distworker_job_entry distworker_job_v1;

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_JOB_H */
