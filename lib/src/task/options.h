/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * How the structs of the public interface grow. A struct that a program passes begins with its
 * size, as the program was compiled; the library may know fewer fields or more. A field that is not
 * there reads as zero, and zero is the default of every field. No state, any thread. Drivers
 * link nothing of the library: chip/driver_kit.h has the same rules for them.
 */
#ifndef DW_TASK_OPTIONS_H
#define DW_TASK_OPTIONS_H

#include <stddef.h>

/* No struct comes near: a larger size was never set, and reading that far could fault. */
#define OPTIONS_SIZE_MAX 4096

/*
 * Can a program's struct `name` have `given` bytes? -EINVAL: fewer than the size field itself;
 * -E2BIG: more than OPTIONS_SIZE_MAX.
 */
int options_check_size(size_t given, const char *name);

/*
 * Reads a program's struct of `given` bytes into the library's, of `known` bytes. Missing bytes
 * become zero. Errors as above; -E2BIG also when a byte behind the known ones is not zero: it asks
 * for something that this library cannot do.
 */
int options_copy(void *to, size_t known, const void *from, size_t given, const char *name);

/*
 * The same of a struct that begins with its size; -EINVAL when `from` is NULL. The result has the
 * known size.
 */
int options_read(void *to, size_t known, const void *from, const char *name);

/*
 * The other direction: fills a program's struct of `given` bytes, which options_check_size() has
 * passed. Bytes that the library does not know become zero.
 */
void options_fill(void *to, size_t given, const void *from, size_t known);

/* Can `to` be filled? It begins with its size. Errors as options_check_size(), -EINVAL for NULL. */
int options_check_output(const void *to, const char *name);
/* Fills `to`, which options_check_output() has passed; its size does not change. */
void options_write(void *to, const void *from, size_t known);

#endif
