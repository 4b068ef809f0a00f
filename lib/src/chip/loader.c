/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Finds, loads and checks chip drivers; lists them; enumerates their devices.
 *
 * A driver that was loaded stays loaded: vendors' libraries keep threads and
 * exit handlers that do not survive an unload. Any thread; the dynamic linker has
 * its own lock, and nothing here is global.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/library.h"
#include "base/strings.h"
#include "base/text.h"
#include "base/variables.h"
#include "chip/chip.h"
#include "task/error.h"
#include "task/name.h"
#include "task/options.h"

#define SUFFIX ".so"

static int folder_add(struct strings *folders, const char *path, size_t length, const char *below)
{
	char folder[PATH_MAX];

	if (length == 0)
		return 0;
	if (length + strlen(below) >= sizeof(folder)) {
		log_at(LOG_WARN,
		       "chip drivers are not looked for in a folder whose path has %zu bytes; at "
		       "most %zu are possible",
		       length + strlen(below), sizeof(folder) - 1);
		return 0;
	}
	memcpy(folder, path, length);
	strcpy(folder + length, below);
	return strings_add(folders, folder, strlen(folder));
}

/* Lists the folders in the order in which they are searched. */
static int folders_find(struct strings *folders)
{
	const char *list = variable_text(VARIABLE_CHIP_PATH);
	char own[PATH_MAX], *slash;
	int result = 0;
	Dl_info info;

	while (list && *list && result == 0) {
		size_t length = strcspn(list, ":");

		result = folder_add(folders, list, length, "");
		list += length + (list[length] == ':');
	}
	if (dladdr((const void *)folder_add, &info) && info.dli_fname &&
	    realpath(info.dli_fname, own)) {
		slash = strrchr(own, '/');
		if (slash && slash != own) {
			if (result == 0)
				result = folder_add(folders, own, (size_t)(slash - own), "");
			if (result == 0)
				result = folder_add(folders, own, (size_t)(slash - own),
						    "/distworker");
		}
	}
	if (result == 0)
		result = folder_add(folders, DW_DRIVER_DIR, strlen(DW_DRIVER_DIR), "");
	if (result < 0) {
		strings_release(folders);
		return error_set(result, "no memory to search for chip drivers");
	}
	return 0;
}

static void folders_describe(const struct strings *folders, char *text, size_t bytes)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < folders->count && used < bytes; i++)
		used += (size_t)text_format(text + used, bytes - used, "%s%s", i ? ", " : "",
					    folders->items[i]);
}

/* Writes the driver's path, or fails with the folders that were searched. */
static int driver_find(const char *name, char path[PATH_MAX])
{
	struct strings folders = { 0 };
	char searched[384];
	int result = name_check_driver("chip driver", name);

	if (result < 0)
		return result;
	if (strchr(name, '/')) {
		if (!realpath(name, path)) {
			int code = -errno;

			return error_set(code, "chip driver %s: %s", text_short(name),
					 strerror(-code));
		}
		return 0;
	}
	result = folders_find(&folders);
	if (result < 0)
		return result;
	result = -ENOENT;
	for (size_t i = 0; i < folders.count && result < 0; i++) {
		int length = snprintf(path, PATH_MAX, "%s/" DW_CHIP_DRIVER_PREFIX "%s" SUFFIX,
				      folders.items[i], name);

		if (length < PATH_MAX && access(path, F_OK) == 0)
			result = 0;
	}
	if (result < 0) {
		folders_describe(&folders, searched, sizeof(searched));
		error_set(result,
			  "chip driver \"%s\": no " DW_CHIP_DRIVER_PREFIX "%s" SUFFIX
			  " in %s (DW_CHIP_PATH adds folders)",
			  name, name, searched);
	}
	strings_release(&folders);
	return result;
}

/* Returns the name of a required member that is missing, or NULL. */
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
		return error_set(-ELIBBAD,
				 "chip driver %s: %s() gave NULL, a driver table is wanted",
				 text_short(driver->path), DW_CHIP_DRIVER_SYMBOL);
	/* These two lead the table in every version of the interface. */
	if (theirs->abi_version != DW_CHIP_ABI_VERSION)
		return error_set(
			-EPROTO,
			"chip driver %s speaks driver interface %u, this library (%s) speaks %u: "
			"build the driver against this library's distworker/chip.h",
			text_short(driver->path), theirs->abi_version, DW_VERSION,
			DW_CHIP_ABI_VERSION);
	if (theirs->size < offsetof(struct dw_chip_driver, name))
		return error_set(
			-ELIBBAD,
			"chip driver %s: its table says a size of %zu bytes, at least %zu are "
			"wanted: set .size = sizeof(struct dw_chip_driver)",
			text_short(driver->path), theirs->size,
			offsetof(struct dw_chip_driver, alloc));
	/* Members behind those that the library knows are never called. */
	bytes = theirs->size < sizeof(driver->table) ? theirs->size : sizeof(driver->table);
	memcpy(&driver->table, theirs, bytes);
	gap = table_gap(&driver->table);
	if (gap)
		return error_set(-ELIBBAD,
				 "chip driver %s has no %s in its table, which every driver needs",
				 text_short(driver->path), gap);
	return 0;
}

