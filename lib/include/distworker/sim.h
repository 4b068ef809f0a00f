/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The interface for images of the `sim` driver. An image is an ELF
 * shared object made by any C compiler (`distworker image sim` calls one). It
 * exports kernels, which run on the simulated cores, and may export
 * orchestrations, which run on the chip and submit kernels as a task graph.
 * Nothing of the library is linked.
 */
#ifndef DISTWORKER_SIM_H
#define DISTWORKER_SIM_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The view of a simulated core while it runs one block of a kernel. */
struct dw_sim_block {
	uint32_t index;		/* of this block, 0 … dim - 1 */
	uint32_t dim;		/* block_dim of the call */
	uint32_t core;		/* the simulated core that runs it */
	uint32_t reserved;
	/* Non-zero when the task was cancelled: a long kernel may look, and return -ECANCELED. */
	const volatile uint32_t *cancelled;
	/* Sets the text of the error that the kernel is about to return; returns -error. */
	int (*fail)(const struct dw_sim_block *block, int error, const char *format, ...)
		__attribute__((format(printf, 3, 4)));
	void *driver;		/* the driver's own */
};

/*
 * A kernel: called once per block, on up to block_dim cores at the same time and
 * in no order that a kernel may rely on: a block must not wait for another, nor write what
 * another touches. Results then are the same bits however many cores run it.
 * `tensors` have addresses in device memory; OUT tensors have no defined content
 * and every byte of them must be written. Returns 0, or -errno, which fails the task
 * (of several blocks that fail the lowest index counts).
 */
typedef int dw_sim_kernel(const struct dw_sim_block *block, const struct dw_tensor *tensors,
			  const uint64_t *scalars);

/* ------------------------------------------------- on-chip orchestration */

/* A kernel that an orchestration submits. Of any size (chip.h, "Sizes"): missing fields are 0. */
struct dw_sim_launch {
	size_t size;
	dw_sim_kernel *kernel;		/* of the same image */
	const char *name;		/* for messages; NULL: its symbol */
	/* device addresses; 0 with DW_OUTPUT: allocated and filled in */
	struct dw_tensor *tensors;
	const enum dw_tag *tags;	/* one per tensor; meaning as in dw_submit() */
	size_t tensor_count;
	const uint64_t *scalars;
	size_t scalar_count;
	uint32_t block_dim;		/* 0: as the call's config */
	uint32_t reserved;
	const uint64_t *after;		/* tasks to wait for, beside those that the tags say */
	size_t after_count;
};

/*
 * The on-chip orchestrator. Called from the orchestration function only; the
 * calls return 0 or -errno (a text is set), outputs last. Tensors are those of the call,
 * views into them, and memory of alloc; anything else is -EFAULT.
 * Tasks run on up to aicpu_thread_num scheduler threads while the function goes
 * on, and all have ended when the call ends. After the first failure nothing new starts, and
 * submit returns -ECANCELED.
 */
struct dw_sim_orch {
	size_t size;
	struct dw_config config;	/* of the call */
	const volatile uint32_t *cancelled;
	void *driver;			/* the driver's own */

	/* `task` may be NULL; ids count from 1. */
	int (*submit)(struct dw_sim_orch *orch, const struct dw_sim_launch *launch, uint64_t *task);
	/* Device memory, undefined content, until the scope has ended and its last user is done. */
	int (*alloc)(struct dw_sim_orch *orch, int dtype, const uint32_t *shape, uint32_t ndims,
		     struct dw_tensor *tensor);
	int (*scope_begin)(struct dw_sim_orch *orch);	/* up to 64 deep */
	int (*scope_end)(struct dw_sim_orch *orch);	/* does not block */
	/*
	 * Waits for everything that was submitted: results may then be read here. First error, or
	 * 0.
	 */
	int (*wait)(struct dw_sim_orch *orch);
	int (*fail)(struct dw_sim_orch *orch, int error, const char *format, ...)
		__attribute__((format(printf, 3, 4)));
};

/* An orchestration. Returns 0 or -errno, which fails the call. */
typedef int dw_sim_orchestration(struct dw_sim_orch *orch, const struct dw_tensor *tensors,
				 size_t tensor_count, const uint64_t *scalars, size_t scalar_count);

/* ------------------------------------------------------ describing entries */

#define DW_SIM_ABI 1
enum dw_sim_entry_kind { DW_SIM_ENTRY_KERNEL = 1, DW_SIM_ENTRY_ORCHESTRATION = 2 };

/*
 * Describes the exported function NAME; exported as dw_sim_entry_NAME. A kernel
 * without one is fine where the signature is given at registration; an
 * orchestration needs one. Of any size from the first three fields on (chip.h, "Sizes").
 */
struct dw_sim_entry {
	uint32_t size;
	uint32_t abi;			/* DW_SIM_ABI */
	uint32_t kind;			/* enum dw_sim_entry_kind */
	uint32_t signature_count;
	const int32_t *signature;	/* enum dw_direction, tensors first */
};

#define DW_SIM_EXPORT __attribute__((visibility("default")))
#ifdef __cplusplus
#define DW_SIM_EXTERN extern "C"
#else
#define DW_SIM_EXTERN extern
#endif
#define DW_SIM_ENTRY(name, entry_kind, ...) \
	static const int32_t dw_sim_signature_##name[] = { __VA_ARGS__ }; \
	DW_SIM_EXTERN DW_SIM_EXPORT const struct dw_sim_entry dw_sim_entry_##name; \
	const struct dw_sim_entry dw_sim_entry_##name = { \
		sizeof(struct dw_sim_entry), DW_SIM_ABI, entry_kind, \
		sizeof(dw_sim_signature_##name) / sizeof(int32_t), dw_sim_signature_##name }
/*
 * Before the function:
 *     DW_SIM_KERNEL(vector_add, DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT);
 *     int vector_add(const struct dw_sim_block *block, …) { … }
 */
#define DW_SIM_KERNEL(name, ...) \
	DW_SIM_ENTRY(name, DW_SIM_ENTRY_KERNEL, __VA_ARGS__); \
	DW_SIM_EXTERN DW_SIM_EXPORT dw_sim_kernel name
#define DW_SIM_ORCHESTRATION(name, ...) \
	DW_SIM_ENTRY(name, DW_SIM_ENTRY_ORCHESTRATION, __VA_ARGS__); \
	DW_SIM_EXTERN DW_SIM_EXPORT dw_sim_orchestration name

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_SIM_H */
