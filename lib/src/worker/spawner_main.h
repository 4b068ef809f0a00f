/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * spawner_main: the spawner's own process. It sleeps in one poll() without a timeout, and nowhere
 * else: a report that the socket does not take now is kept with the child that it is about (only a
 * lack of memory in the kernel is waited out with a timeout).
 *
 * Owns: struct spawner, in that process. One thread; no lock. Invariant: spawned.pid is a process
 * that was not reaped, so that a kill never reaches an unrelated process; nor does a kill by the
 * pidfd that the parent gets.
 */
#ifndef DW_WORKER_SPAWNER_MAIN_H
#define DW_WORKER_SPAWNER_MAIN_H

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include "worker/fork_hooks.h"
#include "worker/spawner.h"

struct spawned {
	pid_t pid;		/* 0: none */
	int pidfd;		/* until it was sent to the parent; -1 */
	uint32_t generation;
	int lifeline;		/* read end; its end comes when the whole subtree is gone; -1 */
	uint64_t lifeline_pipe;	/* its inode */
	int stopped;		/* the signal that has stopped it; 0: it runs */
	bool ended;		/* … or the lifeline is, which is closed once the child is dead */
	uint32_t due;		/* events to be reported: bit 1 << enum spawner_event */
	struct spawner_report report;	/* their details … */
	pid_t not_killed; /* … and those of SPAWNER_NOT_KILLED, which is said once; 0: it was not */
	int kill_error;
};

struct spawner {
	struct dw_worker *worker;
	int socket;
	int tree;		/* write end, which all descendants inherit */
	int parent_pidfd;
	int signal_fd;
	bool full;		/* the socket; due reports wait for POLLOUT */
	bool refused; /* a report was refused, for want of memory or the like: it is retried */
	bool lost;		/* the spawner cannot wait, or send any report: it exits */
	bool alone;		/* the parent is gone: only the end of the subtrees is waited for */
	sigset_t application_mask;
	struct spawned *children;
	struct pollfd *polls;
	uint64_t *pipes;
};

/* One descriptor on the way through a socket. */
union passed_fd {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

/* Runs the spawner, in the forked process; `parent` is the process that forked it. */
void spawner_main(struct spawner *spawner, pid_t parent, struct fork_hooks *hooks)
	__attribute__((noreturn));

#endif
