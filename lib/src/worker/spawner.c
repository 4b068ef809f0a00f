/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Behind spawner.h. The spawner sleeps in one poll() without a timeout, and nowhere else: a report
 * that the socket does not take now is kept with the child that it is about (only a lack of memory
 * in the kernel is waited out with a timeout).
 *
 * Invariant: spawned.pid is a process that was not reaped, so that a kill never reaches a stranger;
 * nor does a kill by the pidfd that the parent gets.
 */
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
#include "callable/symbol.h"
#include "worker/fork_hooks.h"
#include "worker/hierarchy.h"
#include "worker/last_frame.h"
#include "worker/lifeline.h"

struct spawned {
	pid_t pid;		/* 0: none */
	int pidfd;		/* until the parent has it; -1 */
	uint32_t generation;
	int lifeline;		/* read end; its end comes when the whole subtree is gone; -1 */
	uint64_t lifeline_pipe;	/* its inode */
	int stopped;		/* the signal that has stopped it; 0: it runs */
	bool ended;		/* the lifeline has; it is closed once the child is dead */
	uint32_t due;		/* events to be reported: bit 1 << enum spawner_event */
	struct spawner_report report;	/* their details … */
	pid_t not_killed;	/* … and those of SPAWNER_NOT_KILLED, which is said once; 0: it was not */
	int kill_error;
};

struct spawner {
	struct dw_worker *worker;
	int socket;
	int tree;		/* write end, which all descendants inherit */
	int parent_pidfd;
	int signal_fd;
	bool full;		/* the socket; due reports wait for POLLOUT */
	bool refused;		/* a report was, for want of memory or the like: it is tried again */
	bool lost;		/* it cannot wait, or send any report: it leaves */
	bool alone;		/* the parent is gone: only the end of the subtrees is waited for */
	sigset_t application_mask;
	struct spawned *children;
	struct pollfd *polls;
	uint64_t *pipes;
};

/* This is a retry after an error of the kernel, not polling: nothing would tell that memory is there again. */
#define REFUSED_MS 100
/* A spawner that has no children any more ends at once, unless it was stopped and may not be killed. */
#define END_NS 10000000000ULL

/* Between the making of descriptors and the fork that passes them on no other tree may fork. */
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;

static int open_pidfd(pid_t pid)
{
	return fd_move_up((int)syscall(SYS_pidfd_open, pid, 0));
}

/* ----------------------------------------------------------------- reports */

/* One descriptor on the way through a socket. */
union passed_fd {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

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
 * The last report: without it the parent would only see the socket end. A socket that is full has no room for it. Not
 * by sendmsg(), which may be the call that is refused.
 */
static void cannot_go_on(const struct spawner *spawner, const char *what, int error)
{
	struct spawner_report last = { .kind = SPAWNER_ENDS, .value = error };

	text_copy(last.what, sizeof(last.what), what);
	while (send(spawner->socket, &last, sizeof(last), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR)
		;
}

/* A filter's refusal stays. */
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
		/* When the parent is gone poll() says so; all else (ENOBUFS, ETOOMANYREFS) may pass. */
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
	struct life life = { &spawner->worker->children[index], spawner->children[index].generation, hooks };
	int code;

	become_child(spawner, index, spawner_pid);
	/* The application's frames, with its exception handlers, are on this stack. */
	code = last_frame_call(live, &life);
	/* What the callables printed; what the parent had not flushed was purged. */
	fflush(stdout);
	fflush(stderr);
	_exit(code);
}

static void spawn_failed(struct spawner *spawner, struct spawned *child, int error, const char *what)
{
	child->report.value = error;
	text_copy(child->report.what, sizeof(child->report.what), what);
	report(spawner, child, SPAWNER_FAILED);
}

/*
 * A child that its parent could not kill: it has waited for GO, which will not come. If we cannot either,
 * it ends when its parent closes the link.
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
	/* Of one that could not be killed: nobody waits for it any more. */
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
		/* The write end stays open, over exec too: it stands for the life of the subtree. */
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
	child->pidfd = open_pidfd(child->pid);
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

/* Once for each generation: its parent waits for no more than that then. */
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
	int error = child->pid && child->generation == generation ? lifeline_kill_process(child->pid) : 0;

