/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The spawner: a single-threaded process, forked at init, that is the parent
 * and reaper of all children of one Worker. It forks them on command, kills them
 * on command, and reports. It sleeps in one poll() without a timeout.
 *
 * Invariant: a pid is not reaped before its death was reported with its index,
 * so KILL by index and generation never reaches a stranger.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "worker/spawner.h"

struct spawned {
	pid_t pid;		/* 0: none */
	uint32_t generation;
	int lifeline;		/* read end; its end comes when the whole subtree is gone; -1 */
	bool death_reported;
};

struct spawner {
	struct dw_worker *worker;
	int socket;
	int parent_pidfd;
	int signal_fd;
	sigset_t application_mask;
	struct spawned *children;
	struct pollfd *polls;
};

static int report(struct spawner *spawner, enum spawner_event kind, uint32_t index, int value,
		  const struct rusage *usage)
{
	struct spawner_report message = {
		.kind = kind, .index = index, .value = value,
		.generation = spawner->children[index].generation,
		.pid = spawner->children[index].pid,
	};

	if (usage)
		message.usage = *usage;
	/* May block while the parent is slow; its death ends the wait with EPIPE. */
	while (send(spawner->socket, &message, sizeof(message), MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* In the new child: nothing of the spawner's, and none of its siblings', stays open. */
static void become_child(struct spawner *spawner, uint32_t index, pid_t spawner_pid)
{
	struct dw_worker *worker = spawner->worker;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != spawner_pid)
		_exit(1);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		if (spawner->children[i].lifeline >= 0)
			close(spawner->children[i].lifeline);
		if (i != index)
			close(worker->children[i].link_child);
	}
	close(spawner->socket);
	close(spawner->parent_pidfd);
	close(spawner->signal_fd);
	sigprocmask(SIG_SETMASK, &spawner->application_mask, NULL);
}

static void spawn(struct spawner *spawner, uint32_t index, uint32_t generation)
{
	struct spawned *child = &spawner->children[index];
	pid_t self = getpid();
	int lifeline[2];
	int error;

	child->generation = generation;
	if (pipe(lifeline) < 0) {
		report(spawner, SPAWNER_FAILED, index, errno, NULL);
		return;
	}
	fcntl(lifeline[0], F_SETFD, FD_CLOEXEC);
	child->pid = fork();
	if (child->pid < 0) {
		error = errno;
		child->pid = 0;
		close(lifeline[0]);
		close(lifeline[1]);
		report(spawner, SPAWNER_FAILED, index, error, NULL);
		return;
	}
	if (child->pid == 0) {
		int code;

		/* The write end stays open, over exec too: it stands for the life of the subtree. */
		close(lifeline[0]);
		become_child(spawner, index, self);
		code = child_main(&spawner->worker->children[index], generation, true);
		/* What the callables printed; what the parent had not flushed was purged. */
		fflush(stdout);
		fflush(stderr);
		_exit(code);
	}
	close(lifeline[1]);
	child->lifeline = lifeline[0];
	child->death_reported = false;
	report(spawner, SPAWNER_SPAWNED, index, 0, NULL);
}

static void reap(struct spawner *spawner)
{
	struct signalfd_siginfo info;
	struct rusage usage;
	int status;
	pid_t pid;

	while (read(spawner->signal_fd, &info, sizeof(info)) > 0)
		;
	/* Looks before it reaps: the pid stays ours until its death was reported. */
	for (;;) {
		siginfo_t dead = { 0 };
		uint32_t i;

		if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) < 0 || !dead.si_pid)
			return;
		for (i = 0; i < spawner->worker->child_count; i++)
			if (spawner->children[i].pid == dead.si_pid)
				break;
		pid = wait4(dead.si_pid, &status, 0, &usage);
		if (pid > 0 && i < spawner->worker->child_count) {
			report(spawner, SPAWNER_DEAD, i, status, &usage);
			spawner->children[i].pid = 0;
			spawner->children[i].death_reported = true;
		}
	}
}

/* The end of a lifeline: the subtree is gone. Its root's death is reported first. */
static void subtree_gone(struct spawner *spawner, uint32_t index)
{
	struct spawned *child = &spawner->children[index];

	if (!child->death_reported)
		reap(spawner);
	if (!child->death_reported)
		return;
	close(child->lifeline);
	child->lifeline = -1;
	report(spawner, SPAWNER_GONE, index, 0, NULL);
}

static void kill_all(struct spawner *spawner)
{
	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].pid > 0)
			kill(spawner->children[i].pid, SIGKILL);
}

