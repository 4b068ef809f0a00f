// SPDX-License-Identifier: GPL-2.0-only
/*
 * Linked into a copy of the module that is compiled with -fsanitize-coverage=trace-pc, for kernels
 * without KCOV: the parameter `places` tells which of the compiler's calls were reached, one bit
 * for each four bytes of code behind the function below, which is the first of the module.
 */
#include <linux/bitmap.h>
#include <linux/kernel.h>
#include <linux/module.h>

#define GRAIN		4
#define PLACES		(14 << 10)	/* in hexadecimal digits they fit into one page */

void __sanitizer_cov_trace_pc(void);

static DECLARE_BITMAP(reached, PLACES);

void notrace __sanitizer_cov_trace_pc(void)
{
	unsigned long place = (_RET_IP_ - (unsigned long)__sanitizer_cov_trace_pc) / GRAIN;

	if (place < PLACES && !test_bit(place, reached))
		set_bit(place, reached);
}

static int places_get(char *buffer, const struct kernel_param *kp)
{
	unsigned int i;

	for (i = 0; i < PLACES / 8; i++)
		sprintf(buffer + 2 * i, "%02x", ((u8 *)reached)[i]);
	return 2 * i;
}

static const struct kernel_param_ops places_ops = {
	.get = places_get,
};

module_param_cb(places, &places_ops, NULL, 0400);
MODULE_PARM_DESC(places, "of the code that were reached");
