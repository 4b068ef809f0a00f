/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * sim: a simulated chip with the structure of a real one: device memory apart
 * from host memory (memory.c), images (image.c), cores (pool.c), an on-chip
 * scheduler for task graphs (graph.c, depend.c), calls that copy in, run and copy back
 * (call.c), a queue with its own thread for option async=1 (queue.c), faults on
 * demand (fault.c), and the table (driver.c).
 *
 * Threads. The chip worker's thread makes the driver's calls. With async=0 (the
 * default) it runs the calls itself, and is core 0; with async=1 the device thread does.
 * Helpers of the pool run blocks and tasks beside it, and sleep otherwise.
 * Nothing here polls or sleeps on a timer, the faults included.
 *
 * Locks, in this order: queue, graph, memory. The pool's lock is a leaf.
 */
#ifndef DW_CHIP_SIM_INTERNAL_H
#define DW_CHIP_SIM_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <distworker/sim.h>
#include "base/clock.h"
#include "chip/driver_kit.h"
#include "fault.h"

/* ------------------------------------------------------------------ memory */

#define SIM_ALIGN 64
#define SIM_GUARD (1ull << 20)	/* no access, before and behind the device's memory */

struct extent {
	uint64_t offset, bytes;
	bool used;
	struct extent *previous, *next;		/* by address */
	struct extent *free_previous, *free_next;
};

struct memory {
	pthread_mutex_t lock;
	uint8_t *map;			/* with the guards */
	uint8_t *base;
	uint64_t bytes, used;
	/* fill allocated memory, to show reads of bytes that were never written */
	bool poison;
	struct extent *first, *free, *spare;
};

int memory_create(struct memory *memory, uint64_t bytes, bool poison, struct dw_chip_error *error);
void memory_destroy(struct memory *memory);
/* NULL: no room. */
struct extent *memory_alloc(struct memory *memory, uint64_t bytes);
void memory_free(struct memory *memory, struct extent *extent);
uint64_t memory_used(struct memory *memory);
static inline uint64_t memory_address(const struct memory *memory, const struct extent *extent)
{
	return (uint64_t)(uintptr_t)memory->base + extent->offset;
}
static inline bool memory_contains(const struct memory *memory, uint64_t address, uint64_t bytes)
{
	uint64_t base = (uint64_t)(uintptr_t)memory->base;

	return address < base + memory->bytes && address + bytes > base;
}

/* Device-resident ranges, sorted by handle. Touched by the chip worker's thread only. */
struct resident {
	uint64_t handle, bytes;
	struct extent *extent;
};

/* -------------------------------------------------------------------- pool */

typedef void pool_work(void *context);

/* Helper threads, started when they are first wanted. */
struct pool {
	pthread_mutex_t lock;
	pthread_cond_t wanted_some;	/* helpers sleep here */
	pthread_cond_t all_left;	/* pool_finish() does */
	uint32_t limit;			/* threads that may exist */
	uint32_t started;
	uint32_t wanted;		/* helpers that are still wanted */
	uint32_t active;		/* helpers that are in `work` */
	bool stop;
	pool_work *work;
	void *context;
	pthread_t *threads;
};

/* Less work than this is not worth waking another CPU, which alone costs some 40 µs. */
#define POOL_WORTH_NS 60000

int pool_create(struct pool *pool, uint32_t limit, struct dw_chip_error *error);
void pool_destroy(struct pool *pool);
/* Asks `helpers` threads to call work(context). Does not wait. */
void pool_start(struct pool *pool, pool_work *work, void *context, uint32_t helpers);
/* Lets no more helpers in, and waits for those that are in. */
void pool_finish(struct pool *pool);

/* ------------------------------------------------------------------- image */

struct dw_chip_image {
	int fd;
	void *handle;
	char entry[256];
	enum dw_sim_entry_kind kind;
	dw_sim_kernel *kernel;
	dw_sim_orchestration *orchestration;
	uint32_t signature_count;
	uint32_t tensor_count;		/* leading entries of the signature that are not SCALAR */
	int32_t *signature;
	uint64_t block_ns;		/* the time of a block in the last call */
};

