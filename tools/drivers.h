/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The chip drivers that can be found on this machine, and their devices. Each is
 * asked in a process of its own: this one can still fork Workers afterwards, and a
 * vendor's library that crashes or hangs is a line of text. Main thread only.
 */
#ifndef TOOLS_DRIVERS_H
#define TOOLS_DRIVERS_H

#include <limits.h>
#include <stdbool.h>
#include <distworker/chip.h>

#define DRIVER_SECONDS 30		/* a driver that does not answer by then hangs */

struct driver {
	char name[PATH_MAX];		/* as it was asked for */
	bool loaded;			/* path and version are known */
	char path[256], version[32];	/* shortened by the library if need be */
	size_t devices;
	struct dw_chip_properties *properties;	/* of the first `known` devices */
	size_t known;
	int code;			/* 0, or -errno of what follows */
	char error[512];		/* why it or its devices cannot be used; "": nothing */
};

/* Asks one driver, a name or a path. `options` may be NULL. Release it with driver_release(). */
void driver_ask(const char *name, const char *options, struct driver *driver);
void driver_release(struct driver *driver);
/*
 * All that are found, asked: *drivers is for drivers_release(), with the count. 0 or -errno of the
 * library.
 */
int drivers_find(struct driver **drivers, size_t *count);
void drivers_release(struct driver *drivers, size_t count);
/*
 * How many devices a driver has with these options; 0: it cannot tell. Remembers the last answers.
 */
size_t driver_devices(const char *name, const char *options);

#endif
