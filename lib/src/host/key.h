/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * key: where the key of a tree's hosts comes from: a file, standard input, a launcher, or the node
 * that this process belongs to.
 *
 * Owns: the key of this process, if it has one, which forked processes inherit. Set by the thread
 * that makes a node of the process, before it forks; read by any thread.
 */
#ifndef DW_HOST_KEY_H
#define DW_HOST_KEY_H

#include <stddef.h>
#include "host/secret.h"

/* As many bytes as a code has are enough; fewer than 16 can be guessed. */
#define KEY_LEAST 16
#define KEY_MOST 4096

/*
 * The key in a file: its bytes, without the newlines at its end. "-": the first line of standard
 * input. -EACCES: another user may read or write the file; -EINVAL: too short or too long; the
 * errors of open(); with a text.
 */
int key_read(const char *path, struct secret **secret);
/* Makes these bytes the key of this process, or returns -EINVAL if they are too few or too many. */
int key_keep_file(const char *path);
int key_keep(const void *key, size_t bytes);
/* The bytes of this process's key, and in *count how many; 0: it has none. */
const void *key_kept(size_t *count);
/*
 * The key in the file, or without a path this process's, or the one in the file that DW_HOST_KEY
 * names. -ENOKEY with a text: there is none.
 */
int key_find(const char *path, struct secret **secret);

#endif
