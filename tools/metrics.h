/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * distworker top --prometheus: the counters of the trees of this machine in Prometheus' text
 * format, once, or over HTTP on the loopback interface. One thread.
 */
#ifndef TOOLS_METRICS_H
#define TOOLS_METRICS_H

#include <stdint.h>
#include <stdio.h>

/* Of process `pid`'s trees; 0: of all that this user may see. A tool_exit. */
int metrics_print(int32_t pid, FILE *out);
/*
 * Answers each request at 127.0.0.1:`port` until it is killed. 0: any free port. The address is
 * printed. A tool_exit.
 */
int metrics_serve(int32_t pid, uint16_t port);

#endif
