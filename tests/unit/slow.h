/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* How many times slower than others this machine is: UNIT_SLOW in the environment, for kernels that watch themselves. */
#ifndef SLOW_H
#define SLOW_H

#include <stdlib.h>

static inline unsigned unit_slow(void)
{
	const char *slow = getenv("UNIT_SLOW");

	return slow && atoi(slow) > 0 ? (unsigned)atoi(slow) : 1;
}

#endif
