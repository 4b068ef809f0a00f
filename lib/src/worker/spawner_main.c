/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See spawner_main.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
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
#include "base/clock.h"
#include "base/deadline.h"
#include "base/fd.h"
#include "base/text.h"
#include "worker/fork_hooks.h"
#include "worker/hierarchy.h"
#include "worker/last_frame.h"
#include "worker/lifeline.h"
#include "worker/spawner_main.h"

/*
 * This retries after an error of the kernel, since no event tells that memory is available again.
 */
#define REFUSED_MS 100

/* ----------------------------------------------------------------- reports */

static ssize_t send_with_fd(int socket, const struct spawner_report *report, int fd)
{
	struct iovec data = { .iov_base = (void *)report, .iov_len = sizeof(*report) };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	union passed_fd passed = {
		.header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
			    .cmsg_type = SCM_RIGHTS },
	};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&passed.header), &fd, sizeof(fd));
		message.msg_control = &passed;
		message.msg_controllen = sizeof(passed);
	}
	return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Sends the last report: without it the parent would only see the socket's end. It is lost if the
 * socket is full. Does not use sendmsg(), which may be the call that is refused.
 */
static void cannot_go_on(const struct spawner *spawner, const char *what, int error)
{
	struct spawner_report last = { .kind = SPAWNER_ENDS, .value = error };

	text_copy(last.what, sizeof(last.what), what);
	while (send(spawner->socket, &last, sizeof(last), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
	       errno == EINTR)
		;
}

/* A filter's refusal is permanent. */
static bool is_final(int error)
{
	return error == EPERM || error == EACCES || error == ENOSYS;
}

static bool send_report(struct spawner *spawner, struct spawned *child, enum spawner_event kind)
{
	/* A copy: the details of other events may still be due. */
	struct spawner_report report = child->report;
	int fd = kind == SPAWNER_SPAWNED ? child->pidfd : -1;

	report.kind = kind;
	report.index = (uint32_t)(child - spawner->children);
	report.generation = child->generation;
	if (kind == SPAWNER_NOT_KILLED) {
		report.pid = child->not_killed;
		report.value = child->kill_error;
	}
	if (kind == SPAWNER_STOPPED)
		report.value = child->stopped;
	while (send_with_fd(spawner->socket, &report, fd) < 0) {
		if (errno == EINTR)
			continue;
		if (is_final(errno)) {
			spawner->lost = spawner->refused = true;
			cannot_go_on(spawner, "sendmsg", errno);
			return false;
		}
		spawner->full = errno == EAGAIN;
		/*
		 * If the parent is gone, poll() tells; other errors (ENOBUFS, ETOOMANYREFS) may be
		 * temporary.
		 */
		spawner->refused = errno != EAGAIN && errno != EPIPE && errno != ECONNRESET;
		return false;
	}
	if (fd >= 0) {
		close(fd);
		child->pidfd = -1;
	}
	child->due &= ~(1u << kind);
	return true;
}

static void send_due(struct spawner *spawner)
{
	if (spawner->lost)
		return;
	spawner->full = spawner->refused = false;
	for (uint32_t i = 0; i < spawner->worker->child_count; i++) {
		struct spawned *child = &spawner->children[i];

		for (enum spawner_event kind = SPAWNER_SPAWNED; kind <= SPAWNER_NOT_KILLED; kind++)
			if (child->due & 1u << kind && !send_report(spawner, child, kind))
				return;
	}
}

static void report(struct spawner *spawner, struct spawned *child, enum spawner_event kind)
{
	child->due |= 1u << kind;
	if (!spawner->full && !spawner->refused)
		send_due(spawner);
}

/* ------------------------------------------------------------------- spawn */

/* In the new child: closes everything of the spawner's and of the siblings'. */
static void become_child(struct spawner *spawner, uint32_t index, pid_t spawner_pid)
{
	struct dw_worker *worker = spawner->worker;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != spawner_pid)
		_exit(1);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		if (spawner->children[i].lifeline >= 0)
			close(spawner->children[i].lifeline);
		if (spawner->children[i].pidfd >= 0)
			close(spawner->children[i].pidfd);
		if (i != index)
			link_close_child(&worker->children[i].link);
	}
	close(spawner->socket);
	close(spawner->parent_pidfd);
	close(spawner->signal_fd);
	sigprocmask(SIG_SETMASK, &spawner->application_mask, NULL);
}

