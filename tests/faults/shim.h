/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Faults on demand: the n-th call that libdistworker makes of malloc, mmap, fork, … fails. The
 * calls are counted over all processes of a tree, in memory that they share. Only calls
 * that come from the library's own code count.
 */
#ifndef TESTS_FAULTS_SHIM_H
#define TESTS_FAULTS_SHIM_H

#include <stdint.h>

void shim_init(void);
/* The n-th call from now on fails; 0: none, but they are counted. */
void shim_arm(uint64_t n);
/* No more faults; what has failed is kept. */
void shim_disarm(void);
/* The function that failed, or NULL when it has not come to that. */
const char *shim_failed(void);
/* Blocks that the library holds in this process. */
int64_t shim_live_blocks(void);

#endif
