/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Nodes of a round: processes that serve Workers on "other hosts", on loopback. */
#ifndef TESTS_STRESS_NODES_H
#define TESTS_STRESS_NODES_H

#include <stdbool.h>
#include <distworker/distworker.h>

#define NODES_MOST 8

/* Registers the job's functions. */
typedef void nodes_program(struct dw_worker *root);

/* Once, for all rounds: the key, which nodes_forget_key() removes. False: no libcrypto. */
bool nodes_make_key(void);
void nodes_forget_key(void);

/* Of a round. They go when this process does. */
void nodes_start(unsigned count, nodes_program *program);
const char *nodes_address(unsigned i);
void nodes_stop(void);

#endif
