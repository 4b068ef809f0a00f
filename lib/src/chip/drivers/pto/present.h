/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The present interface, in six files: present.c (context, images), present_args.c (the structs
 * of a run), present_memory.c (device memory), present_places.c (tensors that have a place there),
 * present_run.c (synchronous runs, and contexts that take no run any more), present_pipeline.c (the
 * next run is prepared while one is under way).
 *
 * The runtime takes one call at a time per context. All come from the thread that opened the
 * device, but for simpler_wait_run() of the pipeline, during which that thread makes none.
 */
#ifndef DW_CHIP_PTO_PRESENT_H
#define DW_CHIP_PTO_PRESENT_H

#include "internal.h"
#include "present_layout.h"

struct present_functions {
	const struct present_contract *(*get_pipeline_contract)(void);
	void *(*create_device_context)(void);
	void (*destroy_device_context)(void *context);
	size_t (*get_runtime_size)(void);
	size_t (*get_runtime_alignment)(void);
	int (*init)(void *context, int device, const void *aicpu, size_t aicpu_bytes,
		    const void *aicore, size_t aicore_bytes, const void *dispatcher,
		    size_t dispatcher_bytes, const struct present_config *prewarm);
	int (*register_callable)(void *context, int32_t id, const void *callable);
	int (*unregister_callable)(void *context, int32_t id);
	int (*run)(void *context, void *storage, int32_t id, const struct present_args *args,
		   const struct present_config *config,
		   const struct present_descriptor *descriptor);
	int (*prepare)(void *context, void *storage, int32_t id, const struct present_args *args,
		       const struct present_config *config,
		       const struct present_descriptor *descriptor);
	int (*launch)(void *context, void *storage);
	int (*poll)(void *context, void *storage);
	int (*wait)(void *context, void *storage);
	int (*finalize)(void *context, void *storage);
	int (*supports_concurrent_prepare)(void *context);
	void *(*malloc)(void *context, size_t bytes);
	void (*free)(void *context, void *memory);
	int (*copy_to)(void *context, void *to, const void *host, size_t bytes);
	int (*copy_from)(void *context, void *host, const void *from, size_t bytes);
	int (*finalize_device)(void *context);
};

/* Memory of the runtime for one run at a time. */
struct present_storage {
	void *memory;
	void *map;
	size_t map_bytes;
	uint64_t generation;		/* of the runs in it */
};

/*
 * A block of device memory, which tensors name by addresses from `handle` on. Those for places
 * outlive a context, without memory and contents. One that is freed while another thread is in the
 * runtime stays until that is over.
 */
struct present_block {
	uint64_t handle, bytes;
	char *device;			/* NULL: it went with a context */
	bool for_places;
	bool stale;			/* for places: its contents went with a context */
	bool freed;
};

struct present {
	struct present_functions host;
	size_t (*committed_memory)(void *context);	/* NULL: the library has none */
	void *context;
	bool initialized;		/* simpler_init() has succeeded */
	bool pipelined;			/* the library prepares a run beside another */
	bool suspect;			/* a run failed: the context may take none any more */
	bool told;			/* noted once: block_dim has no effect */
	uint64_t ids;			/* bits: ids of callables in use */
	struct dw_chip_image *images;
	size_t storage_bytes;
	struct present_storage storages[PRESENT_DEPTH_MAX];
	uint64_t runs;
	struct present_block *blocks;	/* sorted by handle */
	size_t block_count, block_space;
	size_t freed_count;		/* of the blocks */
	uint64_t memory_used;		/* as last asked for */
	struct present_pipeline *pipeline;	/* NULL: runs are synchronous */
	char output[PRESENT_OUTPUT_BYTES];
	struct present_config config;
	struct present_descriptor descriptor;
	struct present_args args;
};

static inline struct present *present_of(const struct dw_chip_device *device)
{
	return device->state;
}

/* present.c */
/*
 * Replaces a context that refuses all further runs by a new one with all images. -ENODEV if that
 * fails, or if blocks of device memory would be lost.
 */
