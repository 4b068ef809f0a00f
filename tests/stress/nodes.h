/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Nodes of a round: processes that serve Workers on "other hosts". Where root may, each has a
 * network namespace of its own with a link to that of the rounds, so that the network between them
 * can break; else all are on loopback. A node that is killed comes back at its address: a keeper
 * process, which is not disturbed, starts it again.
 */
#ifndef TESTS_STRESS_NODES_H
#define TESTS_STRESS_NODES_H

#include <stdbool.h>
#include <sys/types.h>
#include <distworker/distworker.h>

#define NODES_MOST 8

/* Registers the job's functions. */
typedef void nodes_program(struct dw_worker *root);

/* Of all rounds; the round's processes write them, the program reads them. */
struct nodes_counts {
	_Atomic unsigned back; /* nodes that were started again */
	_Atomic unsigned deaths, restarts; /* of Workers on nodes */
	_Atomic unsigned right, errors, silent; /* runs; silent: their error was "no answer" */
};

extern struct nodes_counts *nodes_counts;

/* Once, for all rounds: the key, which nodes_forget_key() removes. False: no libcrypto. */
bool nodes_make_key(void);
void nodes_forget_key(void);
/* The same: namespaces and links. False: they cannot be made, and nodes are on loopback. */
bool nodes_make_nets(void);

/* How the network to a node can break; nodes_heal() ends it. Not where nets were not made. */
enum nodes_break { BREAK_LINK_HERE, BREAK_LINK_THERE, BREAK_QUESTIONS, BREAK_ANSWERS, BREAKS };
void nodes_break(unsigned i, enum nodes_break how);
void nodes_heal(unsigned i, enum nodes_break how);

/* Of a round. They go when this process does. */
void nodes_start(unsigned count, nodes_program *program);
const char *nodes_address(unsigned i);
void nodes_stop(void);
/* Whether that process is a keeper of a node. */
bool nodes_is_keeper(pid_t pid);

#endif
