/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Where the unwinding of a stack ends. A child was forked in the middle of the application's calls:
 * their frames, and their exception handlers, are still on its stack. An exception that leaves a
 * callable must not find them. Any thread; no state.
 */
#ifndef DW_WORKER_LAST_FRAME_H
#define DW_WORKER_LAST_FRAME_H

/*
 * Calls fn(argument) in a frame that unwinders cannot pass, because the file is compiled
 * without tables for them: they see the end of the stack, and a C++ runtime calls std::terminate().
 */
int last_frame_call(int (*fn)(void *argument), void *argument);

#endif
