// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The error of a hub that the module refuses because of a limit of the user: which limit, its
 * value, how much of it is in use, and what to do. The use is read from /proc/PID/fdinfo of the
 * user's own processes, so only this error pays for it. No state; any thread.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mailbox/provider.h"
#include "task/error.h"

#define PARAMETERS "/sys/module/distworker/parameters/"
#define HUBS_MOST 4096		/* that are told apart; a fork shows its parent's once more */

struct use {
	uint32_t ids[HUBS_MOST];
	uint32_t hubs;
	uint64_t bytes;
};

/* The text of a small file, NUL-terminated; false: it cannot be read. */
static bool read_text(int folder, const char *name, char *text, size_t bytes)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, bytes - 1);

	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = '\0';
	return length > 0;
}

static void count_hub(struct use *use, const char *text)
{
	const char *hub = strstr(text, "\nhub:");
	const char *bytes = hub ? strstr(hub, " bytes:") : NULL;
	uint32_t id;

	if (!bytes)
		return;
	id = (uint32_t)strtoul(hub + strlen("\nhub:"), NULL, 10);
	for (uint32_t i = 0; i < use->hubs; i++)
		if (use->ids[i] == id)
			return;
	if (use->hubs == HUBS_MOST)
		return;
	use->ids[use->hubs++] = id;
	use->bytes += strtoull(bytes + strlen(" bytes:"), NULL, 10);
}

static void count_process(struct use *use, const char *pid)
{
	char path[64], text[1024];
	struct dirent *entry;
	struct stat status;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo", pid);
	if (stat(path, &status) || status.st_uid != geteuid())
		return;
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    read_text(dirfd(dir), entry->d_name, text, sizeof(text)))
			count_hub(use, text);
	if (dir)
		closedir(dir);
}

static void count_use(struct use *use)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (isdigit((unsigned char)entry->d_name[0]))
			count_process(use, entry->d_name);
	if (dir)
		closedir(dir);
}

int quota_error(uint32_t max_hubs, uint64_t bytes)
{
	struct use *use = calloc(1, sizeof(*use));
	char text[32];
	uint64_t most = read_text(AT_FDCWD, PARAMETERS "max_user_bytes", text, sizeof(text)) ?
			strtoull(text, NULL, 10) : 0;
	int error = -EDQUOT;

	if (use)
		count_use(use);
	if (use && use->hubs >= max_hubs)
		error_set(error, "the distworker module's limit max_hubs is %u hubs per user, and user %u "
			  "has %u: close other trees, or raise it (" PARAMETERS "max_hubs), or use "
			  "DW_PROVIDER=futex", max_hubs, geteuid(), use->hubs);
	else
		error_set(error, "the distworker module's limit max_user_bytes is %" PRIu64 " bytes per "
			  "user; user %u has %" PRIu64 " in %u hubs, and this tree needs %" PRIu64
			  " more: close other trees, take a smaller mailbox_depth or frame_bytes, or "
			  "raise it (" PARAMETERS "max_user_bytes), or use DW_PROVIDER=futex", most,
			  geteuid(), use ? use->bytes : 0, use ? use->hubs : 0, bytes);
	free(use);
	return error;
}
