/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * lifeline: pipes whose write ends a subtree inherits, and the processes that hold one. Such a pipe
 * reaches its end when the last process of the subtree is gone.
 *
 * Owns nothing; any thread. A process that has closed its end has left the tree on purpose, and is
 * left alone. A process that cannot be seen (no /proc, or that of another PID namespace) is not
 * killed; nested spawners end by themselves then.
 */
#ifndef DW_WORKER_LIFELINE_H
#define DW_WORKER_LIFELINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * For the spawner: sends SIGKILL to children of this process that it did not fork itself and that
 * hold one of `count` pipes; calls not_killed() for each process for which that was refused.
 */
struct lifeline_calls {
	bool (*is_own)(void *context, pid_t pid);
	void (*not_killed)(void *context, pid_t pid, uint64_t pipe, int error);
};
void lifeline_kill_holders(const uint64_t *pipes, uint32_t count,
			   const struct lifeline_calls *calls, void *context);
/*
 * When the spawner is gone: sends SIGKILL to every other process that could write into the pipe,
 * which all of the spawner's descendants have inherited.
 */
void lifeline_kill_writers(uint64_t pipe);
/* The inode of a pipe. */
uint64_t lifeline_inode(int fd);
/* Sends SIGKILL, trying every call that can: 0 or errno. `pid` is a child that was not reaped. */
int lifeline_kill_process(pid_t pid);

#endif
