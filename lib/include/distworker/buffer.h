/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Buffers: shared memory of a tree. A part of distworker.h, which has the conventions, the table of
 * threads and the limits, and includes this file.
 */
#ifndef DISTWORKER_BUFFER_H
#define DISTWORKER_BUFFER_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Memory of the tree's arena, at one address in this process and all its
 * descendants; zeroed. Before or after init; outlives runs. Tensors that are
 * arguments must lie in a buffer, in memory of dw_alloc(), or in registered memory.
 * -ENOMEM names the arena's size and use; -EINVAL: 0 bytes, or, of all calls here, a child Worker
 * (buffers are the root's).
 */
DW_API int dw_buffer_create(struct dw_worker *worker, uint64_t bytes, void **address);

struct dw_buffer_options {
	size_t size;
	uint64_t bytes;
	uint32_t flags;			/* DW_BUFFER_* */
	uint32_t reserved;		/* 0 */
};
/*
 * Host code promises to touch the buffer through dw_buffer_write() and dw_buffer_read() alone, and
 * tasks to say in their tags what they read and write there. Devices with memory of their own then
 * keep their copies of it from one run to the next, over waits as well: weights and caches are
 * copied to them once. A tensor with DW_NO_DEP there is refused at submit.
 */
#define DW_BUFFER_KEPT (1u << 0)
/* As dw_buffer_create(). -EINVAL also: unknown flags; -ENOMEM. */
DW_API int dw_buffer_create_with(struct dw_worker *worker, const struct dw_buffer_options *options,
				 void **address);
/*
 * Copies `bytes` bytes of host memory into a buffer, or out of it; kept or not. The calls do not
 * wait: -EBUSY while a task that has not ended uses (read: writes) bytes of the range; nothing is
 * copied then. The caller submits no task that uses the range while the call lasts. -EFAULT: the
 * range does not lie in the tree's memory.
 */
DW_API int dw_buffer_write(struct dw_worker *worker, void *to, const void *from, uint64_t bytes);
DW_API int dw_buffer_read(struct dw_worker *worker, void *to, const void *from, uint64_t bytes);
/*
 * Takes effect at once: no task may use the buffer any more. -ENOENT: no buffer has this address.
 */
DW_API int dw_buffer_destroy(struct dw_worker *worker, void *address);
/*
 * Memory that the user mapped MAP_SHARED before init. -EBUSY after init; -EINVAL: it is not mapped
 * so.
 */
DW_API int dw_buffer_register(struct dw_worker *worker, void *address, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* DISTWORKER_BUFFER_H */
