/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * For tests of Workers on other hosts: nodes on loopback, each a process of this program that
 * serves with the functions of the test, and trees with Workers on them. A key file for both lies
 * in the test's folder. HOST_TEST() is TEST(), skipped where libcrypto is not installed.
 */
#ifndef TESTS_HOSTS_H
#define TESTS_HOSTS_H

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <sys/stat.h>
#include "failure.h"

#define HOST_KEY "one key for all hosts of these tests\n"

struct host_node {
	pid_t pid;
	char address[300];
	int stop;			/* a byte ends the node */
};

/* Registers the functions of a test: by the tree's process, and by each node. */
typedef void host_program(struct dw_worker *root);

static char host_folder[64];

/* The test's own user, which root has to name. */
static inline const char *host_user(void)
{
	const struct passwd *user = getpwuid(geteuid());

	return user ? user->pw_name : "root";
}

static int host_word[2]; /* a pipe, made before the node */

/* Says its pid, and goes on with a byte from the test. */
static inline int host_await_word(struct dw_orch *orch, const struct dw_args *args,
				  const struct dw_config *config, void *context)
{
	char byte;

	(void)orch;
	(void)args;
	(void)config;
	(void)context;
	say();
	return read(host_word[0], &byte, 1) == 1 ? 0 : -errno;
}

static inline void host_say_word(void)
{
	CHECK_EQ(write(host_word[1], "", 1), 1);
}

static inline void host_drop_word(void)
{
	close(host_word[0]);
	close(host_word[1]);
}

/* Makes the file that DW_HOST_KEY names. Returns whether a node can be made here. */
static inline bool host_try(void)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	char path[128];
	int fd;

	strcpy(host_folder, "/tmp/dw-hosts-XXXXXX");
	if (!mkdtemp(host_folder))
		return false;
	snprintf(path, sizeof(path), "%s/key", host_folder);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, HOST_KEY, strlen(HOST_KEY)) < 0)
		return false;
	close(fd);
	setenv("DW_HOST_KEY", path, 1);
	options.user = host_user();
	options.listen = "127.0.0.1:0";
	options.idle_timeout_ns = 1;
	return dw_node_serve(NULL, &options) != -ENOSYS;
}

static inline bool host_prepare(void)
{
	static bool tried, possible;

	if (!tried)
		possible = host_try();
	tried = true;
	return possible;
}

static void host_clean_up(void) __attribute__((destructor));
static void host_clean_up(void)
{
	char path[128];

	if (!host_folder[0])
		return;
	snprintf(path, sizeof(path), "%s/key", host_folder);
	unlink(path);
	rmdir(host_folder);
}

#define HOST_TEST(test_name) \
	static void test_name##_with_keys(void); \
	TEST(test_name) \
	{ \
		if (!host_prepare()) \
			SKIP("libcrypto 3 is not installed"); \
		test_name##_with_keys(); \
	} \
	static void test_name##_with_keys(void)

/* The time from an event to its error: printed for tests/hosts/times, and checked by nobody. */
static uint64_t host_event_ns;

static inline void host_event(void)
{
	host_event_ns = now_ns();
}

static inline void host_took(const char *event)
{
	printf("# took %.2f ms: %s\n", (double)(now_ns() - host_event_ns) / 1e6, event);
}

/* A program with its words, without a shell: that of busybox takes its own tc for it. */
static inline bool host_run(const char *command)
{
	char copy[256], *words[32], *rest;
	int count = 0, status = -1, nowhere;
	pid_t pid;

	snprintf(copy, sizeof(copy), "%s", command);
	for (char *word = strtok_r(copy, " ", &rest); word && count < 31;
	     word = strtok_r(NULL, " ", &rest))
		words[count++] = word;
	words[count] = NULL;
	pid = fork();
	if (pid == 0) {
		nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(nowhere, STDERR_FILENO);
		execvp(words[0], words);
		_exit(127);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

/*
 * For a process of apart(): its loopback, in a network namespace of its own, has that queueing
 * discipline, and packets of Ethernet's size. Whether that is possible here.
 */
static inline bool host_impair(const char *qdisc)
{
	char command[256];

	snprintf(command, sizeof(command), "tc qdisc add dev lo root %s", qdisc);
	return unshare(CLONE_NEWNET) == 0 && host_run("ip link set lo mtu 1500 up") &&
	       host_run(command);
}

static inline bool host_can_impair(const char *qdisc)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(!host_impair(qdisc));
	waitpid(pid, &status, 0);
	return status == 0;
}

static void host_listening(const char *address, void *context)
{
	ssize_t n = write(*(int *)context, address, strlen(address) + 1);

	(void)n;
}

/* `options` may be NULL; address, user and stop_fd are filled in. */
static inline void host_start(struct host_node *node, host_program *program,
			      const struct dw_node_options *given)
{
	struct dw_node_options options = given ? *given : DW_OPTIONS(dw_node_options);
	struct dw_worker *root = NULL;
	int address[2], stop[2];

	CHECK_EQ(pipe2(address, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(stop, O_CLOEXEC), 0);
	node->pid = fork();
	if (node->pid == 0) {
		close(address[0]);
		close(stop[1]);
		CHECK_EQ(dw_worker_create(DW_LEVEL_CLUSTER, NULL, &root), 0);
		program(root);
		options.user = host_user();
		options.listen = given && given->listen ? given->listen : "127.0.0.1:0";
		options.stop_fd = stop[0];
		options.listening = host_listening;
		options.context = &address[1];
		if (dw_node_serve(root, &options) < 0) {
			printf("# node: %s\n", dw_strerror_last());
			fflush(stdout);
			_exit(1);
		}
		_exit(unit_failures ? 2 : 0);
	}
	chain_bystanders++;
	close(address[1]);
	close(stop[0]);
	node->stop = stop[1];
	CHECK(read(address[0], node->address, sizeof(node->address)) > 0);
	close(address[0]);
}

/* The only session of the node: its only child. */
static inline pid_t host_session(const struct host_node *node)
{
	char path[96], line[64] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)node->pid, (int)node->pid);
	file = fopen(path, "re");
	if (!CHECK(file != NULL))
		return 0;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	return atoi(line);
}

/* The node ends with status 0, and all of its sessions with it. */
static inline void host_stop(struct host_node *node)
{
	int status = 0;

	/* A byte, and not the pipe's end: later nodes have inherited the pipe. */
	CHECK_EQ(write(node->stop, "", 1), 1);
	close(node->stop);
	CHECK_EQ(waitpid(node->pid, &status, 0), node->pid);
	chain_bystanders--;
	CHECK_EQ(status, 0);
}

/* A Worker of that level on the node, below `parent`. */
static inline struct dw_worker *host_worker(struct dw_worker *parent, uint32_t level,
					    uint32_t subs, const struct host_node *node)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *worker = NULL;

	options.subs = subs;
	options.heap_ring_bytes = 64 << 20;
	options.arena_bytes = 256 << 20;
	options.host = node ? node->address : NULL;
	if (!CHECK_EQ(dw_worker_create(level, &options, &worker), 0) ||
	    !CHECK_EQ(dw_worker_add_child(parent, worker, NULL), 0))
		printf("# %s\n", dw_strerror_last());
	return worker;
}

#endif
