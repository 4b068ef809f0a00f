/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * pto: Ascend chips through their runtime's C interface (libhost_runtime.so, for the hardware or
 * for its simulator), of which there are two. The library is opened at run time; nothing of it is
 * included, linked or needed to build.
 *
 * driver.c opens a device and finds out which interface its library has; options.c, image.c
 * (files), call.c (checks of a call) and codes.c (meanings of error codes) are for both; old.c and
 * present*.c are the two.
 *
 * Threads: everything of a device comes from the thread that opened it, as chip.h promises. A call
 * of the runtime that hangs is ended from outside, with the process. (present_pipeline.c has a
 * thread of its own, that waits for runs.)
 */
#ifndef DW_CHIP_PTO_INTERNAL_H
#define DW_CHIP_PTO_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "chip/driver_kit.h"
#include "chip/pto_image.h"

#define PTO_NO_SIGNATURE UINT32_MAX
#define PTO_TENSORS_MAX 256			/* per call, of the interface that takes more */
#define PTO_RUNTIME_BYTES_MAX (UINT64_C(1) << 36)

/* ----------------------------------------------------------------- options */

/* The chips that the runtime knows; it cannot say on which one it runs. */
struct pto_generation {
	const char *name;
	int32_t cores;
	int32_t threads_old, threads_present;	/* the most of aicpu_thread_num */
	bool has_small_floats;		/* fp8 and fp4 */
};

struct pto_options {
	char host[KIT_VALUE_BYTES], aicpu[KIT_VALUE_BYTES], aicore[KIT_VALUE_BYTES];
	char sim_context[KIT_VALUE_BYTES], dispatcher[KIT_VALUE_BYTES];
	char output[KIT_VALUE_BYTES];	/* folder of diagnostics */
	int32_t log;			/* threshold of the runtime's log */
	const struct pto_generation *generation;
	uint64_t devices;		/* the count that enumerate gives; 0: find out */
	uint64_t lost_after;		/* failures in a row; 0: never */
	uint64_t memory;		/* bytes of a device; 0: unknown */
};

int pto_options_read(const char *text, struct pto_options *options, struct dw_chip_error *error);
/* Are all options there that opening a device needs? */
int pto_options_complete(const struct pto_options *options, struct dw_chip_error *error);

/* ------------------------------------------------------------------ images */

struct pto_core_view {
	int32_t function;
	uint32_t signature_count;
	int32_t signature[PTO_CORE_SIGNATURE_MAX];
	const unsigned char *object;
	uint32_t object_bytes;
};

/* An image file whose every offset, name and direction is checked; objects lie in the file. */
struct pto_view {
	char entry[PTO_NAME_BYTES], config_entry[PTO_NAME_BYTES];
	int32_t signature[PTO_SIGNATURE_MAX];
	uint32_t signature_count;
	const unsigned char *object;
	uint32_t object_bytes;
	uint32_t core_count;
	struct pto_core_view *cores;	/* pto_view_free() frees them */
};

/* The limits of an interface. */
struct pto_limits {
	uint32_t tensors, scalars;	/* per call */
	uint32_t signature, core_signature;
	uint32_t cores;
	int32_t function;		/* the largest id */
	uint32_t object_bytes;		/* of the orchestration */
};

/* `simulator`: core objects must be some that a simulator can call. */
int pto_view_read(const struct dw_chip_image_spec *spec, const struct pto_limits *limits,
		  bool simulator, struct pto_view *view, struct dw_chip_error *error);
void pto_view_free(struct pto_view *view);

struct dw_chip_image {
	struct dw_chip_image *next;	/* of the device's */
	int32_t id;			/* at which it is registered */
	char entry[PTO_NAME_BYTES];
	uint32_t signature_count;	/* PTO_NO_SIGNATURE: it has none */
	uint32_t tensor_count;		/* of the signature … */
	int32_t tensor_signature[PTO_SIGNATURE_MAX];	/* … and the directions of these */
	void *callable;			/* as the interface lays it out */
};

/* ----------------------------------------------------------------- devices */

struct pto_blob {
	uint8_t *data;
	size_t bytes;
};

