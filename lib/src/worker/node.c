/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node: dw_node_serve(). A daemon that takes connections, and forks a process for each
 * (node_session.h).
 *
 * Owns: struct node, for as long as the call lasts. One thread, which sleeps in one ppoll(): for
 * connections, the ends of sessions, and the caller's descriptor. It does not touch a connection
 * that has proved that it has the key, and runs no function of the application.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "host/connection.h"
#include "host/key.h"
#include "task/options.h"
#include "worker/fork_hooks.h"
#include "worker/hierarchy.h"
#include "worker/node.h"
#include "worker/node_again.h"
#include "worker/node_session.h"
#include "worker/objects.h"

/* Until the gateway says its own. */
#define TIMEOUT_NS (5 * NS_PER_S)
#define POLLS (LISTENER_PENDING + 2)

struct running {
	pid_t pid;
	int pidfd;
};

struct node {
	const struct dw_worker *program;
	struct dw_node_options options;
	char objects[PATH_MAX]; /* of options.objects, in whole */
	struct secret *secret;
	enum net net;
	struct listener *listener;
	struct running *sessions;
	uint32_t count, ended;
	int listening; /* given by the caller; -1: none, or the listener has it */
	bool once; /* leave with the tree: when its last connection has ended as it should */
	bool left;
	uint64_t idle_since;
	struct pollfd *polls;
};

/* ---------------------------------------------------------------------- setting up */

static int check(const struct dw_worker *worker, const struct dw_node_options *o)
{
	int result = worker ? worker_check(worker, "dw_node_serve") : 0;

	if (result < 0)
		return result;
	if (worker && worker->life.state != WORKER_NEW)
		return error_set(-EBUSY,
				 "dw_node_serve: Worker %s was initialised: a process is a root, "
				 "or a node",
				 worker->name);
	if (o->stop_fd < 0)
		return error_set(-EINVAL, "dw_node_serve: options.stop_fd is %d; 0 is none",
				 o->stop_fd);
	if (geteuid() == 0 && !o->user)
		return error_set(-EPERM,
				 "dw_node_serve: this process is root, and would run as root "
				 "whatever a peer with the key sends: options.user (distworker "
				 "node --user) should name a user to serve as");
	return 0;
}

static int become(const char *name)
{
	const struct passwd *user;

	errno = 0;
	user = getpwnam(name);
	if (!user)
		return error_set(errno ? -errno : -ENOENT,
				 "there is no user \"%s\" to serve as%s%s", text_short(name),
				 errno ? ": " : "", errno ? strerror(errno) : "");
	if (user->pw_uid == geteuid())
		return 0;
	if (initgroups(name, user->pw_gid) < 0 || setgid(user->pw_gid) < 0 ||
	    setuid(user->pw_uid) < 0)
		return error_set(-errno, "cannot serve as user \"%s\": %s", text_short(name),
				 strerror(errno));
	return 0;
}

static int listen_there(struct node *node)
{
	const char *wanted = node->options.listen;
	struct address address = { .host = "" };
	char own[ADDRESS_BYTES];
	int fd, result = 0;

	if (wanted)
		result = address_parse("the address to listen on,", wanted, &address);
	else
		text_format(address.port, sizeof(address.port), "%d", ADDRESS_PORT);
	if (result < 0)
		return result;
	fd = node->listening >= 0 ? node->listening : address_listen(&address);
	node->listening = -1;
	if (fd < 0)
		return fd;
	address_of_own(fd, own);
	result = listener_create(fd, node->secret, TIMEOUT_NS, &node->listener);
	if (result == 0 && node->options.user)
		result = become(node->options.user);
	if (result == 0 && node->options.listening)
		node->options.listening(own, node->options.context);
	return result;
}

static uint64_t half_the_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 ? (uint64_t)pages * (uint64_t)page / 2 : 1ULL << 30;
}