int chip_driver_load(const char *name, struct chip_driver *driver)
{
	dw_chip_driver_entry *entry;
	char why[LIBRARY_WHY_BYTES];
	void *handle, *symbol;
	int status;

	if (!name)
		return error_set(-EINVAL,
				 "no chip driver is named: give a name (\"sim\") or a path");
	memset(driver, 0, sizeof(*driver));
	status = driver_find(name, driver->path);
	if (status < 0)
		return status;
	handle = library_open(driver->path, RTLD_NOW | RTLD_LOCAL, why);
	if (!handle)
		return error_set(-ELIBBAD, "chip driver %s cannot be loaded: %s", text_short(name),
				 why);
	symbol = dlsym(handle, DW_CHIP_DRIVER_SYMBOL);
	if (!symbol) {
		status = error_set(-ELIBBAD, "%s is no chip driver: it does not export %s()",
				   text_short(driver->path), DW_CHIP_DRIVER_SYMBOL);
		dlclose(handle);
		return status;
	}
	/* POSIX's way from a data to a function pointer. */
	memcpy(&entry, &symbol, sizeof(entry));
	return table_check(entry(), driver);
}

/* The names of the drivers of one folder. */
static int list_folder(const char *path, struct strings *names)
{
	const size_t prefix = strlen(DW_CHIP_DRIVER_PREFIX), suffix = strlen(SUFFIX);
	DIR *folder = fd_open_folder(path);
	struct dirent *entry;
	int result = 0;

	while (folder && result == 0 && (entry = readdir(folder))) {
		size_t length = strlen(entry->d_name);

		/* No caller can ask for files with other names. */
		if (length > prefix + suffix && length - prefix - suffix <= NAME_DRIVER_MOST &&
		    strncmp(entry->d_name, DW_CHIP_DRIVER_PREFIX, prefix) == 0 &&
		    strcmp(entry->d_name + length - suffix, SUFFIX) == 0)
			result = strings_add(names, entry->d_name + prefix,
					     length - prefix - suffix);
	}
	if (folder)
		closedir(folder);
	return result;
}

int dw_chip_driver_list(char *names, size_t bytes)
{
	struct strings folders = { 0 }, found = { 0 };
	size_t used = 0;
	int result;

	if (!names || bytes == 0)
		return error_set(-EINVAL, "dw_chip_driver_list: no room for the names");
	result = folders_find(&folders);
	if (result < 0)
		return result;
	for (size_t i = 0; i < folders.count && result == 0; i++)
		result = list_folder(folders.items[i], &found);
	strings_release(&folders);
	if (result < 0)
		error_set(result, "no memory for the names of %zu chip drivers", found.count);
	strings_sort(&found);
	for (size_t i = 0; i < found.count; i++)
		used += strlen(found.items[i]) + 1;
	if (result == 0 && used > bytes)
		result = error_set(
			-ERANGE,
			"the names of %zu chip drivers take %zu bytes, there is room for %zu",
			found.count, used, bytes);
	if (result == 0) {
		names[0] = '\0';
		for (size_t i = 0; i < found.count; i++) {
			names = stpcpy(names, i ? "," : "");
			names = stpcpy(names, found.items[i]);
		}
	}
	strings_release(&found);
	return result;
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
		return error_set(-ENOMEM, "no memory to load chip driver %s", text_short(name));
	status = chip_driver_load(name, driver);
	if (status == 0) {
		text_fit(full.name, sizeof(full.name), driver->table.name);
		text_fit(full.version, sizeof(full.version),
			 driver->table.version ? driver->table.version : "");
		text_fit(full.path, sizeof(full.path), driver->path);
		options_write(info, &full, sizeof(full));
	}
	free(driver);
	return status;
}

/* Enumerates as many devices as there is room for, in structs of this library's size. */
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
		return error_set(-EINVAL, "dw_chip_enumerate: %s is NULL",
				 count ? "properties" : "count");
	status = options_check_size(size, "dw_chip_properties");
	if (status == 0)
		status = name_check("dw_chip_enumerate: options", options ? options : "",
				    NAME_DRIVER_OPTIONS_MOST);
	if (status < 0)
		return status;
	driver = malloc(sizeof(*driver));
	known = calloc(*count + 1, sizeof(*known));
	status = !driver || !known ?
			 error_set(-ENOMEM, "no memory to load chip driver %s", text_short(name)) :
			 chip_driver_load(name, driver);
	if (status == 0)
		status = enumerate(driver, options, known, *count, &found);
	for (size_t i = 0; status == 0 && i < *count && i < found; i++) {
		chip_fill_defaults(&known[i]);
		known[i].size = size;
		options_fill((char *)properties + i * size, size, &known[i], sizeof(known[i]));
	}
	if (status == 0)
		*count = found;
	free(known);
	free(driver);
	return status;
}