struct life {
	struct child *child;
	uint32_t generation;
	struct fork_hooks *hooks;
};

static int live(void *argument)
{
	const struct life *life = argument;

	fork_hooks_child(life->hooks);
	return life->child->owner->entry(life->child, life->generation, true);
}

static void live_as_child(struct spawner *spawner, uint32_t index, pid_t spawner_pid,
			  struct fork_hooks *hooks) __attribute__((noreturn));
static void live_as_child(struct spawner *spawner, uint32_t index, pid_t spawner_pid,
			  struct fork_hooks *hooks)
{
	struct life life = { &spawner->worker->children[index], spawner->children[index].generation,
			     hooks };
	int code;

	become_child(spawner, index, spawner_pid);
	/* The application's frames, with its exception handlers, are on this stack. */
	code = last_frame_call(live, &life);
	/* Flushes the callables' output; output that the parent had not flushed was discarded. */
	fflush(stdout);
	fflush(stderr);
	_exit(code);
}

static void spawn_failed(struct spawner *spawner, struct spawned *child, int error,
			 const char *what)
{
	child->report.value = error;
	text_copy(child->report.what, sizeof(child->report.what), what);
	report(spawner, child, SPAWNER_FAILED);
}

/*
 * The parent could not kill this child, which waits for a GO that will not come. If we cannot
 * either, it ends when its parent closes the link.
 */
static void unspawn(struct spawned *child)
{
	if (lifeline_kill_process(child->pid))
		return;
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		;
	child->pid = 0;
}

static void spawn(struct spawner *spawner, uint32_t index, uint32_t generation)
{
	struct spawned *child = &spawner->children[index];
	pid_t self = getpid();
	struct fork_hooks hooks;
	int lifeline[2], error;

	child->generation = generation;
	child->due = 0;
	child->not_killed = 0;
	child->stopped = 0;
	if (child->pidfd >= 0)
		close(child->pidfd);
	child->pidfd = -1;
	/* For a child that could not be killed: stop waiting for it. */
	if (child->lifeline >= 0)
		close(child->lifeline);
	child->lifeline = -1;
	link_drain(spawner->worker->children[index].link.child);
	if (fd_move_pair_up(pipe2(lifeline, O_CLOEXEC), lifeline) < 0) {
		spawn_failed(spawner, child, errno, "pipe");
		return;
	}
	if (fork_hooks_prepare(&hooks) < 0) {
		close(lifeline[0]);
		close(lifeline[1]);
		spawn_failed(spawner, child, ENOMEM, "hooks");
		return;
	}
	child->pid = fork();
	error = errno;
	if (child->pid == 0) {
		/* The write end stays open, even over exec: it lasts as long as the subtree. */
		close(lifeline[0]);
		fcntl(lifeline[1], F_SETFD, 0);
		live_as_child(spawner, index, self, &hooks);
	}
	close(lifeline[1]);
	fork_hooks_parent(&hooks);
	if (child->pid < 0) {
		child->pid = 0;
		close(lifeline[0]);
		spawn_failed(spawner, child, error, "fork");
		return;
	}
	child->pidfd = fd_open_pidfd(child->pid);
	if (child->pidfd < 0) {
		error = errno;
		unspawn(child);
		close(lifeline[0]);
		spawn_failed(spawner, child, error, "pidfd_open");
		return;
	}
	child->lifeline = lifeline[0];
	child->ended = false;
	child->lifeline_pipe = lifeline_inode(lifeline[0]);
	child->report.pid = child->pid;
	report(spawner, child, SPAWNER_SPAWNED);
}

/* ------------------------------------------------------------------- death */

static struct spawned *find_child(struct spawner *spawner, pid_t pid)
{
	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].pid == pid)
			return &spawner->children[i];
	return NULL;
}

static bool is_own(void *context, pid_t pid)
{
	return find_child(context, pid);
}

static bool is_held(int lifeline)
{
	struct pollfd end = { .fd = lifeline };

	return poll(&end, 1, 0) == 0;
}

/* Once for each generation: after that its parent waits for nothing more of it. */
static void not_killed(struct spawner *spawner, struct spawned *child, pid_t pid, int error)
{
	if (child->not_killed)
		return;
	child->not_killed = pid;
	child->kill_error = error;
	report(spawner, child, SPAWNER_NOT_KILLED);
}

