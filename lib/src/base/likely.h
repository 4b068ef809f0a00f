/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Which way a condition usually goes, for the layout of the code.
 */
#ifndef DW_BASE_LIKELY_H
#define DW_BASE_LIKELY_H

#define LIKELY(x)	__builtin_expect(!!(x), 1)
#define UNLIKELY(x)	__builtin_expect(!!(x), 0)

#endif