/* As the user that serves. */
static int find_objects(struct node *node)
{
	const char *folder = node->options.objects;
	int result = objects_check(folder);

	if (result == 0 && !realpath(folder, node->objects))
		result = error_set(-errno, "the folder for shared objects, %s: %s",
				   text_short(folder), strerror(errno));
	node->options.objects = node->objects;
	return result;
}

static int set_up_sessions(struct node *node)
{
	if (!node->options.cache_bytes)
		node->options.cache_bytes = half_the_memory();
	return net_read(&node->net);
}

static int set_up(struct node *node)
{
	int result = set_up_sessions(node);

	/* Kept, because its trees may have Workers on further hosts. */
	if (result == 0 && node->options.key)
		result = key_keep_file(node->options.key);
	if (result == 0)
		result = key_find(NULL, &node->secret);
	if (result == 0)
		result = listen_there(node);
	if (result == 0 && node->options.objects)
		result = find_objects(node);
	node->idle_since = now_ns();
	return result;
}

/* ------------------------------------------------------------------------ sessions */

/* In the process that was forked: only its own connection stays. */
static void enter(struct node *node, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setpgid(0, 0);
	syscall(SYS_prctl, PR_SET_NAME, "dw-session");
	listener_destroy(node->listener);
	for (uint32_t i = 0; i < node->count; i++)
		close(node->sessions[i].pidfd);
	if (node->options.stop_fd)
		close(node->options.stop_fd);
}

static struct node_session_options options_of(const struct node *node, const char *peer)
{
	return (struct node_session_options){
		.program = node->program,
		.peer = peer,
		.objects = node->options.objects,
		.cache_bytes = node->options.cache_bytes,
		.net = node->net,
	};
}

static int fork_session(struct node *node, struct stream *stream, const char *peer, pid_t *pid)
{
	const struct node_session_options options = options_of(node, peer);
	pid_t parent = getpid();
	struct fork_hooks hooks;
	int result = fork_hooks_prepare(&hooks);

	if (result < 0)
		return result;
	*pid = fork_hooks_fork();
	if (*pid == 0) {
		enter(node, parent);
		fork_hooks_child(&hooks);
		_exit(node_session_run(stream, &options));
	}
	result = *pid < 0 ? error_set(-errno, "cannot fork: %s%s", error_name(errno),
				      error_hint(errno)) :
			    0;
	fork_hooks_parent(&hooks);
	return result;
}

static int make_room(struct node *node)
{
	struct running *sessions =
		realloc(node->sessions, (node->count + 1) * sizeof(*node->sessions));
	struct pollfd *polls;

	if (sessions)
		node->sessions = sessions;
	polls = realloc(node->polls, (POLLS + node->count + 1) * sizeof(*node->polls));
	if (polls)
		node->polls = polls;
	return sessions && polls ? 0 : error_set(-ENOMEM, "no memory for a session");
}

static void begin_session(struct node *node, struct stream *stream, const char *peer)
{
	struct running *session;
	int result = make_room(node);

	session = &node->sessions[node->count];
	if (result == 0)
		result = fork_session(node, stream, peer, &session->pid);
	stream_destroy(stream);
	if (result == 0) {
		session->pidfd = fd_open_pidfd(session->pid);
		if (session->pidfd < 0) {
			result = error_set(-errno, "cannot watch a session: %s", strerror(errno));
			kill(session->pid, SIGKILL);
			waitpid(session->pid, NULL, 0);
		}
	}
	if (result == 0)
		node->count++;
	else
		log_at(LOG_WARN, "the connection from %s ends: %s", peer, error_text());
}

static void take_connections(struct node *node)
{
	char peer[ADDRESS_BYTES];
	struct stream *stream;
	int result;

	while ((result = listener_step(node->listener, &stream, peer)) == 1)
		begin_session(node, stream, peer);
	if (result < 0)
		log_at(LOG_WARN, "no connection can be taken: %s", error_text());
}

