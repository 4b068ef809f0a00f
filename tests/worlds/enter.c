/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Enters a world that a process takes along over exec, or that somebody outside makes:
 *
 *   enter close 0,2 -- COMMAND…     without these descriptors
 *   enter full FD -- COMMAND…       FD is a pipe that is full, and nobody reads it
 *   enter broken FD -- COMMAND…     FD is a pipe that nobody can read any more
 *   enter ignore N,N -- COMMAND…    these signals are ignored
 *   enter mask -- COMMAND…          all signals are blocked
 *   enter stopping MS -- COMMAND…   one descendant after the other is stopped for MS and continued
 *   enter frozen MS -- COMMAND…     all are stopped for MS, three times
 *   enter freezer MS FOLDER -- COMMAND…   the same by a control group (v1 freezer, or v2)
 *   enter load N -- COMMAND…        N processes compute beside it
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIDS_MOST 1024

static pid_t pids[PIDS_MOST];
static unsigned pid_count;

static void pause_ms(unsigned ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

static void start(char **command)
{
	execvp(command[0], command);
	fprintf(stderr, "enter: %s: %s\n", command[0], strerror(errno));
	_exit(127);
}

/* `root` and its descendants. */
static void family(pid_t root)
{
	static pid_t all[PIDS_MOST], parent[PIDS_MOST];
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned count = 0;

	while (dir && (entry = readdir(dir)) && count < PIDS_MOST) {
		char path[64], line[512], *end;
		FILE *file;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/stat", entry->d_name);
		file = fopen(path, "re");
		if (file && fgets(line, sizeof(line), file) && (end = strrchr(line, ')')) &&
		    sscanf(end + 1, " %*c %d", &parent[count]) == 1)
			all[count++] = atoi(entry->d_name);
		if (file)
			fclose(file);
	}
	if (dir)
		closedir(dir);
	pids[0] = root;
	pid_count = 1;
	for (unsigned known = 0; known < pid_count; known++)
		for (unsigned i = 0; i < count; i++)
			if (parent[i] == pids[known] && pid_count < PIDS_MOST)
				pids[pid_count++] = all[i];
}

static int wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	signal(WTERMSIG(status), SIG_DFL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

static bool is_there(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid != pid;
}

static void stop_one_by_one(pid_t root, unsigned ms)
{
	for (unsigned turn = 0; is_there(root); turn++) {
		pid_t victim;

		family(root);
		if (pid_count < 2) {
			pause_ms(2);
			continue;
		}
		victim = pids[1 + turn % (pid_count - 1)];
		kill(victim, SIGSTOP);
		pause_ms(ms);
		kill(victim, SIGCONT);
		pause_ms(ms);
	}
}

static void stop_all(pid_t root, unsigned ms)
{
	for (unsigned turn = 0; turn < 3 && is_there(root); turn++) {
		pause_ms(60);
		family(root);
		for (unsigned i = 0; i < pid_count; i++)
			kill(pids[i], SIGSTOP);
		pause_ms(ms);
		for (unsigned i = 0; i < pid_count; i++)
			kill(pids[i], SIGCONT);
	}
}

static bool write_file(const char *folder, const char *name, const char *text)
{
	char path[4096];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n == (ssize_t)strlen(text);
}

static void freeze_group(pid_t root, unsigned ms, const char *folder)
{
	bool first = true;

	for (unsigned turn = 0; turn < 3 && is_there(root); turn++) {
		pause_ms(60);
		first = write_file(folder, "freezer.state", "FROZEN") ||
			write_file(folder, "cgroup.freeze", "1");
		pause_ms(ms);
		if (!write_file(folder, "freezer.state", "THAWED"))
			write_file(folder, "cgroup.freeze", "0");
	}
	if (!first)
		fprintf(stderr, "enter: %s cannot be frozen\n", folder);
}

static void full_pipe(int fd)
{
	static char page[4096];
	int ends[2];

	if (pipe(ends) < 0)
		_exit(126);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	while (write(ends[1], page, sizeof(page)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	/* The reading end stays open in the program, at a high number. */
	dup2(ends[0], 200);
	close(ends[0]);
	dup2(ends[1], fd);
	if (ends[1] != fd)
		close(ends[1]);
}

static void broken_pipe(int fd)
{
	int ends[2];

	if (pipe(ends) < 0)
		_exit(126);
	close(ends[0]);
	dup2(ends[1], fd);
	if (ends[1] != fd)
		close(ends[1]);
}

static void for_each(char *list, void (*act)(int))
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
		act(atoi(word));
}

static void close_one(int fd)
{
	close(fd);
}

static void ignore_one(int number)
{
	signal(number, SIG_IGN);
}

static int with_load(unsigned count, char **command)
{
	pid_t busy[64], pid;
	int status;

	for (unsigned i = 0; i < count && i < 64; i++) {
		busy[i] = fork();
		if (busy[i] == 0)
			for (volatile unsigned n = 0; getppid() != 1; n++)
				;
	}
	pid = fork();
	if (pid == 0)
		start(command);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	for (unsigned i = 0; i < count && i < 64; i++) {
		kill(busy[i], SIGKILL);
		waitpid(busy[i], NULL, 0);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int with_stops(const char *verb, unsigned ms, const char *folder, char **command)
{
	char text[32];
	pid_t pid;

	if (folder && mkdir(folder, 0755) < 0 && errno != EEXIST) {
		fprintf(stderr, "enter: %s: %s\n", folder, strerror(errno));
		return 126;
	}
	pid = fork();
	if (pid == 0) {
		snprintf(text, sizeof(text), "%d", (int)getpid());
		if (folder && !write_file(folder, "cgroup.procs", text))
			_exit(126);
		start(command);
	}
	if (!strcmp(verb, "stopping"))
		stop_one_by_one(pid, ms);
	else if (!strcmp(verb, "frozen"))
		stop_all(pid, ms);
	else
		freeze_group(pid, ms, folder);
	ms = (unsigned)wait_for(pid);
	for (unsigned i = 0; folder && rmdir(folder) < 0 && errno == EBUSY && i < 200; i++)
		pause_ms(10);
	return (int)ms;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	char **command = argv + 1;
	sigset_t all;

	while (*command && strcmp(*command, "--"))
		command++;
	if (!*command || !*++command)
		return 2;
	if (!strcmp(verb, "close")) {
		for_each(argv[2], close_one);
	} else if (!strcmp(verb, "full")) {
		full_pipe(atoi(argv[2]));
	} else if (!strcmp(verb, "broken")) {
		broken_pipe(atoi(argv[2]));
	} else if (!strcmp(verb, "ignore")) {
		for_each(argv[2], ignore_one);
	} else if (!strcmp(verb, "mask")) {
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
	} else if (!strcmp(verb, "load")) {
		return with_load((unsigned)atoi(argv[2]), command);
	} else if (!strcmp(verb, "stopping") || !strcmp(verb, "frozen") ||
		   !strcmp(verb, "freezer")) {
		return with_stops(verb, (unsigned)atoi(argv[2]),
				  !strcmp(verb, "freezer") ? argv[3] : NULL, command);
	} else {
		return 2;
	}
	start(command);
	return 127;
}
