/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * PoCL keeps what it has compiled in a folder. Where it cannot write there it has no devices, or
 * crashes in the first build, and says nothing: this names the folder. Any thread.
 */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/text.h"
#include "internal.h"

#define POCL_NAME "Portable Computing Language"

/* The folder that PoCL's documentation names. False: PoCL chooses one by itself. */
static bool cache_folder(char *path, size_t space)
{
	const char *own = getenv("POCL_CACHE_DIR"), *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (own && own[0])
		text_copy(path, space, own);
	else if (cache && cache[0])
		text_format(path, space, "%s/pocl/kcache", cache);
	else if (home && home[0])
		text_format(path, space, "%s/.cache/pocl/kcache", home);
	else
		return false;
	return true;
}

/* Makes the folder and its parents, as PoCL does. 0 or -errno. */
static int folder_make(char *path)
{
	for (char *slash = path; slash;) {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EISDIR &&
		    access(path, F_OK) < 0)
			return -errno;
		if (slash)
			*slash = '/';
	}
	return 0;
}

static int folder_write(const char *path)
{
	char name[PATH_MAX];
	int fd;

	if (text_format(name, sizeof(name), "%s/.distworker-XXXXXX", path) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(name);
	close(fd);
	return 0;
}

int pocl_cache_check(cl_platform_id platform, struct dw_chip_error *error)
{
	char name[256] = "", path[PATH_MAX], made[PATH_MAX];
	int code;

	clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(name) - 1, name, NULL);
	if (strcmp(name, POCL_NAME) != 0 || !cache_folder(path, sizeof(path)))
		return 0;
	memcpy(made, path, sizeof(made));
	code = folder_make(made);
	if (code == 0)
		code = folder_write(path);
	if (code == 0)
		return 0;
	return kit_fail(error, code,
			"opencl: PoCL cannot write to its cache folder %s: %s; set POCL_CACHE_DIR "
			"to a folder that this user can write to",
			text_short(path), strerror(-code));
}
