/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * handshake: the first bytes of a connection. Each side proves that it has the same key before the
 * other one does anything for it. The proofs and the keys of the connection depend on random bytes
 * of both sides, so a recorded proof is useless.
 *
 *   dialling side                        listening side
 *   greeting                  ───────►   looks at the version, byte order and page size
 *   looks too                 ◄───────   greeting, proof
 *   proof                     ───────►
 *
 * A proof is the code (secret.h) of a word for the side and of both greetings. The keys of both
 * directions are codes of other words.
 *
 * Owns: the greetings. One thread. The socket and the key are the caller's.
 */
#ifndef DW_HOST_HANDSHAKE_H
#define DW_HOST_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>
#include "host/offset.h"
#include "host/secret.h"

#define HANDSHAKE_VERSION 4 /* of all messages between hosts */

struct greeting {
	char magic[8]; /* "dw-host\n" */
	uint32_t byte_order; /* 0x01020304, as its sender stores it */
	uint16_t version; /* HANDSHAKE_VERSION */
	uint16_t zero;
	uint32_t page_bytes;
	uint32_t abi; /* DISTWORKER_ABI_VERSION: of frames and arguments */
	uint64_t clock_ns; /* CLOCK_MONOTONIC of its sender, when it was sent */
	unsigned char random[32];
};
_Static_assert(sizeof(struct greeting) == 64, "both hosts read it");

struct handshake {
	struct secret *secret;
	bool dialled; /* this side has */
	bool greeted; /* the other's greeting has arrived, and is valid */
	uint32_t got; /* bytes of `in` */
	uint64_t greeted_ns; /* when it was */
	struct greeting own, peer;
	unsigned char in[sizeof(struct greeting)];
};

/* Sends the greeting of the dialling side. 0 or -errno with a text. */
int handshake_begin(struct handshake *handshake, struct secret *secret, bool dialled, int fd);
/*
 * Goes on with what has arrived on the non-blocking socket: 1 when the other side has proved that
 * it has the key, 0 when more has to arrive, -errno with a text: -EPROTO (it is no distworker, or
 * another one), -EKEYREJECTED, -ECONNRESET.
 */
int handshake_step(struct handshake *handshake, int fd);
/* Makes a sample of the clocks from both greetings, on the dialling side. */
struct offset_sample handshake_sample(const struct handshake *handshake);
/* The keys of the connection, after a step has returned 1. */
int handshake_keys(const struct handshake *handshake, struct secret **send,
		   struct secret **receive);

#endif
