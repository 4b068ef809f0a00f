/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The interface of chip drivers, which a shared object must offer so that a chip
 * worker can own a device through it. A driver needs this header alone and links
 * nothing of the library. docs/chips.md is the guide, docs/examples/chip-driver
 * a complete small driver.
 *
 * A driver is found by name (libdistworker-chip-NAME.so in the library's driver
 * folder or in the folders of DW_CHIP_PATH) or by path, and is loaded in the
 * chip's own process only, never before a fork; once loaded it stays. It exports
 * one symbol:
 *
 *     DW_CHIP_EXPORT const struct dw_chip_driver *dw_chip_driver_v1(void);
 *
 * Threads. All calls of one device come from one thread, the chip worker's, the
 * one that opened it. Several devices in one process (THREAD mode) mean several
 * threads, one each; enumerate may be called from any.
 *
 * Errors. A call returns 0 or -errno and puts a sentence into `error` (never
 * NULL, empty when called) that names the object, the value and what would be
 * right. -ENODEV means that the device is lost: the library then makes no call on it but
 * unload and close, and in a process of its own not even these: the process ends. A driver never
 * prints, never ends the process, and installs no signal handler. A driver that crashes takes the
 * chip's process with it and nothing else; a call that never returns, of whatever function, is
 * ended by a deadline, with the process. A text beside a success of open, load, run or submit is a
 * remark: the library logs it at level info.
 *
 * Sizes. Structs that begin with `size` grow at their end. The side that
 * allocates a struct sets it; the other touches no byte beyond it. The driver's table: the library
 * does not call members that it does not know, and takes missing members for NULL. Structs that a
 * driver is given: it accepts a smaller one (missing fields are 0), and a larger one whose unknown
 * bytes are 0 (otherwise -E2BIG). Structs that a driver fills: it writes the fields that fit, and
 * zeros for those that it does not know. In an array every element has the same size, and it is the
 * distance between them.
 */
#ifndef DISTWORKER_CHIP_H
#define DISTWORKER_CHIP_H

#include <distworker/distworker.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DW_CHIP_ABI_VERSION 1
#define DW_CHIP_DRIVER_SYMBOL "dw_chip_driver_v1"
#define DW_CHIP_DRIVER_PREFIX "libdistworker-chip-"
#define DW_CHIP_EXPORT __attribute__((visibility("default")))

struct dw_chip_device;	/* the driver's own: an open device */
struct dw_chip_image;	/* the driver's own: an image, loaded on a device */

/* The text of an error, filled by the driver; NUL-terminated. */
struct dw_chip_error {
	char text[512];
};

/* Capabilities, struct dw_chip_properties.capabilities. */

/*
 * submit, collect and completion_fd are there and pay: the library uses them
 * instead of run. A driver may have them and not set this flag, when a hand-over to another
 * thread costs more than it saves.
 */
#define DW_CHIP_CAP_ASYNC	(1u << 0)
/* Memory of its own: alloc, free, copy_in, copy_out. */
#define DW_CHIP_CAP_MEMORY	(1u << 1)
/* Takes float64 tensors; without it the library refuses them. */
#define DW_CHIP_CAP_FLOAT64	(1u << 2)
/* Kernels read and write host memory directly: nothing is copied. */
#define DW_CHIP_CAP_HOST_WRITES	(1u << 3)
/*
 * A 0 in a call's config is passed on: the driver puts its own default there, which may depend on
 * the image. Without it the library puts in what the properties say.
 */
#define DW_CHIP_CAP_DEFAULTS	(1u << 4)
/*
 * Takes calls with places (struct dw_chip_place): the library then keeps tensors in device memory
 * from one call to the next, and copies what is there only once. With CAP_MEMORY.
 */
#define DW_CHIP_CAP_PLACES	(1u << 5)
/* Notes the copies of a call where it is asked to (struct dw_chip_copies). */
#define DW_CHIP_CAP_COPIES	(1u << 6)

