/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The limits of names, as the head of distworker.h lists them: bytes without the NUL. Each call
 * checks the names that it is given, and keeps them whole. No state, any thread.
 */
#ifndef DW_TASK_NAME_H
#define DW_TASK_NAME_H

#include <stddef.h>

#define NAME_WORKER_MOST 47
#define NAME_FUNCTION_MOST 255
#define NAME_TASK_MOST 255
#define NAME_ENTRY_MOST 255
#define NAME_SYMBOL_MOST 4095		/* of the symbol alone, without its file */
#define NAME_PATH_MOST 4095
#define NAME_DRIVER_MOST 31		/* not a path */
#define NAME_DRIVER_OPTIONS_MOST 65535

/* 0; -ENAMETOOLONG: `name` has more than `most` bytes; the text calls it `what`. */
int name_check(const char *what, const char *name, size_t most);
/*
 * A chip driver: a name or a path, not empty. -EINVAL, -ENAMETOOLONG; the text begins with `where`.
 */
int name_check_driver(const char *where, const char *driver);

#endif
