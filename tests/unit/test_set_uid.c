/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A program with more rights than its user must not write the files that the user's environment
 * names. This program copies itself, makes the copy set-uid, and starts it as a third user.
 */
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <distworker/distworker.h>
#include "unit.h"

#define OWNER 65534
#define USER 54321

static int nothing(const struct dw_args *args, void *context)
{
	(void)args;
	(void)context;
	return 0;
}

static dw_callable callable;

static int submit_one(struct dw_orch *orch, const struct dw_args *args,
		      const struct dw_config *config, void *context)
{
	struct dw_args *in;
	int result = dw_args_create(&in);

	(void)args;
	(void)config;
	(void)context;
	if (result == 0)
		result = dw_submit(orch, callable, in, NULL, NULL);
	dw_args_destroy(in);
	return result;
}

/* Makes a working tree. */
static int work(void)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_worker *node;
	int result;

	options.subs = 1;
	result = dw_worker_create(DW_LEVEL_NODE, &options, &node);
	if (result == 0)
		result = dw_callable_register_sub(node, "nothing", nothing, NULL, &callable);
	if (result == 0)
		result = dw_worker_init(node);
	if (result == 0)
		result = dw_worker_run(node, submit_one, NULL, NULL, NULL);
	if (result)
		fprintf(stderr, "# %s\n", dw_strerror_last());
	else
		dw_worker_destroy(node);
	return result != 0;
}

/* Runs in the copy, before the tests. */
__attribute__((constructor(65535))) static void become_copy(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "as-its-user"))
		_exit(geteuid() != getuid() ? 3 : work());
	if (argc == 2 && !strcmp(argv[1], "as-its-owner"))
		_exit(geteuid() == getuid() ? 3 : work());
}

static char folder[64], copy[128], trace[128], graph[128];

static bool copy_self(mode_t mode)
{
	char buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to;
	ssize_t got = -1;

	unlink(copy);
	to = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
	while (from >= 0 && to >= 0 && (got = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)got) != got)
			return false;
	/* The owner first: chown() takes set-uid away. */
	if (got != 0 || fchown(to, OWNER, OWNER) || fchmod(to, mode))
		return false;
	close(from);
	return close(to) == 0;
}

static int start_copy(const char *argument)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("DW_TRACE", trace, 1);
		setenv("DW_GRAPH", graph, 1);
#ifdef __SANITIZE_THREAD__
		/* The file of suppressions may be where only root can read. */
		setenv("TSAN_OPTIONS", "die_after_fork=0", 1);
#endif
		if (setgroups(0, NULL) || setgid(USER) || setuid(USER))
			_exit(4);
		execl(copy, copy, argument, NULL);
		_exit(5);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Failed before: both files were written, with the rights of the program's owner. */
TEST(set_uid_program_writes_no_file_that_its_environment_names)
{
	struct statvfs system;

	if (geteuid() != 0)
		SKIP("a set-uid program of another user can be made by root alone");
	strcpy(folder, "/tmp/distworker-set-uid-XXXXXX");
	REQUIRE(mkdtemp(folder) && chmod(folder, 0777) == 0);
	snprintf(copy, sizeof(copy), "%s/program", folder);
	snprintf(trace, sizeof(trace), "%s/trace.json", folder);
	snprintf(graph, sizeof(graph), "%s/graph.dot", folder);
	if (statvfs(folder, &system) || system.f_flag & (ST_NOSUID | ST_NOEXEC)) {
		rmdir(folder);
		SKIP("/tmp is mounted with nosuid or noexec");
	}
	/* The same without set-uid writes them. */
	CHECK(copy_self(0755));
	CHECK_EQ(start_copy("as-its-user"), 0);
	CHECK_EQ(unlink(trace), 0);
	CHECK_EQ(unlink(graph), 0);
	CHECK(copy_self(04755));
	CHECK_EQ(start_copy("as-its-owner"), 0);
	CHECK(access(trace, F_OK) != 0);
	CHECK(access(graph, F_OK) != 0);
	unlink(trace);
	unlink(graph);
	unlink(copy);
	rmdir(folder);
}
