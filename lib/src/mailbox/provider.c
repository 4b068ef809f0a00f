// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Chooses the provider: the caller's wish, else DW_PROVIDER, else the module when it is there and
 * understood, else futexes. Explains the choice to people in one sentence.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "base/text.h"
#include "mailbox/provider.h"
#include "task/environment.h"
#include "task/error.h"
#include "task/options.h"

#define DEVICE "/dev/distworker"

static int read_environment(enum dw_provider *wanted)
{
	static const enum dw_provider providers[] = {
		DW_PROVIDER_AUTO, DW_PROVIDER_KERNEL, DW_PROVIDER_FUTEX,
	};
	int number = environment_word(VARIABLE_PROVIDER, 0);

	if (number < 0)
		return number;
	*wanted = providers[number];
	return 0;
}

int provider_choose(enum dw_provider wanted, const struct provider_ops **ops, bool *forced)
{
	struct distworker_query query;
	int error;

	if ((unsigned int)wanted > DW_PROVIDER_FUTEX)
		return error_set(-EINVAL, "provider %d is unknown", (int)wanted);
	if (wanted == DW_PROVIDER_AUTO) {
		error = read_environment(&wanted);
		if (error)
			return error;
	}
	*forced = wanted != DW_PROVIDER_AUTO;
	if (wanted == DW_PROVIDER_FUTEX) {
		*ops = &futex_provider;
		return 0;
	}
	error = kernel_probe(DEVICE, &query);
	if (!error) {
		*ops = &kernel_provider;
		return 0;
	}
	if (wanted == DW_PROVIDER_KERNEL)
		return error_prefix(error, "provider \"kernel\": ");
	log_at(LOG_INFO, "using futexes: %s", error_text());
	*ops = &futex_provider;
	return 0;
}

int provider_describe(const char *path, struct dw_provider_info *info)
{
	struct distworker_query query = { 0 };
	enum dw_provider wanted;
	int error = read_environment(&wanted);

	if (error) {
		text_format(info->reason, sizeof(info->reason), "%s", error_text());
		return error;
	}
	error = kernel_probe(path, &query);
	info->module_abi = query.abi_version;
	info->module_features = query.features;
	info->provider = error ? DW_PROVIDER_FUTEX : DW_PROVIDER_KERNEL;
	if (error)
		text_format(info->reason, sizeof(info->reason), "futexes are used: %s",
			    error_text());
	else
		snprintf(info->reason, sizeof(info->reason),
			 "the distworker module is used (ABI version %u, features %#llx)",
			 query.abi_version, (unsigned long long)query.features);
	if (wanted == DW_PROVIDER_AUTO)
		return 0;
	info->provider = wanted;
	if (wanted == DW_PROVIDER_FUTEX && !error)
		snprintf(info->reason, sizeof(info->reason),
			 "futexes are used, since DW_PROVIDER=futex says so; the module is there");
	if (wanted != DW_PROVIDER_KERNEL || !error)
		return 0;
	error_prefix(error, "DW_PROVIDER=kernel cannot be met: ");
	text_format(info->reason, sizeof(info->reason), "%s", error_text());
	return error;
}

int dw_provider_query(struct dw_provider_info *info)
{
	struct dw_provider_info answer = { .size = sizeof(answer) };
	int result = options_check_output(info, "dw_provider_info");

	if (result < 0)
		return result;
	result = provider_describe(DEVICE, &answer);
	options_write(info, &answer, sizeof(answer));
	if (info->size > offsetof(struct dw_provider_info, reason) && info->size < sizeof(answer))
		info->reason[info->size - offsetof(struct dw_provider_info, reason) - 1] = '\0';
	return result;
}
