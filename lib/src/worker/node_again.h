/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * node_again: the way out for a session whose process has something else at an address of the
 * tree's memory: it executes its own program again, which gets other addresses. main() runs again,
 * with the same arguments, and its dw_node_serve() goes on with the connection.
 *
 * A memfd with the connection, its keys and the node's key passes from the old program to the new
 * one; AGAIN_VARIABLE in the environment names the descriptor. The new program removes both.
 *
 * Owns: what this process has found there. One thread.
 */
#ifndef DW_WORKER_NODE_AGAIN_H
#define DW_WORKER_NODE_AGAIN_H

#include <stdbool.h>
#include <stdint.h>
#include "host/address.h"

struct session;
struct stream;

#define AGAIN_VARIABLE "DISTWORKER_SESSION"
/* So often a session does this before it refuses the tree. */
#define AGAIN_MOST 8

/*
 * For a session that has said all and was told nothing but HELLO. `peer` is the gateway's address.
 * Returns if it fails: -errno with a text.
 */
int again_start(const struct session *session, int fd, const char *peer);
/* How often this session has done that. */
uint32_t again_count(void);

/*
 * Whether this process is such a session, and its connection waits: 1, 0, -errno with a text.
 * The key that the node had is this process's from then on.
 */
int again_find(void);
/* The connection that again_find() has found, and its peer. Once. -errno with a text. */
int again_take(struct stream **stream, char peer[ADDRESS_BYTES]);

/* The rank of this process in its launch; it is told again. 0: it has none. */
void again_set_rank(uint32_t rank, uint32_t size);
uint32_t again_rank(uint32_t *size);

#endif
