/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See nodes.h. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <distworker/node.h>
#include "nodes.h"

static struct {
	pid_t pid;
	int stop; /* a byte ends it */
	char address[300];
} nodes[NODES_MOST];
static unsigned node_count;
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

static void say_address(const char *address, void *context)
{
	if (write(*(int *)context, address, strlen(address) + 1) < 0)
		_exit(1);
}

static void serve(nodes_program *program, int stop, int said)
{
	struct dw_node_options options = DW_OPTIONS(dw_node_options);
	struct dw_worker *root = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dw_worker_create(DW_LEVEL_POD, NULL, &root) < 0)
		_exit(1);
	program(root);
	options.user = user();
	options.listen = "127.0.0.1:0";
	options.stop_fd = stop;
	options.listening = say_address;
	options.context = &said;
	_exit(dw_node_serve(root, &options) < 0);
}

void nodes_start(unsigned count, nodes_program *program)
{
	for (node_count = 0; node_count < count; node_count++) {
		int said[2], stop[2];
		pid_t pid;

		if (pipe2(said, O_CLOEXEC) < 0 || pipe2(stop, O_CLOEXEC) < 0)
			_exit(1);
		pid = fork();
		if (pid == 0) {
			close(said[0]);
			close(stop[1]);
			serve(program, stop[0], said[1]);
		}
		close(said[1]);
		close(stop[0]);
		nodes[node_count].pid = pid;
		nodes[node_count].stop = stop[1];
		/* Killed before it could say so: nobody listens there. */
		if (read(said[0], nodes[node_count].address, sizeof(nodes[0].address)) <= 0)
			strcpy(nodes[node_count].address, "127.0.0.1:1");
		close(said[0]);
	}
}

const char *nodes_address(unsigned i)
{
	return nodes[i].address;
}

void nodes_stop(void)
{
	for (unsigned i = 0; i < node_count; i++) {
		/* Without SIGPIPE, if it was killed. */
		signal(SIGPIPE, SIG_IGN);
		if (write(nodes[i].stop, "", 1) < 0)
			kill(nodes[i].pid, SIGKILL);
		close(nodes[i].stop);
		waitpid(nodes[i].pid, NULL, 0);
	}
	node_count = 0;
}
