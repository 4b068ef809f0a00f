/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * about: a node, in bytes, as it describes itself to `distworker doctor`: its program, its limits,
 * and how it sees the connection. examine.c is the reader.
 *
 * Owns nothing. One thread, in a process of the node before its tree is made.
 */
#ifndef DW_WORKER_ABOUT_H
#define DW_WORKER_ABOUT_H

#include <stdbool.h>
#include <stdint.h>
#include "host/pack.h"

#define ABOUT_IDENTITY_BYTES 32
#define ABOUT_OBJECTS_MOST 64

struct dw_worker;

/* A file that the node's program was loaded from. */
struct about_object {
	const char *path;
	uint8_t identity[ABOUT_IDENTITY_BYTES]; /* callable/symbol.h */
	uint32_t functions; /* of the node's functions, so many are in it */
};

/* A connection, as the kernel of one of its ends sees it. */
struct about_connection {
	uint32_t round_trip_us, mtu, retransmits;
};

/* The texts are in the payload. */
struct about {
	const char *version, *user;
	uint32_t functions;
	uint64_t files, processes; /* limits; UINT64_MAX: none */
	uint64_t cache_bytes;
	const char *folder; /* for shared objects that come from home; "": it takes none */
	struct about_connection connection;
	uint32_t object_count;
	struct about_object objects[ABOUT_OBJECTS_MOST];
};

struct node_session_options;

/* `fd` is the connection. `pack` says whether there was memory. */
void about_encode(const struct node_session_options *options, int fd, struct pack *pack);
/* Is the description consistent? */
bool about_decode(struct unpack *unpack, struct about *about);
void about_connection(int fd, struct about_connection *connection);

#endif
