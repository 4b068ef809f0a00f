// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Finds chip drivers, and asks each for its devices.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "drivers.h"
#include "tool.h"

static void ask(struct driver *driver)
{
	struct dw_chip_error error = { "" };
	dw_chip_driver_entry *entry;
	void *handle = dlopen(driver->path, RTLD_NOW | RTLD_LOCAL);
	void *symbol = handle ? dlsym(handle, DW_CHIP_DRIVER_SYMBOL) : NULL;
	int err;

	if (!handle) {
		snprintf(driver->error, sizeof(driver->error), "%s", dlerror());
		return;
	}
	if (!symbol) {
		snprintf(driver->error, sizeof(driver->error), "it does not export %s",
			 DW_CHIP_DRIVER_SYMBOL);
		return;
	}
	memcpy(&entry, &symbol, sizeof(entry));
	driver->table = entry();
	if (!driver->table || driver->table->abi_version != DW_CHIP_ABI_VERSION) {
		snprintf(driver->error, sizeof(driver->error),
			 "it was built for version %u of distworker/chip.h, wanted is %d",
			 driver->table ? driver->table->abi_version : 0, DW_CHIP_ABI_VERSION);
		driver->table = NULL;
		return;
	}
	err = driver->table->enumerate(NULL, NULL, &driver->devices, &error);
	if (err)
		snprintf(driver->error, sizeof(driver->error), "no devices: %s",
			 error.text[0] ? error.text : strerror(-err));
}

static size_t find_in(const char *folder, struct driver *drivers, size_t count)
{
	const size_t prefix = strlen(DW_CHIP_DRIVER_PREFIX);
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t length = strlen(entry->d_name);
		struct driver *driver = &drivers[count];
		bool known = false;

		if (length <= prefix + 3 || length - prefix - 3 >= sizeof(driver->name) ||
		    strncmp(entry->d_name, DW_CHIP_DRIVER_PREFIX, prefix) ||
		    strcmp(entry->d_name + length - 3, ".so") || count == DRIVERS_MAX)
			continue;
		memset(driver, 0, sizeof(*driver));
		memcpy(driver->name, entry->d_name + prefix, length - prefix - 3);
		for (size_t i = 0; i < count && !known; i++)
			known = !strcmp(drivers[i].name, driver->name);
		if (known || snprintf(driver->path, sizeof(driver->path), "%s/%s", folder,
				      entry->d_name) >= (int)sizeof(driver->path))
			continue;
		ask(driver);
		count++;
	}
	if (dir)
		closedir(dir);
	return count;
}

size_t drivers_find(struct driver drivers[DRIVERS_MAX])
{
	const char *path = getenv("DW_CHIP_PATH");
	char folder[PATH_MAX];
	size_t count = 0;
	Dl_info library;

	while (path && *path) {
		size_t length = strcspn(path, ":");

		snprintf(folder, sizeof(folder), "%.*s", (int)length, path);
		if (length)
			count = find_in(folder, drivers, count);
		path += length + (path[length] == ':');
	}
	if (dladdr((const void *)(uintptr_t)dw_version, &library) &&
	    strchr(library.dli_fname, '/')) {
		snprintf(folder, sizeof(folder), "%s", library.dli_fname);
		*strrchr(folder, '/') = '\0';
		count = find_in(folder, drivers, count);
	}
	return find_in(DW_DRIVER_DIR, drivers, count);
}