/* One command; false when it was the last. */
static bool command(struct spawner *spawner)
{
	struct spawner_command message;
	struct spawned *child;
	ssize_t n;

	n = recv(spawner->socket, &message, sizeof(message), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n != sizeof(message) || message.kind == SPAWNER_EXIT)
		return false;
	child = &spawner->children[message.index];
	if (message.kind == SPAWNER_SPAWN)
		spawn(spawner, message.index, message.generation);
	else if (message.kind == SPAWNER_KILL && child->pid > 0 &&
		 child->generation == message.generation)
		kill(child->pid, SIGKILL);
	return true;
}

static void loop(struct spawner *spawner)
{
	uint32_t count = spawner->worker->child_count;
	struct pollfd *polls = spawner->polls;

	for (;;) {
		polls[0] = (struct pollfd){ .fd = spawner->socket, .events = POLLIN };
		polls[1] = (struct pollfd){ .fd = spawner->parent_pidfd, .events = POLLIN };
		polls[2] = (struct pollfd){ .fd = spawner->signal_fd, .events = POLLIN };
		for (uint32_t i = 0; i < count; i++)
			polls[3 + i] = (struct pollfd){ .fd = spawner->children[i].lifeline };
		if (poll(polls, 3 + count, -1) < 0)
			continue;
		if (polls[1].revents)
			return;
		if (polls[2].revents)
			reap(spawner);
		for (uint32_t i = 0; i < count; i++)
			if (polls[3 + i].revents && spawner->children[i].lifeline >= 0)
				subtree_gone(spawner, i);
		if (polls[0].revents && !command(spawner))
			return;
	}
}

/* As exec does: handlers go, what is ignored stays ignored; but a reaper needs SIGCHLD. */
static void reset_signals(void)
{
	struct sigaction action;

	for (int s = 1; s < NSIG; s++)
		if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			signal(s, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
}

static void spawner_main(struct spawner *spawner, pid_t parent) __attribute__((noreturn));
static void spawner_main(struct spawner *spawner, pid_t parent)
{
	struct dw_worker *worker = spawner->worker;
	sigset_t all, child_only;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	reset_signals();
	prctl(PR_SET_NAME, "dw-spawner");
	/* Descendants that lose their parent come to us, so that a subtree ends below its Worker. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* A terminal's Ctrl-C is for the application, which cancels and closes. */
	setpgid(0, 0);
	/* What the application has not flushed yet is for it to write. */
	__fpurge(stdout);
	__fpurge(stderr);

	close(worker->spawner_fd);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		close(worker->children[i].link_parent);
		worker->children[i].link_parent = -1;
		spawner->children[i].lifeline = -1;
	}
	close(worker->events_fd);
	if (worker->up_link >= 0)
		close(worker->up_link);

	sigemptyset(&child_only);
	sigaddset(&child_only, SIGCHLD);
	spawner->signal_fd = signalfd(-1, &child_only, SFD_CLOEXEC | SFD_NONBLOCK);
	spawner->parent_pidfd = (int)syscall(SYS_pidfd_open, parent, 0);
	if (spawner->signal_fd >= 0 && spawner->parent_pidfd >= 0 && getppid() == parent)
		loop(spawner);
	kill_all(spawner);
	_exit(0);
}

int spawner_fork(struct dw_worker *worker)
{
	struct spawner spawner = { .worker = worker };
	int ends[2];
	int result = 0;
	pid_t parent = getpid();

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return error_set(-errno, "%s: cannot make the spawner's socket: %s", worker->path,
				 error_name(errno));
	spawner.socket = ends[1];
	spawner.children = calloc(worker->child_count + 1, sizeof(*spawner.children));
	spawner.polls = calloc(worker->child_count + 3, sizeof(*spawner.polls));
	if (!spawner.children || !spawner.polls) {
		result = error_set(-ENOMEM, "%s: no memory for the spawner", worker->path);
		goto out;
	}
	worker->spawner_fd = ends[0];
	sigprocmask(SIG_SETMASK, NULL, &spawner.application_mask);
	worker->spawner_pid = fork();
	if (worker->spawner_pid == 0)
		spawner_main(&spawner, parent);
	if (worker->spawner_pid < 0) {
		result = error_set(-errno, "%s: cannot fork the spawner: %s", worker->path,
				   error_name(errno));
		worker->spawner_pid = 0;
		worker->spawner_fd = -1;
		goto out;
	}
	for (uint32_t i = 0; i < worker->child_count; i++) {
		close(worker->children[i].link_child);
		worker->children[i].link_child = -1;
	}
out:
	free(spawner.children);
	free(spawner.polls);
	close(ends[1]);
	if (result < 0)
		close(ends[0]);
	return result;
}

int spawner_send(struct dw_worker *worker, uint32_t kind, uint32_t index, uint32_t generation)
{
	struct spawner_command message = { .kind = kind, .index = index, .generation = generation };
	ssize_t n;

	do {
		n = send(worker->spawner_fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}