	if (error)
		not_killed(spawner, child, child->pid, error);
}

static void holder_not_killed(void *context, pid_t pid, uint64_t pipe, int error)
{
	struct spawner *spawner = context;

	for (uint32_t i = 0; i < spawner->worker->child_count; i++)
		if (spawner->children[i].lifeline >= 0 && spawner->children[i].lifeline_pipe == pipe)
			not_killed(spawner, &spawner->children[i], pid, error);
}

/* What dead children have left: the next SIGCHLD, an orphan's own or its child's, brings us back. */
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

/* Its root's death was reported. */
static void subtree_gone(struct spawner *spawner, struct spawned *child)
{
	close(child->lifeline);
	child->lifeline = -1;
	report(spawner, child, SPAWNER_GONE);
}

/* Whatever stops a child, from its fork on, its parent hears of it: stopped it can neither work nor answer. */
static void child_stopped(struct spawner *spawner, struct spawned *child, int signal)
{
	child->stopped = signal;
	report(spawner, child, SPAWNER_STOPPED);
}

/* The deaths, stops and continuations that there are. */
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
				child_stopped(spawner, child, WIFSTOPPED(status) ? WSTOPSIG(status) : 0);
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
 * A process closes its descriptors before it can be reaped, or a callable closes them all and it lives on: the
 * subtree is gone with the death of its root, which is reported first.
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

/* All commands that are there; false when nobody is left to give any. */
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

/* That is waited for: what cannot be killed gets its signal by our end (PDEATHSIG). */
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
		/* A refused report is tried again after each wake-up, and after 100 ms without one. */
		if (poll(polls, 3 + count, spawner->refused && !spawner->alone ? REFUSED_MS : -1) < 0) {
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
	/* What cannot be killed now gets SIGKILL when this process has ended (PDEATHSIG). */
	if (spawner->lost)
		kill_all(spawner);
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
}

static void spawner_main(struct spawner *spawner, pid_t parent, struct fork_hooks *hooks)
	__attribute__((noreturn));
static void spawner_main(struct spawner *spawner, pid_t parent, struct fork_hooks *hooks)
{
	sigset_t all, child_only;

	/* A spawner that is stopped has to see that its parent is gone. */
	prctl(PR_SET_PDEATHSIG, SIGCONT);
	pthread_mutex_unlock(&fork_lock);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	reset_signals();
	/* AddressSanitizer's prctl() takes a lock, which another thread may have held at the fork. */
	syscall(SYS_prctl, PR_SET_NAME, "dw-spawner");
	/* Descendants that lose their parent come to us, so that a subtree ends below its Worker. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* A terminal's Ctrl-C is for the application, which cancels and closes. */
	setpgid(0, 0);
	/* What the application has not flushed yet is for it to write. */
	__fpurge(stdout);
	__fpurge(stderr);
	close_parents(spawner);
	/* Below us it stays open over exec too, as a lifeline does. */
	fcntl(spawner->tree, F_SETFD, 0);
	fork_hooks_child(hooks);

	sigemptyset(&child_only);
	sigaddset(&child_only, SIGCHLD);
	spawner->signal_fd = fd_move_up(signalfd(-1, &child_only, SFD_CLOEXEC | SFD_NONBLOCK));
	if (spawner->signal_fd < 0)
		cannot_go_on(spawner, "signalfd", errno);
	spawner->parent_pidfd = open_pidfd(parent);
	if (spawner->signal_fd >= 0 && spawner->parent_pidfd < 0)
		cannot_go_on(spawner, "pidfd_open", errno);
	if (spawner->signal_fd >= 0 && spawner->parent_pidfd >= 0 && getppid() == parent)
		loop(spawner);
	_exit(0);
}

