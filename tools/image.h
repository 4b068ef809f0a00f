/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * distworker image: one file per driver. Main thread only.
 */
#ifndef TOOLS_IMAGE_H
#define TOOLS_IMAGE_H

/* argv[0] is "distworker image DRIVER". Each returns a tool_exit. */
int image_sim(int argc, char **argv);
int image_pto(int argc, char **argv);
/* Prints what entries a sim image has. 0, or -errno when it is no image: then nothing. */
int image_sim_entries(const char *path);

#endif
