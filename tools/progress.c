// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The progress bar and its plain lines.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "base/text.h"
#include "progress.h"
#include "tool.h"

#define BAR_SECONDS 0.1
#define LINE_SECONDS 2.0
#define BAR_CELLS 24

void progress_begin(struct progress *progress, enum progress_style style)
{
	const char *terminal = getenv("TERM");

	if (style == PROGRESS_AUTO)
		style = isatty(STDERR_FILENO) && terminal && strcmp(terminal, "dumb") ?
			PROGRESS_BAR : PROGRESS_LINES;
	*progress = (struct progress){ .style = style, .began = tool_now() };
	progress->drawn = progress->began;
	progress->marks[0].time = progress->began;
	progress->mark_count = 1;
}

static double period(const struct progress *progress)
{
	return progress->style == PROGRESS_BAR ? BAR_SECONDS : LINE_SECONDS;
}

int progress_due(const struct progress *progress)
{
	double left = progress->drawn + period(progress) - tool_now();

	if (progress->style == PROGRESS_NONE)
		return -1;
	return left > 0 ? (int)(left * 1000) + 1 : 0;
}

static unsigned int columns(void)
{
	struct winsize size;

	return !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col >= 20 ? size.ws_col : 80;
}

static void draw_bar(struct progress *progress, double fraction, const char *line)
{
	unsigned int width = columns() - 1, filled = (unsigned int)(fraction * BAR_CELLS + 0.5);
	char bar[BAR_CELLS + 1];

	for (unsigned int i = 0; i < BAR_CELLS; i++)
		bar[i] = i < filled ? '#' : '-';
	bar[BAR_CELLS] = '\0';
	/* One write per picture: no flicker. The line must not wrap. */
	if (width > BAR_CELLS + 10)
		fprintf(stderr, "\r[%s] %.*s\033[K", bar,
			(int)tool_columns(line, width - BAR_CELLS - 3), line);
	else
		fprintf(stderr, "\r%.*s\033[K", (int)tool_columns(line, width), line);
	fflush(stderr);
	progress->shown = 1;
}

/* Tasks that take seconds end seldom: over several seconds, or over the whole run so far. */
static double rate_now(struct progress *progress, double now, uint64_t tasks)
{
	const struct progress_mark *last =
		&progress->marks[(progress->mark_count - 1) % RATE_MARKS];
	const struct progress_mark *oldest = progress->mark_count < RATE_MARKS ?
		&progress->marks[0] : &progress->marks[progress->mark_count % RATE_MARKS];
	double seconds = now - oldest->time;
	double rate = seconds > 0 && tasks > oldest->tasks ?
		      (double)(tasks - oldest->tasks) / seconds : 0;

	if (now - last->time >= 0.5)
		progress->marks[progress->mark_count++ % RATE_MARKS] =
			(struct progress_mark){ .time = now, .tasks = tasks };
	return rate;
}

void progress_update(struct progress *progress, double fraction, const char *text, uint64_t tasks)
{
	double now = tool_now(), elapsed = now - progress->began, rate;
	char line[256], count[32], left[32] = "";

	if (progress->style == PROGRESS_NONE || now - progress->drawn < period(progress))
		return;
	rate = rate_now(progress, now, tasks);
	if (fraction > 0.02 && fraction < 1.0)
		snprintf(left, sizeof(left), ", %.0f s left",
			 elapsed / fraction * (1.0 - fraction));
	text_format(line, sizeof(line), "%3.0f %%  %s%s%s tasks/s%s", fraction * 100, text,
		 *text ? "  " : "", tool_thousands((uint64_t)(rate + 0.5), count), left);
	if (progress->style == PROGRESS_BAR)
		draw_bar(progress, fraction, line);
	else
		fprintf(stderr, "%6.1f s  %s\n", elapsed, line);
	progress->drawn = now;
}

void progress_clear(struct progress *progress)
{
	if (progress->shown)
		fprintf(stderr, "\r\033[K");
	fflush(stderr);
	progress->shown = 0;
}
