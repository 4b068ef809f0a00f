/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A terminal as a screen of lines: keys one by one, its size, signals as events. Main thread only.
 * While it is open, SIGINT, SIGTERM, SIGHUP, SIGTSTP and SIGWINCH arrive here and nowhere else.
 */
#ifndef TOOLS_SCREEN_H
#define TOOLS_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/* Beside characters. */
enum screen_event {
	SCREEN_TIME = 256,		/* nothing has happened */
	SCREEN_SIZE,			/* the terminal has another size, or was somewhere else */
	SCREEN_END,			/* a signal, or the end of the terminal */
	SCREEN_UP, SCREEN_DOWN, SCREEN_LEFT, SCREEN_RIGHT, SCREEN_PAGE_UP, SCREEN_PAGE_DOWN,
};

/* Whether stdout is a terminal that can be one. */
bool screen_possible(void);
/* NO_COLOR (no-color.org) is not set. */
bool screen_has_colour(void);
/* 0, or -errno. */
int screen_open(void);
/* The terminal is as it was before. */
void screen_close(void);
void screen_size(size_t *columns, size_t *lines);
/* A character, or an enum screen_event; waits for `seconds` at most. */
int screen_wait(double seconds);
/* Shows lines of text, each cut by its maker, in place of those before. */
void screen_show(const char *text, size_t bytes);

#endif
