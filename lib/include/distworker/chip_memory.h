/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Memory of chips, and copies to it and from it. A part of distworker.h, which has the conventions,
 * the table of threads and the limits, and includes this file.
 *
 * A tensor in device memory has an address that stands for memory of one chip: no process can
 * access it, and only tasks of that chip, and copies, may name it. A part of it is a tensor like
 * any other (dw_tensor_slice()); how a part has to be aligned is up to the driver.
 */
#ifndef DISTWORKER_CHIP_MEMORY_H
#define DISTWORKER_CHIP_MEMORY_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Device memory that outlives runs: for weights and caches. `id` is that of the chip among the
 * children of `worker` (dw_worker_chip_id(), DW_PLACE()); the bytes of the tensor are zeroed. It is
 * the caller's until dw_chip_memory_destroy(), and ends with the Worker at the latest. Any thread,
 * between init and close; waits for the tasks that the chip has been handed, and for the
 * replacement of a chip that has died.
 *
 * The Worker is one of this process: the root, a Worker below it whose parents' mode is DW_THREAD,
 * or, in an orchestration function, dw_orch_worker(). A nested Worker that is a process has the
 * memory of its chips to itself: give its tasks the address as a scalar, not as a tensor.
 *
 * Its contents are lost with the chip: when its process dies, or its device is lost. A task that
 * names it then is -EFAULT, with a text that says which memory, of which chip, and why; tasks that
 * were on their way fail in the same way. A replacement begins without memory: destroy what is
 * lost, create it again, and copy into it again.
 *
 * -EINVAL: `id` is no chip, or as dw_tensor_init(), or 0 bytes; -ENOTCONN: the Worker is not
 * initialised, is closed, or is a process of its own; -EOPNOTSUPP: the chip has no memory of its
 * own; -ENOMEM; -EOWNERDEAD: the chip has died, and is not replaced; -ETIMEDOUT: as
 * dw_chip_alloc(); otherwise the driver's error.
 */
DW_API int dw_chip_memory_create(struct dw_worker *worker, uint32_t id, int dtype,
				 const uint32_t *shape, uint32_t ndims, struct dw_tensor *tensor);
/*
 * Gives it back, lost or not: `tensor` is as create gave it. Any thread. No task may use it any
 * more, as with dw_buffer_destroy(); waits as create does. -ENOENT: this Worker has no such memory;
 * -ENOTCONN; -ETIMEDOUT: as dw_chip_alloc(), and the memory is gone with the chip, or is freed when
 * its thread returns; otherwise the driver's error, and the memory is still there.
 */
DW_API int dw_chip_memory_destroy(struct dw_worker *worker, const struct dw_tensor *tensor);

/*
 * Copies `from` to `to` as a task: after the tasks that write `from`, after those that read or
 * write `to`, and before the ones that are submitted later and use either. At least one of them
 * lies in device memory of this Worker's chips; the other there as well, or where the tensors of
 * tasks lie. They have the same number of bytes; shapes and types may differ. They do not overlap.
 *
 *   host → device, device → host, within a device   one task, on that chip
 *   device → device of another chip                 two tasks, through a block of the heap
 *
 * `to->data` 0: it is allocated from the heap, as with DW_OUTPUT. Options as those of dw_submit();
 * place is 0, and config is not used. A copy has a deadline, retries, a name and errors as any task
 * has, and is cancelled with its run; one that its driver does not return from is ended by its
 * deadline, by the run's, or 0.5 s after a cancel. *task is the (second) task. When the second task
 * cannot be submitted (-ENODEV, -EBUSY, -ENOMEM, -ECANCELED), the first one has been.
 *
 * -EINVAL: the sizes differ, are 0, overlap, or neither is device memory; -EFAULT: as dw_submit(),
 * or the memory is lost; else as dw_submit().
 */
DW_API int dw_submit_copy(struct dw_orch *orch, struct dw_tensor *to, const struct dw_tensor *from,
			  const struct dw_submit_options *options, dw_task *task);

/*
 * Device memory on one chip, for tensors that stay there; freed with the run at the latest.
 * -EINVAL: `worker` is no chip, or as dw_tensor_init(); -EOPNOTSUPP: the chip has no memory of its
 * own; -EOWNERDEAD; -ENOMEM; -ETIMEDOUT: the driver took longer than the Worker's timeout_ns (0:
 * its init_timeout_ns), and the chip's process was killed, or its thread goes on; after the run's
 * deadline or a cancel, the run's error; otherwise the driver's error.
 */
DW_API int dw_chip_alloc(struct dw_orch *orch, uint32_t worker, int dtype, const uint32_t *shape,
			 uint32_t ndims, struct dw_tensor *tensor);
/*
 * Frees the memory after the tasks that use it have ended; does not block. -ENOENT: this run has no
 * such allocation; -ENOMEM.
 */
DW_API int dw_chip_free(struct dw_orch *orch, const struct dw_tensor *tensor);

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_CHIP_MEMORY_H */
