/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See nodes.h. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <distworker/node.h>
#include "nodes.h"

/* Shared with all processes of all rounds. */
struct shared {
	struct nodes_counts counts;
	_Atomic pid_t keepers[NODES_MOST];
	char addresses[NODES_MOST][300]; /* written by a node before it is announced */
};

struct nodes_counts *nodes_counts;
static struct shared *shared;
static int stops[NODES_MOST]; /* a byte ends the node */
static int nets[NODES_MOST]; /* their namespaces */
static unsigned node_count, net_count;
static char folder[] = "/tmp/dw-stress-XXXXXX", key[64];

/* Root has to name one. */
static const char *user(void)
{
	const struct passwd *entry = getpwuid(geteuid());

	return entry ? entry->pw_name : "root";
}

bool nodes_make_key(void)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	int fd;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		exit(1);
	nodes_counts = &shared->counts;
	if (!mkdtemp(folder))
		return false;
	snprintf(key, sizeof(key), "%s/key", folder);
	fd = open(key, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "one key for all of these hosts\n", 31) != 31)
		return false;
	close(fd);
	setenv("DW_HOST_KEY", key, 1);
	options.user = user();
	options.listen = "127.0.0.1:0";
	options.idle_timeout_ns = 1;
	return dw_node_serve(NULL, &options) != -ENOSYS;
}

void nodes_forget_key(void)
{
	if (key[0])
		unlink(key);
	rmdir(folder);
}

/* ------------------------------------------------------------------------ networks */

/* In that namespace; -1: this one. */
static bool run_in(int net, const char *command)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit((net >= 0 && setns(net, CLONE_NEWNET)) || system(command) ? 1 : 0);
	waitpid(pid, &status, 0);
	return status == 0;
}

/* A namespace, which its maker leaves with a link from here: 10.78.N.1 here, 10.78.N.2 there. */
static bool make_net(unsigned i)
{
	char command[256], path[64];
	int ready[2];
	bool made;
	pid_t pid;
	char byte;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return false;
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	made = read(ready[0], &byte, 1) == 1;
	close(ready[0]);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	nets[i] = made ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	snprintf(command, sizeof(command),
		 "ip link add n%u type veth peer name there netns %d && "
		 "ip addr add 10.78.%u.1/24 dev n%u && ip link set n%u up",
		 i, (int)pid, i, i, i);
	made = made && nets[i] >= 0 && run_in(-1, command);
	snprintf(command, sizeof(command),
		 "ip link set lo up && ip addr add 10.78.%u.2/24 dev there && "
		 "ip link set there up", i);
	made = made && run_in(nets[i], command);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return made;
}

bool nodes_make_nets(void)
{
	/* The ip of busybox moves no link to another namespace. */
	if (system("ip -V 2>/dev/null | grep -q iproute2") || unshare(CLONE_NEWNET) ||
	    system("ip link set lo up"))
		return false;
	while (net_count < NODES_MOST && make_net(net_count))
		net_count++;
	return net_count == NODES_MOST;
}

static void change(unsigned i, enum nodes_break how, bool heal)
{
	static const char *const commands[BREAKS][2] = {
		[BREAK_LINK_HERE] = { "ip link set n%u down", "ip link set n%u up" },
		[BREAK_LINK_THERE] = { "ip link set there down", "ip link set there up" },
		[BREAK_QUESTIONS] = { "ip route add blackhole 10.78.%u.2/32",
				      "ip route del blackhole 10.78.%u.2/32" },
		[BREAK_ANSWERS] = { "ip route add blackhole 10.78.%u.1/32",
				    "ip route del blackhole 10.78.%u.1/32" },
	};
	bool there = how == BREAK_LINK_THERE || how == BREAK_ANSWERS;
	char command[128];

	snprintf(command, sizeof(command), commands[how][heal], i);
	if (!run_in(there ? nets[i] : -1, command))
		printf("not ok - %s\n", command);
}

void nodes_break(unsigned i, enum nodes_break how)
{
	change(i, how, false);
}

void nodes_heal(unsigned i, enum nodes_break how)
{
	change(i, how, true);
}

/* --------------------------------------------------------------------------- nodes */

struct announcement {
	unsigned i;
	int said;
};

static void say_address(const char *address, void *context)
{
	const struct announcement *to = context;

	strcpy(shared->addresses[to->i], address);
	/* Of a node that has come back nobody waits for it. */
	if (write(to->said, "", 1) < 0 && errno != EPIPE)
		_exit(1);
}

static void serve(nodes_program *program, unsigned i, int stop, int said)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	struct announcement to = { .i = i, .said = said };
	struct dw_worker *root = NULL;
	char place[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (net_count && setns(nets[i], CLONE_NEWNET) < 0)
		_exit(1);
	if (dw_worker_create(DW_LEVEL_POD, NULL, &root) < 0)
		_exit(1);
	program(root);
	snprintf(place, sizeof(place), net_count ? "10.78.%u.2:7733" : "127.0.0.1:0", i);
	options.user = user();
	options.listen = shared->addresses[i][0] ? shared->addresses[i] : place;
	options.stop_fd = stop;
	options.listening = say_address;
	options.context = &to;
	_exit(dw_node_serve(root, &options) < 0);
}

/* Until the node leaves because it was told to. */
static void keep(nodes_program *program, unsigned i, int stop, int said)
{
	int status = 0;
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		pid = fork();
		if (pid == 0)
			serve(program, i, stop, said);
		if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
			_exit(0);
		shared->counts.back++;
	}
}

void nodes_start(unsigned count, nodes_program *program)
{
	memset(shared->addresses, 0, sizeof(shared->addresses));
	for (node_count = 0; node_count < count; node_count++) {
		int said[2], stop[2];
		char byte;
		pid_t pid;

		if (pipe2(said, O_CLOEXEC) < 0 || pipe2(stop, O_CLOEXEC) < 0)
			_exit(1);
		pid = fork();
		if (pid == 0) {
			shared->keepers[node_count] = getpid();
			close(said[0]);
			close(stop[1]);
			keep(program, node_count, stop[0], said[1]);
		}
		shared->keepers[node_count] = pid;
		close(said[1]);
		close(stop[0]);
		stops[node_count] = stop[1];
		/* Nobody listens at an address that was never told. */
		if (read(said[0], &byte, 1) <= 0)
			strcpy(shared->addresses[node_count], "127.0.0.1:1");
		close(said[0]);
	}
}

const char *nodes_address(unsigned i)
{
	return shared->addresses[i];
}

bool nodes_is_keeper(pid_t pid)
{
	for (unsigned i = 0; i < NODES_MOST; i++)
		if (shared->keepers[i] == pid)
			return true;
	return false;
}

void nodes_stop(void)
{
	for (unsigned i = 0; i < node_count; i++) {
		/* Without SIGPIPE, if it has gone. */
		signal(SIGPIPE, SIG_IGN);
		if (write(stops[i], "", 1) < 0)
			kill(shared->keepers[i], SIGKILL);
		close(stops[i]);
		waitpid(shared->keepers[i], NULL, 0);
		shared->keepers[i] = 0;
	}
	node_count = 0;
}
