/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Finds, loads and checks chip drivers; lists them; enumerates their devices.
 *
 * A driver that was loaded stays loaded: vendors' libraries keep threads and
 * exit handlers that do not survive an unload. Any thread; the dynamic linker has
 * its own lock, and nothing here is global.
 */
#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fd.h"
#include "chip/chip.h"
#include "task/error.h"
#include "task/options.h"

#define SUFFIX ".so"
#define FOLDERS_MAX 16

struct folders {
	unsigned int count;
	char path[FOLDERS_MAX][PATH_MAX];
};

static void folder_add(struct folders *folders, const char *path, size_t length, const char *below)
{
	char *slot;

	if (length == 0 || length + strlen(below) >= PATH_MAX || folders->count == FOLDERS_MAX)
		return;
	slot = folders->path[folders->count];
	memcpy(slot, path, length);
	strcpy(slot + length, below);
	for (unsigned int i = 0; i < folders->count; i++)
		if (strcmp(folders->path[i], slot) == 0)
			return;
	folders->count++;
}

/* The folders in the order in which they are searched. */
static struct folders *folders_find(void)
{
	struct folders *folders = calloc(1, sizeof(*folders));
	const char *list = secure_getenv("DW_CHIP_PATH");
	char own[PATH_MAX];
	Dl_info info;

	if (!folders)
		return NULL;
	while (list && *list) {
		size_t length = strcspn(list, ":");

		folder_add(folders, list, length, "");
		list += length + (list[length] == ':');
	}
	if (dladdr((const void *)folder_add, &info) && info.dli_fname && realpath(info.dli_fname, own)) {
		char *slash = strrchr(own, '/');

		if (slash && slash != own) {
			folder_add(folders, own, (size_t)(slash - own), "");
			folder_add(folders, own, (size_t)(slash - own), "/distworker");
		}
	}
	folder_add(folders, DW_DRIVER_DIR, strlen(DW_DRIVER_DIR), "");
	return folders;
}

static void folders_describe(const struct folders *folders, char *text, size_t bytes)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < folders->count && used < bytes; i++)
		used += (size_t)snprintf(text + used, bytes - used, "%s%s", i ? ", " : "",
					 folders->path[i]);
}

static bool name_ok(const char *name)
{
	size_t length = strlen(name);

	if (length == 0 || length > 31)
		return false;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_' && name[i] != '-')
			return false;
	return true;
}

/* Writes the driver's path, or fails with the folders that were searched. */
static int driver_find(const char *name, char path[PATH_MAX])
{
	struct folders *folders;
	char searched[384];

	if (strchr(name, '/')) {
		if (!realpath(name, path)) {
			int code = -errno;

			return error_set(code, "chip driver %s: %s", name, strerror(-code));
		}
		return 0;
	}
	if (!name_ok(name))
		return error_set(-EINVAL, "chip driver \"%.64s\" is neither a name (1 to 31 letters, digits, - and _) nor a path with a slash",
				 name);
	folders = folders_find();
	if (!folders)
		return error_set(-ENOMEM, "no memory to search for chip driver %s", name);
	for (unsigned int i = 0; i < folders->count; i++) {
		int length = snprintf(path, PATH_MAX, "%s/" DW_CHIP_DRIVER_PREFIX "%s" SUFFIX,
				      folders->path[i], name);

		if (length < PATH_MAX && access(path, F_OK) == 0) {
			free(folders);
			return 0;
		}
	}
	folders_describe(folders, searched, sizeof(searched));
	free(folders);
	return error_set(-ENOENT, "chip driver \"%s\": no " DW_CHIP_DRIVER_PREFIX "%s" SUFFIX " in %s (DW_CHIP_PATH adds folders)",
			 name, name, searched);
}

/* Which required member is missing, or NULL. */
static const char *table_gap(const struct dw_chip_driver *table)
{
	if (!table->name)
		return "name";
	if (!table->enumerate)
		return "enumerate";
	if (!table->open)
		return "open";
	if (!table->close)
		return "close";
	if (!table->properties)
		return "properties";
	if (!table->load)
		return "load";
	if (!table->unload)
		return "unload";
	if (!table->run && !(table->submit && table->collect && table->completion_fd))
		return "run (and not all of submit, collect, completion_fd)";
	return NULL;
}

static int table_check(const struct dw_chip_driver *theirs, struct chip_driver *driver)
{
	size_t bytes;
	const char *gap;

	if (!theirs)
		return error_set(-ELIBBAD, "chip driver %s: %s() gave NULL, a driver table is wanted",
				 driver->path, DW_CHIP_DRIVER_SYMBOL);
	/* These two lead the table in every version of the interface. */
	if (theirs->abi_version != DW_CHIP_ABI_VERSION)
		return error_set(-EPROTO, "chip driver %s speaks driver interface %u, this library (%s) speaks %u: build the driver against this library's distworker/chip.h",
				 driver->path, theirs->abi_version, DW_VERSION, DW_CHIP_ABI_VERSION);
	if (theirs->size < offsetof(struct dw_chip_driver, name))
		return error_set(-ELIBBAD, "chip driver %s: its table says a size of %zu bytes, at least %zu are wanted: set .size = sizeof(struct dw_chip_driver)",
				 driver->path, theirs->size, offsetof(struct dw_chip_driver, alloc));
	/* A table offers: what is behind the known members, nobody calls. */
	bytes = theirs->size < sizeof(driver->table) ? theirs->size : sizeof(driver->table);
	memcpy(&driver->table, theirs, bytes);
	gap = table_gap(&driver->table);
	if (gap)
		return error_set(-ELIBBAD, "chip driver %s has no %s in its table, which every driver needs",
				 driver->path, gap);
	return 0;
}

