/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Faults of the simulated chip, on demand. */
#ifndef DW_CHIP_SIM_FAULT_H
#define DW_CHIP_SIM_FAULT_H

#include "chip/driver_kit.h"

/* When a fault happens: at call (or copy) number `at`, from it on, or for one kernel. */
struct fault_rule {
	bool on, onwards;
	uint64_t at;
	char kernel[256];
};

struct faults {
	struct fault_rule fail, hang, crash, copy_fail;
	uint64_t lost_after;		/* 0: never */
	uint64_t delay_ns;
	bool by_kernel;			/* one of the rules names a kernel */
	char hang_in[16];		/* a function of the table that never returns; "": none */
};

/* "N", "N+" or a kernel's name. */
int fault_parse(const struct kit_option *option, struct fault_rule *rule,
		struct dw_chip_error *error);
bool fault_hits(const struct fault_rule *rule, uint64_t number, const char *kernel);
/*
 * Crashes or hangs the calling thread, or words the failure: 0 or -EIO. `number` 0: by name only.
 */
int fault_kernel(const struct faults *faults, uint64_t number, const char *kernel,
		 struct dw_chip_error *error);
void fault_delay(const struct faults *faults);
/* Never returns from the function of that name, if option hang_in names it. */
void fault_function(const struct faults *faults, const char *function);
/* "open", "load", …: a function of the table. */
int fault_parse_function(const struct kit_option *option, struct faults *faults,
			 struct dw_chip_error *error);

#endif
