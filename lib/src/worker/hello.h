/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * hello: a Worker on another host, in bytes, as its gateway describes it to the session there: its
 * tree, the memory of the trees around it, and the functions that its tasks may call. node_tree.h
 * is the reader.
 *
 *   text above, text name, u32 level,         the Worker's parent: the path above it, its name …
 *   u32 mailbox_depth, frame_bytes,           … and the options that count on both hosts
 *   u64 init_timeout, close_timeout, host_timeout
 *   u32 traced                                whether DW_TRACE is wanted at home
 *   Worker                                    recursive: its options, u32 count, Workers below
 *   u32 count, { u64 begin, end; u32 registered } …
 *   { u32 kind; u64 handle; u32 owner; text name; 32 bytes identity } …, u32 0
 *
 * Invariant: a callable's owner travels as a number: 0 is the Worker itself, or one above it; the
 * others are those below it, in the order of a walk.
 *
 * Owns nothing. Any thread, while no Worker of the tree changes.
 */
#ifndef DW_WORKER_HELLO_H
#define DW_WORKER_HELLO_H

#include <stdbool.h>
#include <stdint.h>
#include "callable/callable.h"
#include "host/pack.h"

#define HELLO_IDENTITY_BYTES 32 /* of the object that contains a function */

struct child;
struct dw_worker;

/* Describes a remote child; called by its gateway. `pack` tells whether there was memory. */
void hello_encode(const struct child *child, struct pack *pack);
/*
 * The number of a callable's owner, as seen from a remote Worker; -1: it is not in that Worker's
 * tree.
 */
int64_t hello_owner(const struct dw_worker *remote, const void *owner);

/* Functions of the program; other callables are announced once the session is ready. */
static inline bool hello_is_function(const struct callable *callable)
{
	return callable->kind == CALLABLE_ORCH || callable->kind == CALLABLE_SUB;
}

static inline const void *hello_address(const struct callable *function)
{
	return function->kind == CALLABLE_ORCH ? (const void *)(uintptr_t)function->orch :
						 (const void *)(uintptr_t)function->sub;
}

#endif