int present_reopen(struct dw_chip_device *device, struct dw_chip_error *error);

/* present_args.c */
/*
 * Fills args, config and descriptor of the device for a call that runs in `storage`; blocks in
 * which it has places have memory then.
 */
int present_fill(struct dw_chip_device *device, const struct dw_chip_call *call,
		 unsigned int storage, struct dw_chip_error *error);
/* Call it after a call was started: remarks once that block_dim in its config has no effect. */
void present_remark(struct dw_chip_device *device, const struct dw_chip_call *call,
		    struct dw_chip_error *error);

/* present_memory.c */
int present_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		  struct dw_chip_error *error);
/* For places: never waits for another thread; -EBUSY if it would have to. */
int present_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		    struct dw_chip_error *error);
int present_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error);
int present_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host,
		    uint64_t bytes, struct dw_chip_error *error);
int present_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error);
uint64_t present_memory_used(struct dw_chip_device *device);
struct present_block *present_block_search(const struct present *present, uint64_t address);
/* The block in which the address lies, or NULL. */
static inline struct present_block *present_block_at(const struct present *present,
						     uint64_t address)
{
	return present->block_count ? present_block_search(present, address) : NULL;
}
/* Gets memory for a block that has none. */
int present_block_renew(struct dw_chip_device *device, struct present_block *block,
			struct dw_chip_error *error);
bool present_resident(const struct dw_chip_device *device, uint64_t address);
/* Counts blocks that are not for places: their contents cannot be restored. */
size_t present_blocks_owned(const struct present *present);
/* Before a context ends: blocks for places stay, without memory. */
void present_memory_leave(struct present *present);
/* Before the device is closed: no block stays. */
void present_memory_forget(struct present *present);

/* present_places.c */
/* The place that the library has chosen for a tensor, or NULL. */
static inline const struct dw_chip_place *present_place(const struct dw_chip_call *call, size_t i)
{
	const struct dw_chip_place *place;

	if (!call->places)
		return NULL;
	place = (const void *)((const char *)call->places + i * call->places->size);
	return place->handle ? place : NULL;
}
/*
 * Everything before a run: present_fill(), and the copies to its places. Negative: the run is
 * refused. *code: the code that a copy returned.
 */
int present_stage(struct dw_chip_device *device, const struct dw_chip_call *call,
		  unsigned int storage, int *code, struct dw_chip_error *error);
/* Copies back after a run that succeeded. Returns the code of the first copy that failed, or 0. */
int present_unstage(struct dw_chip_device *device, const struct dw_chip_call *call);
/*
 * Must `later` wait until `earlier` has ended? To prepare it, the runtime may copy its inputs from
 * the host, and the driver copies those of its places.
 */
bool present_depends(const struct dw_chip_device *device, const struct dw_chip_call *later,
		     const struct dw_chip_call *earlier);

/* present_run.c */
int present_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		struct dw_chip_error *error);
/*
 * Stages the call and prepares it in `storage`. With `may_reopen`, a context that refuses runs
 * after a failure is replaced.
 */
int present_prepare(struct dw_chip_device *device, const struct dw_chip_call *call,
		    unsigned int storage, bool may_reopen, struct dw_chip_error *error);

/* present_pipeline.c */
int present_pipeline_create(struct dw_chip_device *device, struct dw_chip_error *error);
/*
 * Waits for the run under way, and finalizes and forgets all runs: the device is about to be
 * closed.
 */
void present_pipeline_drop(struct dw_chip_device *device);
void present_pipeline_destroy(struct dw_chip_device *device);
/*
 * Waits until no other thread is in the runtime. Needed before every call of the runtime that does
 * not belong to a run.
 */
void present_quiesce(struct present *present);
/* Is another thread in the runtime? */
bool present_waits(const struct present *present);
int present_completion_fd(struct dw_chip_device *device);
int present_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error);
int present_collect(struct dw_chip_device *device, struct dw_chip_completion *completion);

#endif