int image_load(const struct dw_chip_image_spec *spec, struct dw_chip_image **image,
	       struct dw_chip_error *error);
void image_unload(struct dw_chip_image *image);

/* -------------------------------------------------------------------- call */

#define CALL_INLINE_TENSORS 16

/* Argument i of a call. */
struct piece {
	uint64_t host, bytes;		/* bytes 0: nothing is copied */
	int32_t direction;
	bool resident;			/* in memory that stays: it has no span */
	bool in, out;			/* it is copied in, and back */
	uint64_t device;
};

/* Host ranges that overlap share one piece of device memory. */
struct span {
	uint64_t begin, end;
	struct extent *extent;
};

struct call {
	struct dw_chip_image *image;
	const uint64_t *scalars;
	size_t scalar_count;
	struct dw_config config;
	uint64_t cookie;
	const volatile uint32_t *cancelled;
	struct dw_chip_copies *copies;	/* NULL: they are not noted */
	uint64_t number;		/* of the call on this device, from 1 */
	size_t tensor_count, span_count;
	struct piece *pieces;		/* inline, or grown */
	struct span *spans;
	struct dw_tensor *tensors;	/* with device addresses */
	size_t space;
	struct piece inline_pieces[CALL_INLINE_TENSORS];
	struct span inline_spans[CALL_INLINE_TENSORS];
	struct dw_tensor inline_tensors[CALL_INLINE_TENSORS];
};

void call_init(struct call *call);
void call_fini(struct call *call);
/* Counts a copy, and fails it where driver option copy_fail says so. */
int copy_count(struct dw_chip_device *device, struct dw_chip_error *error);
/* Checks, translates, allocates. -ENOMEM: no room on the device (nothing is kept). */
int call_prepare(struct dw_chip_device *device, const struct dw_chip_call *from, struct call *call,
		 struct dw_chip_error *error);
int call_copy_in(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error);
int call_execute(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error);
int call_copy_out(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error);
void call_release(struct dw_chip_device *device, struct call *call);
/* Is a byte that `reader` copies in copied back by `writer`? */
bool call_reads_from(const struct call *reader, const struct call *writer);
/* copy in (unless it was), execute, copy out, release. */
int call_run(struct dw_chip_device *device, struct call *call, bool staged,
	     struct dw_chip_error *error);

/*
 * The target of a block's `driver` pointer: its error text. Each block has its own, on the
 * stack of the thread that runs it, so that no other block can overwrite it.
 */
struct block_text {
	char text[192];
};
int block_fail(const struct dw_sim_block *block, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ------------------------------------------------------------------- graph */

/* Runs the orchestration of the call; every task has ended when it returns. */
int graph_run(struct dw_chip_device *device, struct call *call, struct dw_chip_error *error);

/* ------------------------------------------------------------------ device */

#define SCHEDULER_THREADS 4

struct sim_options {
	uint64_t memory, cores, devices, threads, async, depth, poison;
	uint64_t block_dim, threads_of_call;	/* of a config that has 0 */
	struct faults faults;
};

struct dw_chip_device {
	uint32_t id;
	struct sim_options options;
	struct memory memory;
	struct resident *residents;
	size_t resident_count, resident_space;
	struct pool pool;
	struct call call;		/* of the synchronous form */
	struct queue *queue;		/* with async=1 */
	uint64_t prepared;		/* calls so far */
	_Atomic bool lost;
	_Atomic uint64_t calls, copies, copies_in, copies_out, bytes_in, bytes_out;
};

/* Returns the resident range that contains the address, or NULL. */
struct resident *resident_find(const struct dw_chip_device *device, uint64_t address);
int sim_lost(struct dw_chip_device *device, struct dw_chip_error *error);

#endif
