/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Faults on demand. Rules are read at open and never change; the counts are the
 * device's. A hang and a delay are waits in the kernel, not loops.
 */
#include <ctype.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/text.h"
#include "internal.h"

int fault_parse(const struct kit_option *option, struct fault_rule *rule,
		struct dw_chip_error *error)
{
	char *end;

	rule->on = true;
	if (!isdigit((unsigned char)option->value[0])) {
		if (option->value[0] == '\0' || strlen(option->value) >= sizeof(rule->kernel))
			return kit_fail(
				error, -EINVAL,
				"driver option %s=%s: a number N (that call), N+ (from it on) or a "
				"kernel's name is wanted",
				option->key, text_short(option->value));
		strcpy(rule->kernel, option->value);
		return 0;
	}
	errno = 0;
	rule->at = strtoull(option->value, &end, 10);
	rule->onwards = *end == '+';
	if (errno || rule->at == 0 || end[rule->onwards] != '\0')
		return kit_fail(
			error, -EINVAL,
			"driver option %s=%s: a number N from 1 (that call), N+ (from it on) or a "
			"kernel's name is wanted",
			option->key, text_short(option->value));
	return 0;
}

bool fault_hits(const struct fault_rule *rule, uint64_t number, const char *kernel)
{
	if (!rule->on)
		return false;
	if (rule->kernel[0])
		return kernel && strcmp(rule->kernel, kernel) == 0;
	return number && (number == rule->at || (rule->onwards && number > rule->at));
}

/* Waits for a word that no thread changes. `until` NULL: for ever. */
static void block_until(const struct timespec *until)
{
	uint32_t word = 0;

	for (;;) {
		long status = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, until, NULL,
				      FUTEX_BITSET_MATCH_ANY);

		if (status < 0 && errno == ETIMEDOUT)
			return;
	}
}

int fault_kernel(const struct faults *faults, uint64_t number, const char *kernel,
		 struct dw_chip_error *error)
{
	if (fault_hits(&faults->crash, number, kernel)) {
		volatile uint32_t *volatile wild = NULL;

		*wild = 1;	/* like a kernel with a wild pointer */
	}
	if (fault_hits(&faults->hang, number, kernel))
		block_until(NULL);
	if (fault_hits(&faults->fail, number, kernel))
		return kit_fail(error, -EIO, "kernel \"%s\" failed on demand (driver option fail=)",
				kernel);
	return 0;
}

void fault_delay(const struct faults *faults)
{
	struct timespec until;
	uint64_t ns;

	if (!faults->delay_ns)
		return;
	ns = now_ns() + faults->delay_ns;
	until.tv_sec = (time_t)(ns / 1000000000u);
	until.tv_nsec = (long)(ns % 1000000000u);
	block_until(&until);
}

int fault_parse_function(const struct kit_option *option, struct faults *faults,
			 struct dw_chip_error *error)
{
	static const char *const functions[] = {
		"enumerate", "open", "properties", "load", "unload", "alloc", "free", "copy_in",
		"copy_out", "copy_within", "run", "close",
	};

	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++)
		if (strcmp(option->value, functions[i]) == 0) {
			strcpy(faults->hang_in, option->value);
			return 0;
		}
	return kit_fail(error, -EINVAL,
			"driver option hang_in=%s: enumerate, open, properties, load, unload, "
			"alloc, free, copy_in, copy_out, copy_within, run or close is wanted",
			text_short(option->value));
}

void fault_function(const struct faults *faults, const char *function)
{
	if (faults->hang_in[0] && strcmp(faults->hang_in, function) == 0)
		block_until(NULL);
}