struct dw_chip_properties {
	size_t size;
	char name[64];			/* of the device */
	char description[128];		/* for people: maker, version, what it runs on */
	uint32_t capabilities;		/* DW_CHIP_CAP_* */
	uint32_t cores;			/* the largest useful block_dim; 0: unknown */
	uint64_t memory_bytes;		/* 0: none of its own, or unknown */
	uint32_t max_tensors;		/* per call; 0: no limit */
	uint32_t max_scalars;		/* per call; 0: no limit */
	uint32_t queue_depth;		/* calls that may be in flight: 1 … 16; 0 means 1 */
	uint32_t alignment;		/* bytes, of a place within its range; 0: any will do */
	/*
	 * The values for a 0 in a task's config. 0 here: 1 core and 3 threads, or, with
	 * DW_CHIP_CAP_DEFAULTS, what the driver chooses for each call.
	 */
	uint32_t default_block_dim, default_aicpu_thread_num;
	/* The largest that the device takes; 0: no limit, or unknown. The driver checks them. */
	uint32_t max_block_dim, max_aicpu_thread_num;
	uint64_t max_allocation_bytes;	/* of one block of device memory; 0: unknown */
};

/* Counters since the device was opened. */
struct dw_chip_counters {
	size_t size;
	uint64_t calls;
	uint64_t copies_in, copies_out;	/* number of copies … */
	uint64_t bytes_in, bytes_out;	/* … and bytes, host to device and back */
	uint64_t memory_used;		/* bytes of device memory now */
};

/*
 * Where a tensor of a call lies on the device (CAP_PLACES). Its `data` is its address on the host;
 * the copies between the two happen within the call, in its turn: the calls before it have ended.
 * Several tensors of a call may share a place if none of them is copied back.
 */
struct dw_chip_place {
	size_t size;
	uint64_t handle;		/* in a range of alloc or reserve; 0: it has no place */
	uint32_t flags;			/* DW_CHIP_COPY_* */
	uint32_t reserved;
};
#define DW_CHIP_COPY_IN		(1u << 0)	/* from the host, before it runs */
#define DW_CHIP_COPY_OUT	(1u << 1)	/* to the host, after it has succeeded */
/* The place has its contents, and so has the host: a driver that has lost them may copy them. */
#define DW_CHIP_ON_HOST		(1u << 2)

/* A copy that a driver has made for a call, of one tensor or of several with the same bytes. */
struct dw_chip_copy {
	size_t size;
	uint32_t tensor;		/* the first */
	uint32_t flags;			/* DW_CHIP_COPY_IN or DW_CHIP_COPY_OUT */
	uint64_t bytes;
	uint64_t started_ns, ended_ns;	/* CLOCK_MONOTONIC */
};
/* Where the library has room for them; those beyond it are not noted. */
struct dw_chip_copies {
	size_t size;
	struct dw_chip_copy *entries;	/* entries->size bytes apart */
	uint32_t space;			/* of that many */
	uint32_t count;			/* noted by the driver, until the completion is collected */
};

/*
 * One call of an image. Everything in it stays valid until its completion was
 * collected (until run returns), the struct itself only while submit or run is
 * active. The library has checked every tensor (dimensions, type, overflow), the counts against
 * the properties, and has put the defaults into config.
 */
struct dw_chip_call {
	size_t size;
	struct dw_chip_image *image;
	const struct dw_tensor *tensors;	/* data: host address, or in a device-resident
						 * range, see alloc */
	const uint64_t *tensor_bytes;		/* of each tensor, from its shape and type */
	size_t tensor_count;
	const uint64_t *scalars;
	size_t scalar_count;
	/* block_dim ≥ 1, aicpu_thread_num ≥ 1; 0 only for DW_CHIP_CAP_DEFAULTS */
	struct dw_config config;
	uint64_t cookie;			/* given back by collect */
	/* Becomes non-zero when the task was cancelled; a driver that can, stops with
	 * -ECANCELED. Never NULL. A change wakes no thread. */
	const volatile uint32_t *cancelled;
	/* One for each tensor, places->size bytes apart; NULL: none has one. */
	const struct dw_chip_place *places;
	struct dw_chip_copies *copies;		/* NULL: nobody wants to know (CAP_COPIES) */
};

struct dw_chip_completion {
	size_t size;
	uint64_t cookie;
	int32_t status;			/* 0 or -errno */
	uint32_t reserved;
	uint64_t started_ns;		/* CLOCK_MONOTONIC; 0: the driver does not know */
	uint64_t ended_ns;
	struct dw_chip_error error;
};

