/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * expire: handles the timer's expiry: deadlines of tasks, calls of drivers, replacements and
 * runs, and stragglers. With the engine's lock, by the background thread.
 *
 * A task's time begins when its frame comes to the head of the ring, since only then it can start.
 * A worker that has not even started it by its deadline hangs as well (it was stopped, say): it is
 * killed, and the task goes elsewhere.
 */
#ifndef DW_ENGINE_EXPIRE_H
#define DW_ENGINE_EXPIRE_H

struct engine;

void engine_expire(struct engine *engine);

#endif
