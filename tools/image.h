/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * distworker image: one file per driver. Main thread only.
 */
#ifndef TOOLS_IMAGE_H
#define TOOLS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

/* argv[0] is "distworker image DRIVER". Each returns a tool_exit. */
int image_sim(int argc, char **argv);
int image_pto(int argc, char **argv);
/* Prints the entries of a sim image. 0; or -errno, and nothing is printed, when it is no image. */
int image_sim_entries(const char *path);
/* Whether a sim image describes an entry that it does not export; *entry is its name then. */
bool image_sim_lacks(const char *path, char *entry, size_t bytes);

#endif
