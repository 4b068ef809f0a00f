/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* `distworker top` on a terminal: the trees as a screen, with keys. Main thread only. */
#ifndef TOOLS_TOP_SCREEN_H
#define TOOLS_TOP_SCREEN_H

#include <stdint.h>

/* Until a key or a signal ends it, or the tree of process `pid` does (0: all). A tool_exit. */
int top_screen(int32_t pid, double interval, double stuck);

#endif