static void kill_child(struct spawner *spawner, uint32_t index, uint32_t generation)
{
	struct spawned *child = &spawner->children[index];
	int error = child->pid && child->generation == generation ?
			    lifeline_kill_process(child->pid) :
			    0;

	if (error)
		not_killed(spawner, child, child->pid, error);
}

static void holder_not_killed(void *context, pid_t pid, uint64_t pipe, int error)
{
	struct spawner *spawner = context;

	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].lifeline >= 0 &&
		    spawner->children[i].lifeline_pipe == pipe)
			not_killed(spawner, &spawner->children[i], pid, error);
}

/*
 * Kills the processes that dead children have left: the next SIGCHLD, an orphan's own or its
 * child's, brings us back.
 */
static void kill_left(struct spawner *spawner)
{
	static const struct lifeline_calls calls = { is_own, holder_not_killed };
	uint32_t count = 0;

	for (uint32_t i = 0; i < spawner->worker->child_count; i++) {
		const struct spawned *child = &spawner->children[i];

		if (child->lifeline >= 0 && !child->pid && is_held(child->lifeline))
			spawner->pipes[count++] = child->lifeline_pipe;
	}
	if (count)
		lifeline_kill_holders(spawner->pipes, count, &calls, spawner);
}

/* The death of the subtree's root was reported. */
static void subtree_gone(struct spawner *spawner, struct spawned *child)
{
	close(child->lifeline);
	child->lifeline = -1;
	report(spawner, child, SPAWNER_GONE);
}

/*
 * The parent hears of each stop of a child from its fork on: a stopped child can neither work nor
 * answer.
 */
static void report_stop(struct spawner *spawner, struct spawned *child, int signal)
{
	child->stopped = signal;
	report(spawner, child, SPAWNER_STOPPED);
}

/* Collects all deaths, stops and continuations. */
static void reap(struct spawner *spawner)
{
	struct signalfd_siginfo info;
	struct spawned *child;
	bool any = false;
	int status;
	pid_t pid;

	while (read(spawner->signal_fd, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG | WUNTRACED | WCONTINUED)) > 0) {
		child = find_child(spawner, pid);
		if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
			if (child)
				report_stop(spawner, child,
					    WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
			continue;
		}
		any = true;
		if (!child)
			continue;
		child->pid = 0;
		child->due &= ~(1u << SPAWNER_STOPPED);
		child->report.value = status;
		report(spawner, child, SPAWNER_DEAD);
		if (child->ended)
			subtree_gone(spawner, child);
	}
	if (any)
		kill_left(spawner);
}

/*
 * A process closes its descriptors before it can be reaped, and a callable may close them all and
 * live on. So the subtree is gone only after the death of its root, which is reported first.
 */
static void lifeline_ended(struct spawner *spawner, struct spawned *child)
{
	if (!child->pid) {
		subtree_gone(spawner, child);
		return;
	}
	child->ended = true;
	reap(spawner);
}

static void kill_all(struct spawner *spawner)
{
	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].pid > 0)
			kill_child(spawner, i, spawner->children[i].generation);
}

/* -------------------------------------------------------------------- loop */

/* Executes all commands that have arrived; false: no more can come. */
static bool obey_all(struct spawner *spawner)
{
	struct spawner_command message;
	ssize_t n;

	while ((n = recv(spawner->socket, &message, sizeof(message), MSG_DONTWAIT)) != 0) {
		if (n == sizeof(message) && message.order == SPAWNER_KILL)
			kill_child(spawner, message.index, message.generation);
		else if (n == sizeof(message))
			spawn(spawner, message.index, message.generation);
		else if (n < 0 && errno == EAGAIN)
			return true;
		else if (n < 0 && errno != EINTR) {
			if (errno != ECONNRESET)
				cannot_go_on(spawner, "recv", errno);
			return false;
		}
	}
	return false;
}

/* Is there a child to wait for? Our end kills children that we cannot kill (PDEATHSIG). */
static bool any_subtree(const struct spawner *spawner)
{
	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].lifeline >= 0 && !spawner->children[i].not_killed)
			return true;
	return false;
}

static void parent_gone(struct spawner *spawner)
{
	spawner->alone = true;
	kill_all(spawner);
}

