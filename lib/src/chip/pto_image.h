/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The file format of images of the `pto` driver: objects, names and directions, and nothing
 * of the runtime's own layouts, which the driver makes when it loads an image. Little-endian;
 * offsets count from the first byte of the image. Written by pto_image.c, read by the driver
 * (drivers/pto/image.c), which also reads the format before this one.
 */
#ifndef DW_CHIP_PTO_IMAGE_H
#define DW_CHIP_PTO_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* The limits of the present interface; the driver knows those of the old one. */
#define PTO_SIGNATURE_MAX 256
#define PTO_CORE_SIGNATURE_MAX 32
#define PTO_CORES_MAX 1024
#define PTO_FUNCTION_MAX 1023			/* the largest function id */
#define PTO_NAME_BYTES 64			/* with the NUL */

/* A core function for a simulator is called by this name. */
#define PTO_CORE_ENTRY "kernel_entry"

/* No image of the old format begins with these bytes, which would be directions there. */
#define PTO_IMAGE_MAGIC "dw-pto\n\x1a"
#define PTO_IMAGE_VERSION 1
#define PTO_IMAGE_ALIGN 64			/* of objects */

struct pto_image_header {
	char magic[8];
	uint32_t version;
	uint32_t size;				/* of this header */
	uint64_t bytes;				/* of the image */
	uint64_t object;			/* offset of the orchestration object … */
	uint64_t object_bytes;			/* … and its size */
	uint64_t signature;			/* offset of int32_t[signature_count] */
	uint64_t cores;				/* offset of struct pto_image_core[core_count] */
	uint32_t signature_count;
	uint32_t core_count;
	char entry[PTO_NAME_BYTES];
	char config_entry[PTO_NAME_BYTES];	/* "": none */
};

struct pto_image_core {
	int32_t function;
	uint32_t signature_count;
	uint64_t signature;			/* offset of int32_t[signature_count] */
	uint64_t object;
	uint64_t object_bytes;
};

_Static_assert(sizeof(struct pto_image_header) == 192, "image header");
_Static_assert(sizeof(struct pto_image_core) == 32, "core of an image");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

#endif
