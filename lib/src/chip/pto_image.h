/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The binary layouts of the Ascend runtime's C interface, as facts of that interface:
 * little-endian, sizes and offsets pinned below. An image of the `pto` driver is
 * a chip callable as it stands here, so that a call hands it over as it is. Built by
 * pto_image.c, checked and used by the driver; nothing here is code.
 */
#ifndef DW_CHIP_PTO_IMAGE_H
#define DW_CHIP_PTO_IMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <distworker/distworker.h>

#define PTO_TENSORS_MAX 16
#define PTO_SCALARS_MAX 128
#define PTO_SIGNATURE_MAX 16
#define PTO_CHILDREN_MAX 32
#define PTO_NAME_BYTES 64			/* with the NUL */
#define PTO_ORCHESTRATION_MAX (4u << 20)
#define PTO_CHILD_ALIGN 64			/* of offsets, relative to the storage */
#define PTO_DTYPE_MAX DW_UINT64			/* the reference's own types end here */

/* The arguments of a call. */
struct pto_args {
	struct dw_tensor tensors[PTO_TENSORS_MAX];
	uint64_t scalars[PTO_SCALARS_MAX];
	int32_t tensor_count;
	int32_t scalar_count;
};

/* A function for the cores; `size` bytes of binary follow. */
struct pto_core_callable {
	int32_t signature[PTO_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;
	uint64_t resolved;			/* 0 from the host */
	uint8_t pad[48];
};

/* A call's code; the storage follows: the orchestration object, then the children. */
struct pto_chip_callable {
	int32_t signature[PTO_SIGNATURE_MAX];
	int32_t signature_count;
	uint32_t size;				/* of the orchestration object */
	char name[PTO_NAME_BYTES];
	uint32_t name_length;
	int32_t child_ids[PTO_CHILDREN_MAX];
	uint32_t child_offsets[PTO_CHILDREN_MAX];
	int32_t child_count;
	char config_name[PTO_NAME_BYTES];
	uint32_t config_name_length;
};

#define PTO_PIN(type, member, offset) \
	_Static_assert(offsetof(struct type, member) == (offset), #type "." #member)

_Static_assert(sizeof(struct dw_tensor) == 40, "tensor");
PTO_PIN(dw_tensor, shape, 8);
PTO_PIN(dw_tensor, ndims, 28);
PTO_PIN(dw_tensor, dtype, 32);
_Static_assert(sizeof(struct pto_args) == 1672, "chip arguments");
PTO_PIN(pto_args, scalars, 640);
PTO_PIN(pto_args, tensor_count, 1664);
PTO_PIN(pto_args, scalar_count, 1668);
_Static_assert(sizeof(struct pto_core_callable) == 128, "core callable");
PTO_PIN(pto_core_callable, signature_count, 64);
PTO_PIN(pto_core_callable, size, 68);
PTO_PIN(pto_core_callable, resolved, 72);
_Static_assert(sizeof(struct pto_chip_callable) == 468, "chip callable");
PTO_PIN(pto_chip_callable, signature_count, 64);
PTO_PIN(pto_chip_callable, size, 68);
PTO_PIN(pto_chip_callable, name, 72);
PTO_PIN(pto_chip_callable, name_length, 136);
PTO_PIN(pto_chip_callable, child_ids, 140);
PTO_PIN(pto_chip_callable, child_offsets, 268);
PTO_PIN(pto_chip_callable, child_count, 396);
PTO_PIN(pto_chip_callable, config_name, 400);
PTO_PIN(pto_chip_callable, config_name_length, 464);
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the interface is little-endian");

#endif
