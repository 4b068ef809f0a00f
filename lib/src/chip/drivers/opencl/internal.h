/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * opencl: any device with an OpenCL ICD. Devices (device.c), PoCL's cache (cache.c), programs
 * (program.c), device memory (memory.c), calls (call.c), the table (driver.c).
 *
 * A device has one context and one in-order queue: calls, with their copies, run in the
 * order in which they were submitted, so that nothing is staged before the
 * call that writes it is done. The end of a call is an event callback, which
 * OpenCL makes from a thread of its own; it writes an eventfd, and no thread waits in clFinish.
 *
 * Faults. The order of a queue carries no failure from one command to the next: each command
 * of a call also waits for the one before by its event, so that a kernel which failed is not taken
 * for one that did nothing. The first command's error is the call's.
 *
 * Threads. All but call_ended() runs on the chip worker's thread; queue.lock guards the fields that
 * both touch.
 */
#ifndef DW_CHIP_OPENCL_INTERNAL_H
#define DW_CHIP_OPENCL_INTERNAL_H

#define CL_TARGET_OPENCL_VERSION 210
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <pthread.h>
#include "base/clock.h"
#include "chip/driver_kit.h"

#define DEPTH 2
#define SIZE_CLASSES 48

struct opencl_options {
	char platform[KIT_VALUE_BYTES];	/* part of its name; empty: any */
	cl_device_type type;
	char flags[KIT_VALUE_BYTES];	/* for the compiler */
	uint64_t local;			/* work-items of a group; 0: the kernel's own */
	uint64_t block_dim;		/* work-groups of a config that has 0 */
	uint64_t svm;			/* 0: no shared virtual memory, where the device has it */
};

struct opencl_place {
	cl_platform_id platform;
	cl_device_id device;
};

struct opencl_found {
	struct opencl_place *devices;
	size_t count;
	int error;			/* why a platform has no device; 0: no cause is known */
};

/* A kernel's scalar parameter: how it is made from the 64 bits on the wire. */
enum scalar_kind { SCALAR_BITS, SCALAR_FLOAT };
struct parameter {
	enum scalar_kind kind;
	size_t bytes;			/* 0: not known, found by trying */
};

struct dw_chip_image {
	cl_program program;
	cl_kernel kernel;
	char entry[256];
	uint32_t signature_count, tensor_count;
	int32_t *signature;
	struct parameter *parameters;	/* of the scalars */
	size_t local;			/* work-items of a group */
};

/* A buffer that is free for a later call: kept by its size, a power of two. */
struct spare {
	cl_mem buffer;
	struct spare *next;
};

/* A range that stays: shared virtual memory where the device has it, else a buffer. */
struct resident {
	uint64_t handle, bytes;
	cl_mem buffer;
	char *svm;			/* NULL: the buffer */
};

/* An argument's device memory during a call. */
struct place {
	cl_mem buffer;
	void *svm;			/* in place of the buffer; NULL: none */
	bool shared;			/* with an earlier argument of the same range */
	bool resident;			/* in memory that stays */
	bool in, out;			/* it is copied in, and back */
	unsigned int size_class;
};

struct slot {
	struct dw_chip_device *device;
	uint64_t cookie;
	size_t count;
	size_t space;
	struct place *places;
	/* of its commands, each behind the one before: 2 for a tensor, 1 */
	cl_event *events;
	uint32_t *tensors;		/* that they copy */
	size_t event_count, kernel_event;
	const uint64_t *tensor_bytes;
	struct dw_chip_copies *copies;	/* NULL: copies are not noted */
	char entry[256];
	/* by call_ended(), under queue.lock */
	bool done;
	cl_int status;
	uint64_t started, ended;
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t ended;		/* close waits here */
	int fd;
	bool signalled;
	uint64_t submitted, ran, collected;
	struct slot slots[DEPTH];
};

struct dw_chip_device {
	uint32_t id;
	struct opencl_options options;
	cl_platform_id platform;
	cl_device_id device;
	cl_context context;
	cl_command_queue commands;
	uint64_t base_align;		/* of a part of a buffer, bytes */
	bool float64;
	bool svm;			/* ranges that stay are shared virtual memory */
	bool exact_division;		/* can divide as IEEE says, if the compiler is told */
	struct spare *spares[SIZE_CLASSES];
	uint64_t spare_bytes, spare_limit;
	struct resident *residents;	/* sorted by handle */
	size_t resident_count, resident_space;
	struct queue queue;
	struct dw_chip_counters counters;
};

/* device.c */
const char *opencl_name(cl_int code);
int opencl_errno(cl_int code);
/* "clCreateBuffer: CL_OUT_OF_RESOURCES" as an error of the device. */
int opencl_fail(struct dw_chip_error *error, cl_int code, const char *call, const char *object);
int opencl_options_read(const char *text, struct opencl_options *options,
			struct dw_chip_error *error);
/* The devices that the options select. The caller frees found->devices. */
int opencl_devices(const struct opencl_options *options, struct opencl_found *found,
		   struct dw_chip_error *error);
void opencl_device_properties(cl_device_id device, const struct opencl_options *options,
			      struct dw_chip_properties *properties);

/* cache.c */
/* For PoCL: 0, or the reason why it cannot work. For other platforms: 0. */
int pocl_cache_check(cl_platform_id platform, struct dw_chip_error *error);

/* program.c */
int program_load(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		 struct dw_chip_image **image, struct dw_chip_error *error);
void program_unload(struct dw_chip_image *image);

/* memory.c */
int buffer_take(struct dw_chip_device *device, uint64_t bytes, struct place *place,
		struct dw_chip_error *error);
void buffer_give(struct dw_chip_device *device, struct place *place);
/* Between a buffer and host memory, behind the command `after`. */
enum copy_way { COPY_IN, COPY_OUT };
struct copy {
	enum copy_way way;
	cl_mem buffer;
	void *svm;			/* in place of the buffer; NULL: none */
	uint64_t offset, bytes;
	void *host;
	cl_event after;			/* NULL: none */
};
/*
 * Enqueues a copy and counts it; with `event` NULL it has ended on return. Returns an OpenCL code.
 */
cl_int buffer_copy(struct dw_chip_device *device, const struct copy *copy, cl_event *event);
static inline const char *copy_call(enum copy_way way)
{
	return way == COPY_IN ? "clEnqueueWriteBuffer" : "clEnqueueReadBuffer";
}
struct resident *resident_find(const struct dw_chip_device *device, uint64_t address);
int memory_alloc(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		 struct dw_chip_error *error);
/* The same with undefined contents. */
int memory_reserve(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		   struct dw_chip_error *error);
int memory_free(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error);
int memory_copy_in(struct dw_chip_device *device, uint64_t handle, const void *host, uint64_t bytes,
		   struct dw_chip_error *error);
int memory_copy_out(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
		    struct dw_chip_error *error);
int memory_copy_within(struct dw_chip_device *device, uint64_t to, uint64_t from, uint64_t bytes,
		       struct dw_chip_error *error);
void memory_fini(struct dw_chip_device *device);

/* call.c */
int queue_init(struct dw_chip_device *device, struct dw_chip_error *error);
/* Waits for the calls in flight. */
void queue_drain(struct dw_chip_device *device);
void queue_fini(struct dw_chip_device *device);
int call_submit(struct dw_chip_device *device, const struct dw_chip_call *call,
		struct dw_chip_error *error);
int call_collect(struct dw_chip_device *device, struct dw_chip_completion *completion);

#endif