struct dw_chip_image_spec {
	size_t size;
	const void *data;		/* the image; valid during load only, as is all below */
	size_t bytes;
	const char *entry;		/* kernel or orchestration entry; NULL: from the image */
	const int32_t *signature;	/* enum dw_direction, tensors first; NULL: from the image */
	size_t signature_count;
	const char *name;		/* for messages; may be NULL */
};

/*
 * Members from `enumerate` to `unload` are required, and `run` or the three of
 * CAP_ASYNC; the rest may be NULL where the capability is not claimed.
 */
struct dw_chip_driver {
	size_t size;			/* of this struct, as the driver was built */
	uint32_t abi_version;		/* DW_CHIP_ABI_VERSION */
	uint32_t reserved;
	const char *name;		/* "sim" */
	const char *version;

	/*
	 * Devices that there are. Fills up to *count properties (NULL: none; each has its
	 * `size` set, and properties->size is the distance between them) and sets *count to how
	 * many devices exist. `options` as in open.
	 */
	int (*enumerate)(const char *options, struct dw_chip_properties *properties,
			 size_t *count, struct dw_chip_error *error);
	/*
	 * `options` is "key=value,…" or NULL (a comma in a value is written "\,"), at most 65,535
	 * bytes; an unknown key is -EINVAL by name, an unknown id -ENODEV with how many there are.
	 */
	int (*open)(uint32_t id, const char *options, struct dw_chip_device **device,
		    struct dw_chip_error *error);
	/* Every image has been unloaded; resident memory is freed here. */
	void (*close)(struct dw_chip_device *device);
	int (*properties)(struct dw_chip_device *device, struct dw_chip_properties *properties,
			  struct dw_chip_error *error);

	/*
	 * -ELIBBAD: not an image of this driver; -ESRCH: no such entry, with those that there are.
	 */
	int (*load)(struct dw_chip_device *device, const struct dw_chip_image_spec *spec,
		    struct dw_chip_image **image, struct dw_chip_error *error);
	void (*unload)(struct dw_chip_device *device, struct dw_chip_image *image);

	/*
	 * Device memory (CAP_MEMORY). `handle` is an address that the library chose; a tensor
	 * whose bytes lie in [handle, handle + bytes) means this memory and is not
	 * copied. A tensor that lies across the end of such a range is -EFAULT. The copies take any
	 * part of a range: `handle` is then an address within it. New memory is zero.
	 */
	int (*alloc)(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		     struct dw_chip_error *error);
	int (*free)(struct dw_chip_device *device, uint64_t handle, struct dw_chip_error *error);
	int (*copy_in)(struct dw_chip_device *device, uint64_t handle, const void *host,
		       uint64_t bytes, struct dw_chip_error *error);
	int (*copy_out)(struct dw_chip_device *device, void *host, uint64_t handle,
			uint64_t bytes, struct dw_chip_error *error);

	/* Synchronous: returns when the call is done. Blocks; never spins for long. */
	int (*run)(struct dw_chip_device *device, const struct dw_chip_call *call,
		   struct dw_chip_error *error);

	/*
	 * CAP_ASYNC. submit stages the call's inputs and starts it; up to queue_depth
	 * calls are in flight and complete in the order of submission. An error of
	 * submit means that nothing was started and no completion comes. A driver stages inputs of
	 * a call early only where no call before it still writes those bytes.
	 *
	 * collect never blocks: 1 and a completion, or 0. The library calls it until it
	 * gives 0 before it polls completion_fd, and submits a call that there is behind each
	 * completion, so that submit may run a short call to its end and skip the fd; the fd must
	 * be readable (POLLIN) while there is a completion that came after the last collect that
	 * gave 0.
	 */
	int (*completion_fd)(struct dw_chip_device *device);
	int (*submit)(struct dw_chip_device *device, const struct dw_chip_call *call,
		      struct dw_chip_error *error);
	int (*collect)(struct dw_chip_device *device, struct dw_chip_completion *completion);

	/* May be NULL. */
	int (*counters)(struct dw_chip_device *device, struct dw_chip_counters *counters);

