/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Shows on stderr how far a run is: a bar that is redrawn on a terminal, a line
 * every two seconds elsewhere. Main thread only.
 */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <stdint.h>

enum progress_style { PROGRESS_AUTO = 0, PROGRESS_BAR, PROGRESS_LINES, PROGRESS_NONE };

#define RATE_MARKS 10

struct progress {
	enum progress_style style;
	double began, drawn;		/* tool_now() */
	/* The rate is that since the oldest mark, of the last RATE_MARKS half seconds. */
	struct progress_mark {
		double time;
		uint64_t tasks;
	} marks[RATE_MARKS];
	unsigned int mark_count;	/* ever made */
	int shown;			/* a bar stands on the terminal */
};

void progress_begin(struct progress *progress, enum progress_style style);
/* Milliseconds until the next update is due; -1: never. */
int progress_due(const struct progress *progress);
/* Draws if it is due. `fraction` is 0 … 1, `text` says more, `tasks` have ended. */
void progress_update(struct progress *progress, double fraction, const char *text, uint64_t tasks);
/* Takes the bar away, so that other lines can be written. */
void progress_clear(struct progress *progress);

#endif
