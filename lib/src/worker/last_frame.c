/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The end of the stack for exceptions: see last_frame.h. The Makefile has the flags of this file.
 */
#include "worker/last_frame.h"

int last_frame_call(int (*fn)(void *argument), void *argument)
{
	/* Not a tail call: this frame must exist during the call. */
	volatile int result = fn(argument);

	return result;
}