	/*
	 * CAP_MEMORY; may be NULL: the library copies through host memory. From one part of device
	 * memory to another, which do not overlap; both as in copy_in.
	 */
	int (*copy_within)(struct dw_chip_device *device, uint64_t to, uint64_t from,
			   uint64_t bytes, struct dw_chip_error *error);
	/*
	 * As alloc, but the contents of the memory are undefined, and calls may be in flight: for
	 * places. So is free of such a range. -EBUSY: not while these are. May be NULL.
	 */
	int (*reserve)(struct dw_chip_device *device, uint64_t handle, uint64_t bytes,
		       struct dw_chip_error *error);
	/*
	 * The directions (enum dw_direction) of a loaded image, tensors first, that of its load or
	 * of the image itself; NULL: they are not known. Valid until its unload. May be NULL; then
	 * the library knows only what was given to load.
	 */
	const int32_t *(*signature)(struct dw_chip_device *device, struct dw_chip_image *image,
				    size_t *count);
};

typedef const struct dw_chip_driver *dw_chip_driver_entry(void);
/* The function that a driver defines; declared here so that it has its name in C++, too. */
DW_CHIP_EXPORT dw_chip_driver_entry dw_chip_driver_v1;

/* ----------------------------------------------- the library's side, for tools */

/*
 * Threads, as in distworker.h.
 *
 *   dw_chip_driver_list, dw_chip_driver_query,
 *   dw_chip_enumerate, dw_pto_image_build                any thread
 */

/*
 * Names of the drivers in the folders that are searched, "opencl,pto,sim", sorted, each once; none
 * is loaded. There is no limit of folders and drivers. Files with names of more than 31 bytes are
 * passed over, since no chip can name them. -ERANGE: more than `bytes`; -ENOMEM.
 */
DW_API int dw_chip_driver_list(char *names, size_t bytes);

struct dw_chip_driver_info {
	size_t size;
	char name[32];
	char version[32];
	uint32_t abi_version;
	uint32_t reserved;
	char path[256];
};
/*
 * Loads a driver (name or path) into this process, which should be one that
 * will not fork Workers afterwards: vendors' libraries do not survive a fork.
 * -ENOENT with the folders that were searched, -ELIBBAD, -EPROTO, -ENAMETOOLONG. Name, version and
 * path are shortened, with "…", where they have no room in the struct.
 */
DW_API int dw_chip_driver_query(const char *driver, struct dw_chip_driver_info *info);
/*
 * Devices of a driver. *count in: entries of `properties` (may be NULL with 0), each of
 * `size` bytes (sizeof(*properties)); out: devices that there are. As above about forks.
 */
DW_API int dw_chip_enumerate(const char *driver, const char *options,
			     struct dw_chip_properties *properties, size_t size, size_t *count);

/* --------------------------------------------------------- images of `pto` */

/* One function that runs on the cores of an Ascend chip. */
struct dw_pto_core {
	size_t size;
	int32_t function;		/* id that the orchestration uses, 0 to 1,023 */
	uint32_t signature_count;	/* ≤ 32 */
	const void *data;		/* the core object */
	size_t bytes;
	const int32_t *signature;	/* enum dw_direction */
};

struct dw_pto_image_options {
	size_t size;
	const void *data;		/* the orchestration object, an ELF shared object */
	size_t bytes;
	/* Its entry and its configuration entry (may be NULL), at most 63 characters each. */
	const char *entry;
	const char *config_entry;
	const int32_t *signature;	/* of the whole call, tensors first */
	size_t signature_count;		/* ≤ 256 */
	const struct dw_pto_core *cores;	/* cores->size bytes apart */
	size_t core_count;		/* ≤ 1,024 */
};
/*
 * Builds an image for the `pto` driver, for a runtime of either interface; *image is malloc'ed.
 * Runtimes of the old interface take less: function ids 0 to 31, 32 core functions, 16 arguments,
 * an orchestration object of 4 MiB; loading says so. -E2BIG names the limit that is passed, -EINVAL
 * the field that makes no sense, -ELIBBAD an orchestration object that is no shared object, -ESRCH
 * an entry that it does not export, or a core object for a simulator without "kernel_entry".
 */
DW_API int dw_pto_image_build(const struct dw_pto_image_options *options, void **image,
			      size_t *bytes);

#ifdef __cplusplus
}
#endif
#endif /* DISTWORKER_CHIP_H */
