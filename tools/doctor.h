/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What the parts of `distworker doctor` share: the lines of a visit. doctor.c looks at this
 * machine, doctor_host.c at the way to another host.
 */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include <stdbool.h>
#include <distworker/distworker.h>

struct json_object;

struct visit {
	struct json_object *json; /* NULL: lines of text */
	enum dw_verdict worst;
};

struct doctor_options {
	bool json;
	const char *host, *key, *user; /* host NULL: this machine */
	bool ssh;
	double timeout; /* seconds; 0: the library's */
};

/* One line; `remedy` is "" where there is nothing to do. */
void doctor_say(struct visit *visit, enum dw_verdict verdict, const char *subject,
		const char *remedy, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The way to a host, and the node there. Returns a tool_exit. */
int doctor_host(struct visit *visit, const struct doctor_options *options);

#endif
