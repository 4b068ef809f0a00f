/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Worlds that are made inside the program, by LD_PRELOAD; WORLD_INSIDE says which:
 *
 *   refuse:CALL:ERRNO   a filter refuses this system call from main() on, in all descendants
 *   signals:FLAGS SIGURG every 0.5 ms; FLAGS: restart, interrupt. Children of the library ignore
 *   it: their
 *                       handlers are the default ones
 *   locale              setlocale(LC_ALL, ""), as applications do
 *   drop                after dw_worker_init() the process is no longer root
 */
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <locale.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define DROPPED_ID 61235

static const struct {
	const char *name;
	uint32_t number;
} calls[] = {
#define CALL(call) { #call, __NR_##call },
#include "calls.h"
#undef CALL
};

static void complain(const char *what)
{
	static const char head[] = "inside: ";
	ssize_t n = write(2, head, sizeof(head) - 1);

	n = write(2, what, strlen(what));
	n = write(2, "\n", 1);
	(void)n;
	_exit(125);
}

static void refuse(char *call)
{
	char *error = strchr(call, ':');
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(*filter), filter };

	if (!error)
		complain("refuse:CALL:ERRNO");
	*error++ = '\0';
	filter[2].k |= (uint32_t)atoi(error);
	for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
		if (strcmp(calls[i].name, call))
			continue;
		filter[1].k = calls[i].number;
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
			complain("no seccomp filters here");
		return;
	}
	complain("no such system call");
}

static volatile sig_atomic_t signals_seen;

static void on_signal(int number)
{
	(void)number;
	signals_seen = 1;
}

static void start_signals(void)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG };
	struct itimerspec times = { { 0, 500000 }, { 0, 500000 } };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &times, NULL))
		complain("no timer");
}

static bool dropping;

/* Comes before the library's function. */
int dw_worker_init(void *root);
int dw_worker_init(void *root)
{
	int (*next)(void *) = (int (*)(void *))(uintptr_t)dlsym(RTLD_NEXT, "dw_worker_init");
	int result = next ? next(root) : -ENOSYS;

	if (dropping && (setgroups(0, NULL) || setresgid(DROPPED_ID, DROPPED_ID, DROPPED_ID) ||
			 setresuid(DROPPED_ID, DROPPED_ID, DROPPED_ID)))
		complain("cannot drop root");
	dropping = false;
	return result;
}

__attribute__((constructor)) static void begin(void)
{
	const char *wanted = getenv("WORLD_INSIDE");
	struct sigaction action = { .sa_handler = on_signal };
	char *text = wanted ? strdup(wanted) : NULL;

	if (!text)
		return;
	/*
	 * Called just before the program; earlier, a filter would also refuse the loader's calls.
	 */
	if (!strcmp(program_invocation_short_name, "env")) {
		free(text);
		return;
	}
	if (!strncmp(text, "refuse:", 7)) {
		refuse(text + 7);
	} else if (!strncmp(text, "signals:", 8)) {
		action.sa_flags = !strcmp(text + 8, "restart") ? SA_RESTART : 0;
		sigaction(SIGURG, &action, NULL);
		start_signals();
	} else if (!strcmp(text, "locale")) {
		if (!setlocale(LC_ALL, ""))
			complain("there is no such locale");
	} else if (!strcmp(text, "drop")) {
		dropping = true;
	} else {
		complain("WORLD_INSIDE is not known");
	}
	free(text);
}
