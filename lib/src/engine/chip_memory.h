/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Tensors that stay on a chip: dw_chip_alloc() and dw_chip_free(). With the engine's lock, but for the check.
 */
#ifndef DW_ENGINE_CHIP_MEMORY_H
#define DW_ENGINE_CHIP_MEMORY_H

#include "engine/run.h"
#include "engine/task.h"

bool chip_memory_is_control(const struct callable *callable);
int chip_memory_check(struct dw_orch *orch, uint64_t begin, uint64_t bytes, uint32_t worker,
		      size_t index);
void chip_memory_freed(struct engine *engine, const struct task *task);
void chip_memory_run_ended(struct engine *engine, const struct dw_run *run);
void chip_memory_destroy(struct engine *engine);

#endif
