/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * pack: payloads of messages between hosts, written and read piece by piece. Numbers are as this
 * machine stores them: both hosts have one byte order (handshake.h). Pieces follow each other
 * without padding.
 *
 * Owns: the memory of a payload that is written, until pack_release(). A payload that is read
 * belongs to its caller, and so do the texts and bytes in it. Both remember if something did not
 * fit, so the caller checks once, at the end. One thread.
 */
#ifndef DW_HOST_PACK_H
#define DW_HOST_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct pack {
	unsigned char *data;
	size_t used, room;
	bool failed; /* no memory */
};

struct unpack {
	const unsigned char *at;
	size_t left;
	bool failed; /* there is less than was asked for */
};

static inline void pack_release(struct pack *pack)
{
	free(pack->data);
	*pack = (struct pack){ .data = NULL };
}

/* Space for `bytes`, or NULL. */
static inline void *pack_space(struct pack *pack, size_t bytes)
{
	size_t room = pack->room ? pack->room : 256;
	unsigned char *grown;

	while (room - pack->used < bytes && room <= SIZE_MAX / 2)
		room *= 2;
	if (!pack->failed && room != pack->room) {
		grown = realloc(pack->data, room);
		pack->failed = !grown || room - pack->used < bytes;
		if (grown) {
			pack->data = grown;
			pack->room = room;
		}
	}
	if (pack->failed)
		return NULL;
	pack->used += bytes;
	return pack->data + pack->used - bytes;
}

static inline void pack_bytes(struct pack *pack, const void *bytes, size_t count)
{
	void *space = pack_space(pack, count);

	if (space && count)
		memcpy(space, bytes, count);
}

static inline void pack_u32(struct pack *pack, uint32_t value)
{
	pack_bytes(pack, &value, sizeof(value));
}

static inline void pack_u64(struct pack *pack, uint64_t value)
{
	pack_bytes(pack, &value, sizeof(value));
}

/* Writes a text, or NULL, which is read as NULL. */
static inline void pack_text(struct pack *pack, const char *text)
{
	uint32_t bytes = text ? (uint32_t)strlen(text) + 1 : 0;

	pack_u32(pack, bytes);
	pack_bytes(pack, text, bytes);
}

/* `count` bytes of the payload, or NULL. */
static inline const void *unpack_bytes(struct unpack *unpack, size_t count)
{
	const void *bytes = unpack->at;

	if (unpack->failed || count > unpack->left) {
		unpack->failed = true;
		return NULL;
	}
	unpack->at += count;
	unpack->left -= count;
	return bytes;
}

static inline bool unpack_into(struct unpack *unpack, void *to, size_t count)
{
	const void *bytes = unpack_bytes(unpack, count);

	if (bytes)
		memcpy(to, bytes, count);
	else
		memset(to, 0, count);
	return bytes != NULL;
}

static inline uint32_t unpack_u32(struct unpack *unpack)
{
	uint32_t value;

	unpack_into(unpack, &value, sizeof(value));
	return value;
}

static inline uint64_t unpack_u64(struct unpack *unpack)
{
	uint64_t value;

	unpack_into(unpack, &value, sizeof(value));
	return value;
}

/* Reads a text in the payload; NULL: it is NULL, or has no end (`failed`). */
static inline const char *unpack_text(struct unpack *unpack)
{
	uint32_t bytes = unpack_u32(unpack);
	const char *text = bytes ? unpack_bytes(unpack, bytes) : NULL;

	if (text && (text[bytes - 1] || memchr(text, '\0', bytes - 1)))
		unpack->failed = true;
	return unpack->failed ? NULL : text;
}

/* Was all of it read, and was nothing missing? */
static inline bool unpack_done(const struct unpack *unpack)
{
	return !unpack->failed && !unpack->left;
}

#endif