static void end_session(struct node *node, uint32_t i)
{
	struct running session = node->sessions[i];
	int status = 0;

	while (waitpid(session.pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		log_at(LOG_WARN, "session %d was killed by %s", (int)session.pid,
		       error_signal_name(WTERMSIG(status)));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != NODE_SESSION_EXAMINED) {
		node->left = WIFEXITED(status) && WEXITSTATUS(status) == 0;
		node->ended++;
	}
	close(session.pidfd);
	node->sessions[i] = node->sessions[--node->count];
	node->idle_since = now_ns();
}

static void end_sessions(struct node *node)
{
	struct pollfd ended = { .events = POLLIN };

	for (uint32_t i = node->count; i-- > 0;) {
		ended.fd = node->sessions[i].pidfd;
		if (poll(&ended, 1, 0) > 0)
			end_session(node, i);
	}
}

/* This process is a session that has started itself again (node_again.h). Returns if it fails. */
static int go_on(struct node *node)
{
	struct node_session_options options;
	char peer[ADDRESS_BYTES];
	struct stream *stream;
	int result = set_up_sessions(node);

	if (result == 0 && node->options.objects)
		result = find_objects(node);
	if (result == 0)
		result = again_take(&stream, peer);
	if (result < 0)
		return result;
	options = options_of(node, peer);
	_exit(node_session_run(stream, &options));
}

/* --------------------------------------------------------------------------- serving */

static uint64_t leave_at(const struct node *node)
{
	if (node->count || !node->options.idle_timeout_ns)
		return NEVER;
	return node->idle_since + node->options.idle_timeout_ns;
}

static bool may_leave(const struct node *node)
{
	struct pollfd stop = { .fd = node->options.stop_fd, .events = POLLIN };

	return (node->options.stop_fd && poll(&stop, 1, 0) > 0) ||
	       (node->once && node->left && !node->count) ||
	       (node->options.sessions && node->ended >= node->options.sessions) ||
	       now_ns() >= leave_at(node);
}

static void wait_for_any(struct node *node)
{
	uint64_t deadline = listener_deadline(node->listener), leave = leave_at(node);
	uint32_t count = listener_poll(node->listener, node->polls);
	uint64_t now = now_ns();
	struct timespec rest;

	if (leave < deadline)
		deadline = leave;
	rest = clock_timespec(deadline > now ? deadline - now : 0);
	if (node->options.stop_fd)
		node->polls[count++] =
			(struct pollfd){ .fd = node->options.stop_fd, .events = POLLIN };
	for (uint32_t i = 0; i < node->count; i++)
		node->polls[count++] =
			(struct pollfd){ .fd = node->sessions[i].pidfd, .events = POLLIN };
	ppoll(node->polls, count, deadline == NEVER ? NULL : &rest, NULL);
}

static int serve(struct node *node)
{
	int result = make_room(node);

	while (result == 0 && !may_leave(node)) {
		wait_for_any(node);
		take_connections(node);
		end_sessions(node);
	}
	return result;
}

static void take_down(struct node *node)
{
	for (uint32_t i = node->count; i-- > 0;) {
		syscall(SYS_pidfd_send_signal, node->sessions[i].pidfd, SIGKILL, NULL, 0);
		end_session(node, i);
	}
	if (node->listening >= 0)
		close(node->listening);
	listener_destroy(node->listener);
	secret_destroy(node->secret);
	free(node->sessions);
	free(node->polls);
}

DW_API int dw_node_serve(struct dw_worker *worker, const struct dw_node_options *options)
{
	return node_serve(worker, options, -1);
}

int node_serve(struct dw_worker *worker, const struct dw_node_options *options, int listening)
{
	struct node node = {
		.program = worker,
		.options = DW_OPTIONS(dw_node_options),
		.listening = listening,
		.once = listening >= 0,
	};
	int result = 0;

	if (options)
		result = options_read(&node.options, sizeof(node.options), options,
				      "dw_node_options");
	if (result == 0)
		result = check(worker, &node.options);
	if (result == 0)
		result = again_find();
	if (result > 0)
		result = go_on(&node);
	if (result == 0)
		result = set_up(&node);
	if (result == 0)
		result = serve(&node);
	take_down(&node);
	return result;
}
