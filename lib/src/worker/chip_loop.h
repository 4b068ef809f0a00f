/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The loop of a chip worker: one thread that waits for its mailbox and its
 * chip at once, and stages the next task while the chip works.
 */
#ifndef DW_WORKER_CHIP_LOOP_H
#define DW_WORKER_CHIP_LOOP_H

#include "worker/worker.h"

struct chip;

/* Opens the device and loads the images that are registered for its driver. */
int chip_start(struct child *child, struct chip **chip);
/* 0 when it was told to stop; the device's error when that is out of order, which the parent knows then. */
int chip_serve(struct child *child, uint32_t generation, struct endpoint *endpoint,
	       struct chip *chip);
void chip_stop(struct chip *chip);
/* A callable that is registered or unregistered later; those of other drivers are none of this chip's business. */
int chip_add_callable(struct child *child, struct chip *chip, const struct callable *callable);
void chip_remove_callable(struct chip *chip, dw_callable handle);

#endif
