/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Probes: five hooks at which a subscriber watches an engine. Without a subscriber each costs
 * a test of one pointer. All are called with the engine's lock; none may block or call in.
 *
 * A subscriber may keep a pointer of its own in each task and each run (`probe_data`, NULL at
 * first): it frees it at PROBE_FINAL, or when the run ends.
 */
#ifndef DW_ENGINE_PROBE_H
#define DW_ENGINE_PROBE_H

#include <stdbool.h>
#include <stdint.h>

struct completion;
struct dw_run;
struct dw_submit_options;
struct engine;
struct worker_ring;
struct task;

enum probe_event {
	PROBE_SUBMITTED, PROBE_READY, PROBE_DISPATCHED, PROBE_RETURNED, PROBE_FINAL,
};

struct probe_ops {
	void (*task)(void *context, struct task *task, enum probe_event event);
	/* The explicit edges of a task, before its PROBE_SUBMITTED. */
	void (*after)(void *context, struct task *task, const struct dw_submit_options *options);
	/* A completion with the child's time stamps; `member` counts within a group. */
	void (*span)(void *context, struct task *task, const struct worker_ring *ring,
		     uint32_t member, const struct completion *completion);
	void (*run)(void *context, struct dw_run *run, bool begins);
	/* The bytes [begin, end) of the run were given back to the heap. */
	void (*forget)(void *context, struct dw_run *run, uint64_t begin, uint64_t end);
};

/* ops NULL: there is no subscriber. */
struct probe {
	const struct probe_ops *ops;
	void *context;
};

#define PROBE(engine, hook, ...) \
	do { \
		if (__builtin_expect((engine)->probe.ops != NULL, 0)) \
			(engine)->probe.ops->hook((engine)->probe.context, __VA_ARGS__); \
	} while (0)

#endif