struct pto_interface {
	const char *mark;		/* the exported function by which it is recognised */
	const char *description;
	struct pto_limits limits;
	/* Looks the functions up, makes a context and binds the device. */
	int (*open)(struct dw_chip_device *device, const struct pto_options *options,
		    struct dw_chip_error *error);
	/* Called also after an open that failed part-way. */
	void (*close)(struct dw_chip_device *device);
	/* Fills in capabilities and limits; device is NULL before one is open. */
	void (*properties)(const struct dw_chip_device *device,
			   struct dw_chip_properties *properties);
	/* Lays image->callable out. */
	int (*load)(struct dw_chip_device *device, const struct pto_view *view,
		    struct dw_chip_image *image, struct dw_chip_error *error);
	void (*unload)(struct dw_chip_device *device, struct dw_chip_image *image);
	int (*run)(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error);
	/* NULL without DW_CHIP_CAP_ASYNC. */
	int (*completion_fd)(struct dw_chip_device *device);
	int (*submit)(struct dw_chip_device *device, const struct dw_chip_call *call,
		      struct dw_chip_error *error);
	int (*collect)(struct dw_chip_device *device, struct dw_chip_completion *completion);
	/* Device memory; all NULL: there is none. `resident`: an address that lies in it. */
	bool (*resident)(const struct dw_chip_device *device, uint64_t address);
	int (*alloc)(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error);
	int (*reserve)(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		       struct dw_chip_error *error);
	int (*free)(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error);
	int (*copy_in)(struct dw_chip_device *device, uint64_t handle, const void *host,
		       uint64_t bytes, struct dw_chip_error *error);
	int (*copy_out)(struct dw_chip_device *device, void *host, uint64_t handle, uint64_t bytes,
			struct dw_chip_error *error);
	uint64_t (*memory_used)(struct dw_chip_device *device);
};

extern const struct pto_interface pto_old, pto_present;

struct dw_chip_device {
	uint32_t id;
	const struct pto_interface *interface;	/* NULL: not known yet */
	void *state;				/* the interface's own */
	const struct pto_generation *generation;
	void *library, *context_library;
	struct pto_blob aicpu, aicore, dispatcher;	/* dispatcher: of hardware, may be empty */
	bool simulator;
	uint32_t lost_after;
	uint64_t memory;			/* bytes; 0: unknown */
	uint32_t failures;			/* in a row */
	uint64_t calls;
	uint64_t copies_in, copies_out, bytes_in, bytes_out;	/* the runtime's own, too */
};

static inline void pto_count_in(struct dw_chip_device *device, uint64_t bytes)
{
	device->copies_in++;
	device->bytes_in += bytes;
}

static inline void pto_count_out(struct dw_chip_device *device, uint64_t bytes)
{
	device->copies_out++;
	device->bytes_out += bytes;
}

/* Looks up `count` functions by name; -ELIBBAD names a missing one. */
int pto_functions(struct dw_chip_device *device, const char *const *names, void **functions,
		  size_t count, struct dw_chip_error *error);

/* ------------------------------------------------------------------- calls */

/* Without a signature, every tensor is copied both ways. */
static inline int32_t pto_direction(const struct dw_chip_image *image, size_t tensor)
{
	return image->signature_count == PTO_NO_SIGNATURE ? DW_DIR_INOUT :
	       image->tensor_signature[tensor];
}

/*
 * Checks counts, addresses, directions and overlap. The runtime gives each tensor of host memory
 * its own copy on the device, so two that overlap must not be written.
 */
int pto_call_check(const struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error);

/* ------------------------------------------------------------------- codes */

#define PTO_CODE_BYTES 128

/* Describes a code that a function of the runtime returned. Returns `to`. */
const char *pto_code_text(int code, char to[PTO_CODE_BYTES]);

/*
 * Sets the error of a run: function `name` returned `code`; `hint` may be "". Returns -EIO, or
 * -ENODEV after lost_after failures in a row.
 */
int pto_run_failed(struct dw_chip_device *device, const struct dw_chip_call *call,
		   const char *name, int code, const char *hint, struct dw_chip_error *error);

#endif
