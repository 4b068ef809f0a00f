/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The parent's side: see spawner.h. */
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
#include "worker/spawner_main.h"

/*
 * A spawner without children ends at once, unless it is stopped and cannot be killed. It may end by
 * itself until the first of these limits.
 */
#define LEAVE_NS 2000000000ULL
#define END_NS 10000000000ULL

/*
 * No other tree may fork between the creation of the descriptors and the fork that inherits them.
 */
static pthread_mutex_t fork_lock = PTHREAD_MUTEX_INITIALIZER;

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

static int cannot_watch(const struct dw_worker *worker, int error)
{
	return error_set(-error, "%s: cannot watch child processes: pidfd_open: %s%s%s",
			 worker->path, error_name(error), error_hint(error),
			 error == ENOSYS ? " (valgrind 3.19 does not have it; children in "
					   "DW_THREAD mode need no processes)" : "");
}

static int fork_spawner(struct dw_worker *worker, struct spawner *spawner, struct fork_hooks *hooks)
{
	pid_t parent = getpid();

	worker->spawner.pid = fork_hooks_fork();
	if (worker->spawner.pid == 0) {
		pthread_mutex_unlock(&fork_lock);
		spawner_main(spawner, parent, hooks);
	}
	if (worker->spawner.pid < 0) {
		worker->spawner.pid = 0;
		return error_set(-errno, "%s: cannot fork the spawner: %s%s", worker->path,
				 error_name(errno), error_hint(errno));
	}
	worker->spawner.pidfd = fd_open_pidfd(worker->spawner.pid);
	return worker->spawner.pidfd < 0 ? cannot_watch(worker, errno) : 0;
}

void spawner_init(struct spawner_process *process)
{
	*process = (struct spawner_process){
		.socket = -1, .pidfd = -1, .tree_fd = -1, .own_fd = -1,
	};
}

/* Returns true if the signal was sent, or need not be sent. */
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
	int result, own;

	/*
	 * Before the fork: in valgrind, a process that exits with an error first searches its whole
	 * heap for leaks, which would delay the error.
	 */
	own = fd_open_pidfd(getpid());
	if (own < 0)
		return cannot_watch(worker, errno);
	close(own);
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

/* Takes the engine's lock as well, since kills are requested with it. */
static void close_socket(void *context)
{
	struct dw_worker *worker = context;

	if (worker->spawner.socket >= 0)
		close(worker->spawner.socket);
	worker->spawner.socket = -1;
}

static int wait_end(int fd, uint64_t ns)
{
	struct pollfd end = { .fd = fd, .events = POLLIN };
	struct deadline deadline = deadline_at(deadline_in(ns));
	int result;

	do {
		uint64_t now = now_ns(), wake = deadline_sleep(&deadline, now);

		result = poll(&end, 1, (int)((wake - now) / 1000000) + 1);
	} while (result <= 0 && (result == 0 || errno == EINTR) &&
		 !deadline_passed(&deadline, now_ns()));
	return result < 0 ? -errno : result;
}

int spawner_wait_end(int fd)
{
	return wait_end(fd, END_NS);
}

/*
 * Reaps the spawner, and the processes that it left: if this process is process 1 of a container,
 * or a subreaper, the processes of a killed spawner are its children now. No child of the
 * application is in their group.
 */
static void reap_group(pid_t spawner)
{
	siginfo_t info;

	do {
		info.si_pid = 0;
	} while (waitid(P_PGID, (id_t)spawner, &info, WEXITED | WNOHANG) == 0 && info.si_pid);
}

int spawner_end(struct dw_worker *worker)
{
	int result = 0, refused = 0, ended, reaped;

	/*
	 * The spawner sees the end of the socket, kills and reaps the remaining processes, and
	 * exits. An immediate SIGKILL would leave its zombies to process 1.
	 */
	if (worker->life.engine)
		engine_locked(worker->life.engine, close_socket, worker);
	else
		close_socket(worker);
	if (worker->spawner.pidfd >= 0) {
		spawner_continue(&worker->spawner);
		ended = wait_end(worker->spawner.pidfd, LEAVE_NS);
		if (ended <= 0) {
			if (syscall(SYS_pidfd_send_signal, worker->spawner.pidfd, SIGKILL, NULL,
				    0) < 0)
				refused = errno;
			ended = spawner_wait_end(worker->spawner.pidfd);
		}
		reap_group(worker->spawner.pid);
		if (ended == 0 || (ended < 0 && refused))
			result = error_set(-ETIMEDOUT, "%s: its spawner, pid %d, does not end%s%s",
					   worker->path, (int)worker->spawner.pid,
					   refused ? ", and may not be killed: " : "",
					   refused ? error_name(refused) : "");
		while ((reaped = waitid(P_PIDFD, (id_t)worker->spawner.pidfd, NULL,
					WEXITED | (ended < 0 && !refused ? 0 : WNOHANG))) < 0 &&
		       errno == EINTR)
			;
		/*
		 * ECHILD: the application reaps all children, or ignores SIGCHLD. Otherwise a
		 * filter refuses waitid().
		 */
		if (reaped < 0 && errno != ECHILD)
			waitpid(worker->spawner.pid, NULL, WNOHANG);
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
	struct spawner_command message = { .order = order,
					   .index = index,
					   .generation = generation };
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
	/*
	 * ECONNRESET comes once, when the spawner has closed without reading everything; its
	 * reports can still be read.
	 */
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
