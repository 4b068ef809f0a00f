/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Runs one program and says how it ended and what it left:
 *
 *   supervise UNITS OUT ERR -- COMMAND…     one line on stdout:
 *   exit N | signal N | hangs, "units N", "left N", then "# " lines about processes that hang or
 *   are left
 *
 * The bound is not a time. While the program runs, this process does units of work (a child that
 * computes for 2 ms, 20 ms apart), and a program that has not ended after UNITS of them hangs: on a
 * busy or stopped machine the units take longer, just as the program does. This process is the
 * subreaper, so processes that the program leaves become its children.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LEFT_UNITS 60		/* for what still ends after the program has */
#define PIDS_MOST 1024

static pid_t pids[PIDS_MOST], parents[PIDS_MOST];
static unsigned pid_count;
static bool ours[PIDS_MOST];
static pid_t program, worker;
static int status;
static bool ended;

static void list_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	bool more = true;

	pid_count = 0;
	while (dir && (entry = readdir(dir)) && pid_count < PIDS_MOST) {
		char path[64], line[512], *end, state;
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')')) &&
		    sscanf(end + 1, " %c %d", &state, &parents[pid_count]) == 2) {
			pids[pid_count] = atoi(entry->d_name);
			ours[pid_count++] = false;
		}
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	while (more) {
		more = false;
		for (unsigned i = 0; i < pid_count; i++)
			for (unsigned k = 0; !ours[i] && pids[i] != worker && k <= pid_count; k++)
				if (k == pid_count ? parents[i] == getpid() :
				    ours[k] && pids[k] == parents[i])
					more = ours[i] = true;
	}
}

static void describe(pid_t pid, pid_t parent)
{
	static const char *const files[] = { "comm", "wchan", "syscall" };
	char path[64], text[256];

	printf("#   pid %d, child of %d:", (int)pid, (int)parent);
	for (unsigned i = 0; i < 3; i++) {
		ssize_t n = -1;
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, files[i]);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			n = read(fd, text, sizeof(text) - 1);
			close(fd);
		}
		text[n > 0 ? n : 0] = '\0';
		text[strcspn(text, "\n")] = '\0';
		printf(" %s %s", files[i], text);
	}
	printf("\n");
}

static unsigned kill_all(bool tell)
{
	unsigned killed = 0;

	for (unsigned round = 0; round < 50; round++) {
		unsigned found = 0;

		list_processes();
		for (unsigned i = 0; i < pid_count; i++) {
			if (!ours[i])
				continue;
			found++;
			if (tell && !round)
				describe(pids[i], parents[i]);
		}
		for (unsigned i = 0; i < pid_count; i++)
			if (ours[i])
				kill(pids[i], SIGKILL);
		killed = found > killed ? found : killed;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!found)
			break;
		nanosleep(&(struct timespec){ 0, 10000000 }, NULL);
	}
	return killed;
}

/* Counts the children, and reaps those that have ended. */
static bool has_children(void)
{
	int state;
	pid_t pid;

	while ((pid = waitpid(-1, &state, WNOHANG)) > 0)
		if (pid == program) {
			status = state;
			ended = true;
		}
	return pid == 0;
}

static void unit(void)
{
	struct timespec pause = { 0, 20000000 }, used;
	sigset_t set;
	int state;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigtimedwait(&set, NULL, &pause);
	if (!has_children())
		return;
	worker = fork();
	if (worker == 0) {
		do
			clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
		while (used.tv_nsec < 2000000 && !used.tv_sec);
		_exit(0);
	}
	if (worker > 0)
		while (waitpid(worker, &state, 0) < 0 && errno == EINTR)
			;
	worker = 0;
}

static int redirect(const char *path, int target)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

	if (fd < 0 || dup2(fd, target) < 0)
		return -1;
	if (fd != target)
		close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned most = argc > 5 ? (unsigned)atoi(argv[1]) : 0, units, left = 0;
	sigset_t set, old;
	int nothing;

	if (!most || strcmp(argv[4], "--"))
		return 2;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &old);
	fflush(stdout);
	program = fork();
	if (program == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		nothing = open("/dev/null", O_RDONLY);
		if (nothing > 0) {
			dup2(nothing, 0);
			close(nothing);
		}
		if (redirect(argv[2], 1) || redirect(argv[3], 2))
			_exit(126);
		execvp(argv[5], argv + 5);
		_exit(127);
	}
	for (units = 0; units < most && !ended; units++)
		unit();
	if (!ended) {
		printf("hangs 0 units %u left 0\n", units);
		kill_all(true);
		return 0;
	}
	for (unsigned i = 0; i < LEFT_UNITS && has_children(); i++)
		unit();
	printf("%s %d units %u ", WIFEXITED(status) ? "exit" : "signal",
	       WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), units);
	if (has_children()) {
		list_processes();
		for (unsigned i = 0; i < pid_count; i++)
			left += ours[i];
	}
	printf("left %u\n", left);
	if (left)
		kill_all(true);
	return 0;
}
