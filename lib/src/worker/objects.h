/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * objects: shared objects that travel to a node: read at home by the gateway, and kept there in the
 * folder that dw_node_options.objects names, under their identity, for all trees to come.
 *
 * Invariant: a file in the folder is there in whole, and is the one that its name says: it is
 * written under another name, looked at, and renamed. Owns nothing. Any thread, any process.
 */
#ifndef DW_WORKER_OBJECTS_H
#define DW_WORKER_OBJECTS_H

#include <limits.h>
#include <stddef.h>

struct callable;
struct pack;

/* Is it a folder of this user alone? -errno with a text: whoever can write into it runs code. */
int objects_check(const char *folder);
/* The file of a symbol, for a message. -EFBIG: it is too long for one; -errno with a text. */
int objects_read(const char *path, struct pack *file);
/* Where the object of a symbol lies in the folder, or would. -ENAMETOOLONG with a text. */
int objects_place(const char *folder, const struct callable *symbol, char path[PATH_MAX]);
/*
 * Puts the file that has arrived there. -ESTALE: it is another one than was registered; -errno with
 * a text: it cannot be written.
 */
int objects_keep(const char *path, const struct callable *symbol, const void *file, size_t bytes);

#endif