/* ------------------------------------------------------------- the parent's */

static int make_descriptors(struct dw_worker *worker, int sockets[2], int tree[2])
{
	if (fd_move_pair_up(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets),
			    sockets) < 0)
		return error_set(-errno, "%s: cannot make the spawner's socket: %s%s", worker->path,
				 error_name(errno), error_hint(errno));
	if (fd_move_pair_up(pipe2(tree, O_CLOEXEC), tree) < 0) {
		int error = errno;

		close(sockets[0]);
		close(sockets[1]);
		return error_set(-error, "%s: cannot make the spawner's pipe: %s%s", worker->path,
				 error_name(error), error_hint(error));
	}
	return 0;
}

static int fork_spawner(struct dw_worker *worker, struct spawner *spawner, struct fork_hooks *hooks)
{
	pid_t parent = getpid();
	int error;

	/* What another thread has half changed would stay so in the children, and its lock taken for ever. */
	symbol_lock();
	callable_lock();
	fork_hooks_lock();
	worker->spawner.pid = fork();
	error = errno;
	fork_hooks_unlock();
	callable_unlock();
	symbol_unlock();
	if (worker->spawner.pid == 0)
		spawner_main(spawner, parent, hooks);
	if (worker->spawner.pid < 0) {
		worker->spawner.pid = 0;
		return error_set(-error, "%s: cannot fork the spawner: %s%s", worker->path,
				 error_name(error), error_hint(error));
	}
	worker->spawner.pidfd = open_pidfd(worker->spawner.pid);
	if (worker->spawner.pidfd < 0)
		return error_set(-errno, "%s: cannot watch the spawner: pidfd_open: %s%s", worker->path,
				 error_name(errno), error_hint(errno));
	return 0;
}

void spawner_init(struct spawner_process *process)
{
	*process = (struct spawner_process){ .socket = -1, .pidfd = -1, .tree_fd = -1 };
}

/* Whether it was sent, or need not be. */
static bool send_signal(const struct spawner_process *process, int signal_number)
{
	return process->pidfd < 0 ||
	       syscall(SYS_pidfd_send_signal, process->pidfd, signal_number, NULL, 0) == 0 ||
	       errno == ESRCH;
}

bool spawner_kill(const struct spawner_process *process)
{
	return send_signal(process, SIGKILL);
}

int spawner_stopped(const struct spawner_process *process)
{
	siginfo_t info = { 0 };

	/* WNOWAIT: the application may wait for all of its children. */
	if (process->pidfd < 0 ||
	    waitid(P_PIDFD, (id_t)process->pidfd, &info, WSTOPPED | WNOHANG | WNOWAIT) < 0)
		return 0;
	return info.si_pid ? info.si_status : 0;
}

bool spawner_continue(const struct spawner_process *process)
{
	return send_signal(process, SIGCONT);
}

int spawner_fork(struct dw_worker *worker)
{
	struct spawner spawner = { .worker = worker };
	int sockets[2], tree[2];
	struct fork_hooks hooks;
	int result;

	spawner.children = calloc(worker->child_count + 1, sizeof(*spawner.children));
	spawner.polls = calloc(worker->child_count + 3, sizeof(*spawner.polls));
	spawner.pipes = calloc(worker->child_count + 1, sizeof(*spawner.pipes));
	if (!spawner.children || !spawner.polls || !spawner.pipes) {
		result = error_set(-ENOMEM, "%s: no memory for the spawner", worker->path);
		goto out;
	}
	result = fork_hooks_prepare(&hooks);
	if (result < 0)
		goto out;
	pthread_mutex_lock(&fork_lock);
	result = make_descriptors(worker, sockets, tree);
	if (result == 0) {
		worker->spawner.socket = sockets[0];
		worker->spawner.tree_fd = tree[0];
		spawner.socket = sockets[1];
		spawner.tree = tree[1];
		sigprocmask(SIG_SETMASK, NULL, &spawner.application_mask);
		result = fork_spawner(worker, &spawner, &hooks);
		close(sockets[1]);
		close(tree[1]);
	}
	pthread_mutex_unlock(&fork_lock);
	fork_hooks_parent(&hooks);
	for (uint32_t i = 0; result == 0 && i < worker->child_count; i++)
		link_close_child(&worker->children[i].link);
out:
	free(spawner.children);
	free(spawner.polls);
	free(spawner.pipes);
	return result;
}

