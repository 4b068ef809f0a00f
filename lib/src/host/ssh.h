/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * ssh: nodes that are started on other hosts. A process of ssh carries the key to a node's standard
 * input, and brings back its address from the node's standard output:
 *
 *   ssh HOST 'distworker node --listen ADDRESS:PORT --key - ARGUMENTS'
 *
 * ADDRESS is the one by which ssh has reached the host, where sshd says so (SSH_CONNECTION). Lines
 * before that of the address are a greeting of the host's, and are skipped.
 *
 * Owns: struct ssh_node: the process, which is a child of this one and has a process group of its
 * own, so that Ctrl-C in a terminal does not end it; and three pipes. Only the key is written to
 * its standard input. The end of that input tells a node to leave if no gateway has dialled it; it
 * comes with ssh_end(), or when this process and all that it has forked meanwhile have ended. One
 * thread.
 */
#ifndef DW_HOST_SSH_H
#define DW_HOST_SSH_H

#include <stdint.h>
#include "host/address.h"

struct ssh_node;

struct ssh_options {
	/* Words in front of the host's name. NULL: the value of DW_SSH, or SSH_COMMAND. */
	const char *command;
	/*
	 * The path of distworker over there; NULL: "distworker", found by its shell. Its verb,
	 * NULL: "node"; what stands behind ours, to a NULL; NULL: nothing.
	 */
	const char *program, *verb;
	const char *const *arguments;
	const char *key; /* a line of text; the newline is added */
};

#define SSH_COMMAND "ssh -o BatchMode=yes"

/*
 * `host`: "name", "user@name", either with ":port", which the node listens on then. Does not wait
 * for ssh. -EINVAL; -ENOENT and the like: `command` cannot be run; -ENOMEM; with a text.
 */
int ssh_start(const char *host, const struct ssh_options *options, struct ssh_node **node);
/*
 * Waits until the node reports its address. Errors, with a text that has the host's name and the
 * last words of ssh and the node on standard error: -EHOSTUNREACH: ssh did not get there; -ENOENT:
 * there is no such program; -ECHILD: the node has ended; -ETIMEDOUT: `deadline_ns`
 * (CLOCK_MONOTONIC) has passed; -EPROTO: the node reported no address.
 */
int ssh_address(struct ssh_node *node, uint64_t deadline_ns, struct address *address);
/*
 * The output of the node and its callables from now on: non-blocking descriptors, which end with
 * the node. They must be read: a node that fills a pipe blocks.
 */
int ssh_output(const struct ssh_node *node);
int ssh_errors(const struct ssh_node *node);
/* The end of the standard error that was read before ssh_errors(): warnings of ssh. */
const char *ssh_said(const struct ssh_node *node);
/* Closes the node's standard input. */
void ssh_end(struct ssh_node *node);
/* ssh_end(); then ssh has 2 s to end, and is killed otherwise. NULL is accepted. */
void ssh_destroy(struct ssh_node *node);

#endif
