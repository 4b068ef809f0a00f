/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* A control group for one test, in version 1 or 2 of the interface, if the test may make one. */
#ifndef TESTS_CGROUP_H
#define TESTS_CGROUP_H

#include <fcntl.h>
#include <sys/stat.h>
#include "failure.h"

static char group[PATH_MAX];		/* "": none */

static inline bool write_file(const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", group, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = write(fd, text, strlen(text));
	close(fd);
	return n > 0;
}

static inline bool is_there(const char *name)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	return access(path, W_OK) == 0;
}

/* Makes a group below the mount of `controller` in version 1, or below that of version 2. */
static inline bool make_group(const char *controller, const char *limit_v1, const char *limit_v2)
{
	char line[1024], type[64], path[512], options[512], enable[64];
	FILE *mounts = fopen("/proc/self/mounts", "re");

	group[0] = '\0';
	while (mounts && !group[0] && fgets(line, sizeof(line), mounts)) {
		bool v2;

		if (sscanf(line, "%*s %511s %63s %511s", path, type, options) != 3)
			continue;
		v2 = strcmp(type, "cgroup2") == 0;
		if (!v2 && (strcmp(type, "cgroup") || !strstr(options, controller)))
			continue;
		if (v2) {
			snprintf(group, sizeof(group), "%s", path);
			snprintf(enable, sizeof(enable), "+%s", controller);
			write_file("cgroup.subtree_control", enable);
		}
		snprintf(group, sizeof(group), "%s/distworker-test-%d", path, (int)getpid());
		if (mkdir(group, 0700) < 0 || !is_there(v2 ? limit_v2 : limit_v1)) {
			rmdir(group);
			group[0] = '\0';
		}
	}
	if (mounts)
		fclose(mounts);
	return group[0];
}

/* A process that has ended may be counted for a moment longer. */
static inline void remove_group(void)
{
	uint64_t begun = now_ns();

	while (rmdir(group) < 0 && errno == EBUSY && unit_within(begun, 20 * SECOND_NS))
		pause_ms(10);
	CHECK(access(group, F_OK) < 0);
}

/* For apart(): this process is in the group from now on. */
static inline void enter_group(void)
{
	CHECK(write_file("cgroup.procs", "0"));
}

#endif
