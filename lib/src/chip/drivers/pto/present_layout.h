/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The binary layouts of the Ascend runtime's present C interface (since May 11, 2026), as facts of
 * that interface: little-endian, sizes and offsets pinned below. Nothing here is code.
 */
#ifndef DW_CHIP_PTO_PRESENT_LAYOUT_H
#define DW_CHIP_PTO_PRESENT_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#define PRESENT_ABI 1
#define PRESENT_RESOURCES_MAX 8
#define PRESENT_DEPTH_MAX 2
#define PRESENT_IDS 64				/* callables that may be registered */
#define PRESENT_TENSORS_MAX 256
#define PRESENT_SCALARS_MAX 128
#define PRESENT_SIGNATURE_MAX 256
#define PRESENT_CORE_SIGNATURE_MAX 32
#define PRESENT_CHILDREN_MAX 1024
#define PRESENT_FUNCTION_MAX 1023
#define PRESENT_NAME_BYTES 64			/* with the NUL */
#define PRESENT_CHILD_ALIGN 64			/* of offsets, relative to the storage */
#define PRESENT_OUTPUT_BYTES 1024
#define PRESENT_DIMS 5

struct present_contract {
	uint32_t abi;
	uint32_t resource_count;
	uint32_t depth;
	uint32_t pad;
	struct {
		uint32_t kind, class;
		uint64_t zero;
	} resources[];
};

/* Given to simpler_host_log_bind_state(). */
struct present_log_state {
	uint32_t version;			/* 1 */
	uint32_t size;				/* 16 */
	int32_t threshold;
	int32_t zero;
};

enum present_log_level {
	PRESENT_LOG_DEBUG = 10, PRESENT_LOG_INFO = 20, PRESENT_LOG_TIMING = 25,
	PRESENT_LOG_WARN = 30, PRESENT_LOG_ERROR = 40, PRESENT_LOG_NONE = 60,
};

enum present_space { PRESENT_HOST = 0, PRESENT_DEVICE = 1 };

struct present_tensor {
	uint64_t address;
	uint64_t bytes;				/* of the buffer */
	uint64_t owner;				/* all ones */
	uint64_t first;				/* element */
	int32_t version;
	uint32_t ndims;				/* 1 and more */
	uint8_t dtype;
	uint8_t manual_dep;
	uint8_t contiguous;			/* 1 */
	uint8_t space;				/* enum present_space */
	uint32_t shape[PRESENT_DIMS];
	uint64_t extent;			/* elements */
	uint32_t strides[PRESENT_DIMS];		/* elements, row-major, > 0 */
	uint8_t pad[36];
} __attribute__((aligned(64)));

struct present_args {
	struct present_tensor tensors[PRESENT_TENSORS_MAX];
	uint64_t scalars[PRESENT_SCALARS_MAX];
	int32_t tensor_count;
	int32_t scalar_count;
} __attribute__((aligned(64)));

struct present_config {
	int32_t threads;			/* 0: automatic */
	int32_t swimlane;
	int32_t dump_args;			/* 1 partial, 2 full, 3 hybrid */
	int32_t pmu;
	int32_t dep_gen;
	int32_t scope_stats;
	uint64_t task_window[4];		/* 0: default, and below */
	uint64_t heap[4];
	uint64_t dep_pool[4];
	char output[PRESENT_OUTPUT_BYTES];	/* folder, needed with any diagnostic */
} __attribute__((packed));

struct present_descriptor {
	uint32_t slot;
	uint32_t bank;
	uint64_t run;
	uint64_t generation;			/* 1 and more */
	uint64_t dispatch;
	uint64_t epoch;				/* unique in the process, increasing */
	void *accepted;				/* NULL */
	int32_t value;
};

/* A function for the cores; `size` bytes of binary follow. */
struct present_core_callable {
	int32_t signature[PRESENT_CORE_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;
	uint64_t resolved;			/* 0 from the host */
	uint8_t pad[48];
};

/* A call's code; the storage follows: the orchestration object, then the children. */
struct present_chip_callable {
	int32_t signature[PRESENT_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;				/* of the orchestration object */
	char name[PRESENT_NAME_BYTES];
	uint32_t name_length;
	int32_t child_ids[PRESENT_CHILDREN_MAX];
	uint32_t child_offsets[PRESENT_CHILDREN_MAX];
	int32_t child_count;
	char config_name[PRESENT_NAME_BYTES];
	uint32_t config_name_length;
} __attribute__((aligned(16)));

#define PRESENT_PIN(type, member, offset) \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member)

PRESENT_PIN(present_contract, depth, 8);
PRESENT_PIN(present_contract, resources, 16);
_Static_assert(sizeof(struct present_log_state) == 16, "log state");
_Static_assert(sizeof(struct present_tensor) == 128, "tensor");
PRESENT_PIN(present_tensor, owner, 16);
PRESENT_PIN(present_tensor, version, 32);
PRESENT_PIN(present_tensor, dtype, 40);
PRESENT_PIN(present_tensor, space, 43);
PRESENT_PIN(present_tensor, shape, 44);
PRESENT_PIN(present_tensor, extent, 64);
PRESENT_PIN(present_tensor, strides, 72);
PRESENT_PIN(present_tensor, pad, 92);
_Static_assert(sizeof(struct present_args) == 33856, "arguments");
PRESENT_PIN(present_args, scalars, 32768);
PRESENT_PIN(present_args, tensor_count, 33792);
PRESENT_PIN(present_args, scalar_count, 33796);
_Static_assert(sizeof(struct present_config) == 1144, "config");
PRESENT_PIN(present_config, task_window, 24);
PRESENT_PIN(present_config, heap, 56);
PRESENT_PIN(present_config, dep_pool, 88);
PRESENT_PIN(present_config, output, 120);
_Static_assert(sizeof(struct present_descriptor) == 56, "descriptor");
PRESENT_PIN(present_descriptor, generation, 16);
PRESENT_PIN(present_descriptor, epoch, 32);
PRESENT_PIN(present_descriptor, value, 48);
_Static_assert(sizeof(struct present_core_callable) == 192, "core callable");
PRESENT_PIN(present_core_callable, signature_count, 128);
PRESENT_PIN(present_core_callable, size, 132);
PRESENT_PIN(present_core_callable, resolved, 136);
_Static_assert(sizeof(struct present_chip_callable) == 9376, "chip callable");
PRESENT_PIN(present_chip_callable, signature_count, 1024);
PRESENT_PIN(present_chip_callable, size, 1028);
PRESENT_PIN(present_chip_callable, name, 1032);
PRESENT_PIN(present_chip_callable, name_length, 1096);
PRESENT_PIN(present_chip_callable, child_ids, 1100);
PRESENT_PIN(present_chip_callable, child_offsets, 5196);
PRESENT_PIN(present_chip_callable, child_count, 9292);
PRESENT_PIN(present_chip_callable, config_name, 9296);
PRESENT_PIN(present_chip_callable, config_name_length, 9360);

#endif
