/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The exit statuses of all verbs of `distworker`. docs/tools.md has the same
 * table; scripts may rely on it.
 */
#ifndef TOOLS_EXIT_H
#define TOOLS_EXIT_H

enum tool_exit {
	TOOL_OK = 0,
	TOOL_FAILED = 1,	/* run: the job's run returned an error */
	TOOL_USAGE = 2,		/* an option, a verb or a value that makes no sense */
	TOOL_NO_JOB = 3,	/* run: the job is not there, or is not a job */
	TOOL_NO_TREE = 4,	/* run: the hierarchy's file is wrong, or it did not come up */
	TOOL_REJECTED = 5,	/* run: the job itself finds its result not good enough */
	TOOL_UNHEALTHY = 6,	/* doctor: at least one line says FAIL */
	/* no memory, no /proc, output cannot be written; image: no compiler, object not readable */
	TOOL_SYSTEM = 7,
	/* chips: a driver that was named is not there, or cannot tell its devices */
	TOOL_NO_DRIVER = 8,
	TOOL_NO_IMAGE = 9,	/* image: the sources do not compile, or an object breaks a limit */
	TOOL_NOT_SEEN = 10,	/* top: there is no such tree, or this user may not see it */
	TOOL_NO_TRACE = 11,	/* trace, graph: the file is not there, or is no trace */
	TOOL_INTERRUPTED = 130,	/* run: SIGINT; cancelled, drained and closed (SIGTERM: 143) */
	TOOL_KILLED = 137,	/* run: a second signal, or no drain in time: all were killed */
	TOOL_TERMINATED = 143,
};

#endif
