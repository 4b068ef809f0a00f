/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * queue: the asynchronous form of a device (option async=1): its calls, and the thread that runs
 * them. queue.c has the rules.
 */
#ifndef DW_CHIP_SIM_QUEUE_H
#define DW_CHIP_SIM_QUEUE_H

#include "internal.h"

struct queue;
int queue_create(struct dw_chip_device *device, uint32_t depth, struct queue **queue,
		 struct dw_chip_error *error);
void queue_destroy(struct queue *queue);
int queue_fd(const struct queue *queue);
int queue_submit(struct queue *queue, const struct dw_chip_call *call, struct dw_chip_error *error);
int queue_collect(struct queue *queue, struct dw_chip_completion *completion);
/* Waits until no call in flight uses device memory in [address, address + bytes). */
void queue_leave(struct queue *queue, uint64_t address, uint64_t bytes);
/* Waits until every call in flight has run (not: was collected). */
void queue_drain(struct queue *queue);

#endif
