/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * control: frames of kind FRAME_CONTROL, which tell the tree of callables after init. They pass
 * through the same rings as tasks, so a task that is submitted after a registration finds it done.
 *
 * Owns: the format of these frames. Any thread; takes worker->lock and the engine's for moments.
 */
#ifndef DW_WORKER_CONTROL_H
#define DW_WORKER_CONTROL_H

#include <stddef.h>
#include <stdint.h>
#include <distworker/distworker.h>

struct callable;
struct child;
struct dw_worker;

enum control_code { CONTROL_REGISTER = 1, CONTROL_UNREGISTER = 2 };

/* Sends to every READY child that is concerned. Returns the first error, with the child's path. */
int control_broadcast(struct dw_worker *worker, uint64_t code, const void *blob, uint32_t bytes);
/* The same with a deadline: -ETIMEDOUT; children that have not answered will still be told. */
int control_broadcast_until(struct dw_worker *worker, uint64_t code, const void *blob,
			    uint32_t bytes, uint64_t deadline_ns);
/* Announces callables that were registered after init to a replacement; does not wait for it. */
int control_replay(struct child *child);
/* A callable as the blob of CONTROL_REGISTER; free() it. */
int control_encode(const struct callable *callable, void **blob, uint32_t *bytes);

/*
 * Between hosts: the owner of the callable of a CONTROL_REGISTER, and the contents of its image,
 * which lie at the address in it; `bytes` is 0 if it is no image.
 */
uint64_t control_owner(const void *blob);
void control_set_owner(void *blob, uint64_t owner);
void *control_image(const void *blob, uint64_t *bytes);
/* Of a symbol: the path of its file; NULL: it is none. */
const char *control_object(const void *blob);
/* -EBADMSG with a text: the blob does not belong to a CONTROL_REGISTER. */
int control_check(const void *blob, size_t bytes);

/* The callable of a CONTROL_REGISTER; its texts stay in the blob. */
void control_decode(const void *blob, struct callable *callable);
/* In the child: adds it to the table. */
int control_register(const void *blob, struct callable *callable);
/* The handle of a CONTROL_UNREGISTER, which is retired here. */
dw_callable control_unregister(const void *blob);
int control_unknown(uint64_t code);

#endif
