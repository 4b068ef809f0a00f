/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The binary layouts of the Ascend runtime's old C interface (April to May 2026), as facts of that
 * interface: little-endian, sizes and offsets pinned below. Nothing here is code.
 */
#ifndef DW_CHIP_PTO_OLD_LAYOUT_H
#define DW_CHIP_PTO_OLD_LAYOUT_H

#include <stddef.h>
#include <stdint.h>
#include <distworker/distworker.h>

#define OLD_TENSORS_MAX 16
#define OLD_SCALARS_MAX 128
#define OLD_SIGNATURE_MAX 16
#define OLD_CHILDREN_MAX 32
#define OLD_FUNCTION_MAX 31
#define OLD_NAME_BYTES 64			/* with the NUL */
#define OLD_ORCHESTRATION_MAX (4u << 20)
#define OLD_CHILD_ALIGN 64			/* of offsets, relative to the storage */
#define OLD_DTYPE_MAX DW_UINT64			/* the interface's own types end here */

/* The arguments of a call. */
struct old_args {
	struct dw_tensor tensors[OLD_TENSORS_MAX];
	uint64_t scalars[OLD_SCALARS_MAX];
	int32_t tensor_count;
	int32_t scalar_count;
};

/* A function for the cores; `size` bytes of binary follow. */
struct old_core_callable {
	int32_t signature[OLD_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;
	uint64_t resolved;			/* 0 from the host */
	uint8_t pad[48];
};

/* A call's code; the storage follows: the orchestration object, then the children. */
struct old_chip_callable {
	int32_t signature[OLD_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;				/* of the orchestration object */
	char name[OLD_NAME_BYTES];
	uint32_t name_length;
	int32_t child_ids[OLD_CHILDREN_MAX];
	uint32_t child_offsets[OLD_CHILDREN_MAX];
	int32_t child_count;
	char config_name[OLD_NAME_BYTES];
	uint32_t config_name_length;
};

#define OLD_PIN(type, member, offset) \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member)

_Static_assert(sizeof(struct dw_tensor) == 40, "tensor");
OLD_PIN(dw_tensor, shape, 8);
OLD_PIN(dw_tensor, ndims, 28);
OLD_PIN(dw_tensor, dtype, 32);
_Static_assert(sizeof(struct old_args) == 1672, "chip arguments");
OLD_PIN(old_args, scalars, 640);
OLD_PIN(old_args, tensor_count, 1664);
OLD_PIN(old_args, scalar_count, 1668);
_Static_assert(sizeof(struct old_core_callable) == 128, "core callable");
OLD_PIN(old_core_callable, signature_count, 64);
OLD_PIN(old_core_callable, size, 68);
OLD_PIN(old_core_callable, resolved, 72);
_Static_assert(sizeof(struct old_chip_callable) == 468, "chip callable");
OLD_PIN(old_chip_callable, signature_count, 64);
OLD_PIN(old_chip_callable, size, 68);
OLD_PIN(old_chip_callable, name, 72);
OLD_PIN(old_chip_callable, name_length, 136);
OLD_PIN(old_chip_callable, child_ids, 140);
OLD_PIN(old_chip_callable, child_offsets, 268);
OLD_PIN(old_chip_callable, child_count, 396);
OLD_PIN(old_chip_callable, config_name, 400);
OLD_PIN(old_chip_callable, config_name_length, 464);

#endif
