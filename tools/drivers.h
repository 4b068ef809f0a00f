/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The chip drivers that can be found on this machine (distworker/chip.h): in
 * DW_CHIP_PATH, beside the library, and where they are installed. Main thread only; drivers are
 * loaded into this process, so no Worker may be forked from it afterwards.
 */
#ifndef TOOLS_DRIVERS_H
#define TOOLS_DRIVERS_H

#include <distworker/chip.h>
#include <limits.h>

#define DRIVERS_MAX 32

struct driver {
	char name[64];			/* of the file: libdistworker-chip-NAME.so */
	char path[PATH_MAX];
	const struct dw_chip_driver *table;	/* NULL: see error */
	size_t devices;
	char error[320];		/* why it or its devices cannot be used; "": nothing */
};

/* Fills up to DRIVERS_MAX, each name once, the first that was found; returns how many. */
size_t drivers_find(struct driver drivers[DRIVERS_MAX]);

#endif
