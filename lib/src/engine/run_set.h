/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The runs of an engine: see run.h. Guarded by the engine's lock.
 */
#ifndef DW_ENGINE_RUN_SET_H
#define DW_ENGINE_RUN_SET_H

#include <stdbool.h>

struct dw_run;

struct run_set {
	struct dw_run *first;
	bool closing;			/* no new ones */
};

#endif