int chip_driver_load(const char *name, struct chip_driver *driver)
{
	dw_chip_driver_entry *entry;
	void *handle, *symbol;
	int status;

	if (!name)
		return error_set(-EINVAL, "no chip driver is named: give a name (\"sim\") or a path");
	memset(driver, 0, sizeof(*driver));
	status = driver_find(name, driver->path);
	if (status < 0)
		return status;
	handle = dlopen(driver->path, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return error_set(-ELIBBAD, "chip driver %s cannot be loaded: %s", name, dlerror());
	symbol = dlsym(handle, DW_CHIP_DRIVER_SYMBOL);
	if (!symbol) {
		status = error_set(-ELIBBAD, "%s is no chip driver: it does not export %s()",
				   driver->path, DW_CHIP_DRIVER_SYMBOL);
		dlclose(handle);
		return status;
	}
	/* POSIX's way from a data to a function pointer. */
	memcpy(&entry, &symbol, sizeof(entry));
	return table_check(entry(), driver);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

int dw_chip_driver_list(char *names, size_t bytes)
{
	enum { NAMES_MAX = 64 };
	char found[NAMES_MAX][32];
	size_t count = 0, used = 0;
	struct folders *folders;

	if (!names || bytes == 0)
		return error_set(-EINVAL, "dw_chip_driver_list: no room for the names");
	folders = folders_find();
	if (!folders)
		return error_set(-ENOMEM, "no memory to search for chip drivers");
	for (unsigned int i = 0; i < folders->count; i++) {
		DIR *folder = fd_open_folder(folders->path[i]);
		struct dirent *entry;

		while (folder && (entry = readdir(folder)) && count < NAMES_MAX) {
			const size_t prefix = strlen(DW_CHIP_DRIVER_PREFIX), suffix = strlen(SUFFIX);
			size_t length = strlen(entry->d_name);
			bool known = false;

			if (length <= prefix + suffix || length - prefix - suffix >= sizeof(found[0]) ||
			    strncmp(entry->d_name, DW_CHIP_DRIVER_PREFIX, prefix) != 0 ||
			    strcmp(entry->d_name + length - suffix, SUFFIX) != 0)
				continue;
			memset(found[count], 0, sizeof(found[count]));
			memcpy(found[count], entry->d_name + prefix, length - prefix - suffix);
			for (size_t j = 0; j < count; j++)
				known |= strcmp(found[j], found[count]) == 0;
			count += !known;
		}
		if (folder)
			closedir(folder);
	}
	free(folders);
	qsort(found, count, sizeof(found[0]), name_compare);
	for (size_t i = 0; i < count; i++)
		used += strlen(found[i]) + 1;
	if (used > bytes)
		return error_set(-ERANGE, "the names of %zu chip drivers take %zu bytes, there is room for %zu",
				 count, used, bytes);
	names[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		if (i)
			strcat(names, ",");
		strcat(names, found[i]);
	}
	return 0;
}

int dw_chip_driver_query(const char *name, struct dw_chip_driver_info *info)
{
	struct dw_chip_driver_info full = { .abi_version = DW_CHIP_ABI_VERSION };
	int status = options_check_output(info, "dw_chip_driver_info");
	struct chip_driver *driver;

	if (status < 0)
		return status;
	driver = malloc(sizeof(*driver));
	if (!driver)
		return error_set(-ENOMEM, "no memory to load chip driver %s", name);
	status = chip_driver_load(name, driver);
	if (status == 0) {
		snprintf(full.name, sizeof(full.name), "%s", driver->table.name);
		snprintf(full.version, sizeof(full.version), "%s",
			 driver->table.version ? driver->table.version : "");
		snprintf(full.path, sizeof(full.path), "%.255s", driver->path);
		options_write(info, &full, sizeof(full));
	}
	free(driver);
	return status;
}

/* As many devices as there is room for, in structs of this library's size. */
static int enumerate(const struct chip_driver *driver, const char *options,
		     struct dw_chip_properties *properties, size_t room, size_t *found)
{
	struct dw_chip_error text = { "" };
	int status;

	for (size_t i = 0; i < room; i++)
		properties[i].size = sizeof(properties[i]);
	*found = room;
	status = driver->table.enumerate(options, room ? properties : NULL, found, &text);
	text.text[sizeof(text.text) - 1] = '\0';
	if (status < 0)
		return error_set(status, "chip driver %s: %s", driver->table.name,
				 text.text[0] ? text.text : error_name(status));
	return 0;
}

int dw_chip_enumerate(const char *name, const char *options, struct dw_chip_properties *properties,
		      size_t size, size_t *count)
{
	struct dw_chip_properties *known;
	struct chip_driver *driver;
	size_t found;
	int status;

	if (!count || (*count && !properties))
		return error_set(-EINVAL, "dw_chip_enumerate: %s is NULL", count ? "properties" : "count");
	status = options_check_size(size, "dw_chip_properties");
	if (status < 0)
		return status;
	driver = malloc(sizeof(*driver));
	known = calloc(*count + 1, sizeof(*known));
	status = !driver || !known ? error_set(-ENOMEM, "no memory to load chip driver %s", name) :
		 chip_driver_load(name, driver);
	if (status == 0)
		status = enumerate(driver, options, known, *count, &found);
	for (size_t i = 0; status == 0 && i < *count && i < found; i++) {
		known[i].size = size;
		options_fill((char *)properties + i * size, size, &known[i], sizeof(known[i]));
	}
	if (status == 0)
		*count = found;
	free(known);
	free(driver);
	return status;
}