static void loop(struct spawner *spawner)
{
	uint32_t count = spawner->worker->child_count;
	struct pollfd *polls = spawner->polls;

	while (!spawner->lost && (!spawner->alone || any_subtree(spawner))) {
		polls[0] = (struct pollfd){ .fd = spawner->alone ? -1 : spawner->socket,
					    .events = POLLIN | (spawner->full ? POLLOUT : 0) };
		polls[1] = (struct pollfd){ .fd = spawner->alone ? -1 : spawner->parent_pidfd,
					    .events = POLLIN };
		polls[2] = (struct pollfd){ .fd = spawner->signal_fd, .events = POLLIN };
		for (uint32_t i = 0; i < count; i++)
			polls[3 + i] = (struct pollfd){ .fd = spawner->children[i].ended ? -1 :
							      spawner->children[i].lifeline };
		/*
		 * A refused report is tried again after each wake-up, and after 100 ms without one.
		 */
		if (poll(polls, 3 + count, spawner->refused && !spawner->alone ? REFUSED_MS : -1) <
		    0) {
			if (is_final(errno)) {
				spawner->lost = true;
				cannot_go_on(spawner, "poll", errno);
			}
			continue;
		}
		if (polls[2].revents)
			reap(spawner);
		for (uint32_t i = 0; i < count; i++)
			if (polls[3 + i].revents && spawner->children[i].lifeline >= 0 &&
			    !spawner->children[i].ended)
				lifeline_ended(spawner, &spawner->children[i]);
		if (polls[0].revents & POLLOUT || spawner->refused)
			send_due(spawner);
		if (polls[1].revents || (polls[0].revents & ~POLLOUT && !obey_all(spawner)))
			parent_gone(spawner);
	}
	/* A child that cannot be killed now gets SIGKILL when this process ends (PDEATHSIG). */
	if (spawner->lost)
		kill_all(spawner);
	/*
	 * Reaps processes that callables have left: as children of process 1 they might stay
	 * zombies.
	 */
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/*
 * Like exec: resets handlers and keeps ignored signals ignored, except SIGCHLD, which a reaper
 * needs.
 */
static void reset_signals(void)
{
	struct sigaction action;

	for (int s = 1; s < NSIG; s++)
		if (sigaction(s, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
			signal(s, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
}

static void close_parents(struct spawner *spawner)
{
	struct dw_worker *worker = spawner->worker;

	close(worker->spawner.socket);
	close(worker->spawner.tree_fd);
	for (uint32_t i = 0; i < worker->child_count; i++) {
		link_close_parent(&worker->children[i].link);
		spawner->children[i].lifeline = -1;
		spawner->children[i].pidfd = -1;
	}
	close(worker->life.events_fd);
	if (worker->life.up_link >= 0)
		close(worker->life.up_link);
	if (worker->spawner.own_fd >= 0)
		close(worker->spawner.own_fd);
}

/* In a spawner and in all that it forks. */
static bool has_group;

void spawner_main(struct spawner *spawner, pid_t parent, struct fork_hooks *hooks)
{
	sigset_t all, child_only;

	/* A stopped spawner must notice that its parent is gone. */
	prctl(PR_SET_PDEATHSIG, SIGCONT);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	reset_signals();
	/* AddressSanitizer's prctl() takes a lock that another thread may have held at the fork. */
	syscall(SYS_prctl, PR_SET_NAME, "dw-spawner");
	/* Orphaned descendants become our children, so that a subtree ends below its Worker. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/*
	 * A terminal's Ctrl-C is for the application, which cancels and closes. One group for all
	 * below: spawner_end() reaps by it.
	 */
	if (!has_group)
		setpgid(0, 0);
	has_group = true;
	/* Discards unflushed output, which the application writes itself. */
	__fpurge(stdout);
	__fpurge(stderr);
	close_parents(spawner);
	/* In our descendants it stays open even over exec, like a lifeline. */
	fcntl(spawner->tree, F_SETFD, 0);
	fork_hooks_child(hooks);

	sigemptyset(&child_only);
	sigaddset(&child_only, SIGCHLD);
	spawner->signal_fd = fd_move_up(signalfd(-1, &child_only, SFD_CLOEXEC | SFD_NONBLOCK));
	if (spawner->signal_fd < 0)
		cannot_go_on(spawner, "signalfd", errno);
	spawner->parent_pidfd = fd_open_pidfd(parent);
	if (spawner->signal_fd >= 0 && spawner->parent_pidfd < 0)
		cannot_go_on(spawner, "pidfd_open", errno);
	if (spawner->signal_fd >= 0 && spawner->parent_pidfd >= 0 && getppid() == parent)
		loop(spawner);
	_exit(0);
}