/* Also with the engine's lock, in which others ask for a kill. */
static void close_socket(void *context)
{
	struct dw_worker *worker = context;

	if (worker->spawner.socket >= 0)
		close(worker->spawner.socket);
	worker->spawner.socket = -1;
}

int spawner_wait_end(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLIN };
	struct deadline deadline = deadline_at(deadline_in(END_NS));
	int result;

	do {
		uint64_t now = now_ns(), wake = deadline_sleep(&deadline, now);

		result = poll(&end, 1, (int)((wake - now) / 1000000) + 1);
	} while (result <= 0 && (result == 0 || errno == EINTR) && !deadline_passed(&deadline, now_ns()));
	return result < 0 ? -errno : result;
}

int spawner_end(struct dw_worker *worker)
{
	int result = 0, refused = 0, ended;
	siginfo_t info;

	if (worker->spawner.pidfd >= 0 &&
	    syscall(SYS_pidfd_send_signal, worker->spawner.pidfd, SIGKILL, NULL, 0) < 0)
		refused = errno;
	/* It sees the end of the socket, kills what is left, and leaves. */
	if (worker->life.engine)
		engine_locked(worker->life.engine, close_socket, worker);
	else
		close_socket(worker);
	if (worker->spawner.pidfd >= 0) {
		ended = spawner_wait_end(worker->spawner.pidfd);
		if (ended == 0 || (ended < 0 && refused))
			result = error_set(-ETIMEDOUT, "%s: its spawner, pid %d, does not end%s%s", worker->path,
					   (int)worker->spawner.pid, refused ? ", and may not be killed: " : "",
					   refused ? error_name(refused) : "");
		/* ECHILD: the application reaps by itself, or ignores SIGCHLD. */
		while (waitid(P_PIDFD, (id_t)worker->spawner.pidfd, &info,
			      WEXITED | (ended < 0 && !refused ? 0 : WNOHANG)) < 0 && errno == EINTR)
			;
		close(worker->spawner.pidfd);
	} else if (worker->spawner.pid > 0) {
		waitpid(worker->spawner.pid, NULL, 0);
	}
	worker->spawner.pid = 0;
	worker->spawner.pidfd = -1;
	if (worker->spawner.tree_fd >= 0)
		close(worker->spawner.tree_fd);
	worker->spawner.tree_fd = -1;
	return result;
}

int spawner_ask(const struct spawner_process *process, enum spawner_order order, uint32_t index,
		uint32_t generation)
{
	struct spawner_command message = { .order = order, .index = index, .generation = generation };
	ssize_t n;

	do {
		n = send(process->socket, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int spawner_receive(const struct spawner_process *process, struct spawner_report *report,
		    int *pidfd)
{
	struct iovec data = { .iov_base = report, .iov_len = sizeof(*report) };
	union passed_fd passed;
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1,
		.msg_control = &passed, .msg_controllen = sizeof(passed),
	};
	struct cmsghdr *header;
	ssize_t n;

	*pidfd = -1;
	/* ECONNRESET, once: it has closed without reading all; what it wrote is there still. */
	do {
		n = recvmsg(process->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n != sizeof(*report))
		return -EPIPE;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS) {
		memcpy(pidfd, CMSG_DATA(header), sizeof(*pidfd));
		*pidfd = fd_move_up(*pidfd);
	}
	return 1;
}
