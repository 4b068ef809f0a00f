// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* The version, which comes from the file VERSION through the Makefile. */
#include <distworker/distworker.h>

const char *dw_version(void)
{
	return DW_VERSION;
}
