/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * death: the words for a child's death, and the memory of the deaths before it.
 *
 * Owns: struct death_record. A child that dies restart_limit times within 60 s is in a crash loop.
 * Lock: worker->lock; `why` has the engine's lock, which these functions take.
 */
#ifndef DW_WORKER_DEATH_H
#define DW_WORKER_DEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct child;

#define DEATH_HISTORY 8

struct death_record {
	uint32_t count;			/* ever */
	struct death {
		uint64_t at;		/* CLOCK_MONOTONIC, ns */
		char cause[48];
	} history[DEATH_HISTORY];	/* a ring: the next is count % DEATH_HISTORY */
	uint32_t window[60];		/* deaths in each of the last 60 s, for the crash loop */
	uint64_t window_second;		/* the last second in `window` */
	char why[192]; /* why this process is killing it; "": it is not. Engine's lock */
};

/* Notes why the child is being killed; the first reason counts. Takes the engine's lock. */
void death_because(struct child *child, const char *why);
/* The same with the engine's lock held; the last reason counts. */
void death_because_engine_locked(struct child *child, const char *why);
/* Takes that reason away; "" if there was none. */
void death_take_why(struct child *child, char *text, size_t space);
/* Makes the text for callers from a wait(2) status and other known facts. */
void death_describe(struct child *child, int status, char *text, size_t space);
/* Counts a death. Returns whether it was one too many within 60 s. */
bool death_is_loop(struct child *child, const char *cause);
/* Appends "; given up after …" with the deaths before. */
void death_history(const struct child *child, char *text, size_t space);

#endif
