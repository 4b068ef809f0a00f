/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Texts for the codes that the runtime returns, and the rule that says when a device that keeps
 * failing is lost: no code of the runtime tells that. Both interfaces have the same codes: negative
 * ones are the runtime's, positive ones the vendor's driver's.
 */
#include "internal.h"

struct code {
	int code;
	const char *meaning;
};

static const struct code negative[] = {
	{ -1, "a general failure, or the orchestrator's error 1" },
	{ -2, "unsupported, or the orchestrator's error 2" },
	{ -3, "incompatible, or the orchestrator's error 3" },
	{ -5, "the orchestrator's error 5: invalid arguments" },
	{ -8, "the orchestrator's error 8: it waited for a tensor" },
	{ -9, "the orchestrator's error 9: an explicit fatal error" },
	{ -100, "the scheduler's error 100: a time-out" },
};

/* The names that the vendor's documentation has for codes of its driver. */
static const struct code positive[] = {
	{ 107001, "invalid device id" },
	{ 207001, "no device memory" },
	{ 507000, "internal error" },
	{ 507010, "lost heartbeat of the device" },
	{ 507014, "a core ran into its time-out" },
	{ 507015, "an exception on a core" },
	{ 507017, "the device's CPU ran into its time-out" },
	{ 507018, "an exception on the device's CPU" },
	{ 507899, "internal error of the driver" },
};

static const char *meaning_of(const struct code *codes, size_t count, int code)
{
	for (size_t i = 0; i < count; i++)
		if (codes[i].code == code)
			return codes[i].meaning;
	return NULL;
}

const char *pto_code_text(int code, char to[PTO_CODE_BYTES])
{
	const char *meaning = code < 0 ?
		meaning_of(negative, sizeof(negative) / sizeof(negative[0]), code) :
		meaning_of(positive, sizeof(positive) / sizeof(positive[0]), code);

	if (code > 0)
		snprintf(to, PTO_CODE_BYTES, "a code of the vendor's%s%s", meaning ? ": " : "",
			 meaning ? meaning : "");
	else if (meaning)
		snprintf(to, PTO_CODE_BYTES, "%s", meaning);
	else if (code >= -11)
		snprintf(to, PTO_CODE_BYTES, "the orchestrator's error %d", -code);
	else if (code <= -100 && code >= -103)
		snprintf(to, PTO_CODE_BYTES, "the scheduler's error %d", -code);
	else
		snprintf(to, PTO_CODE_BYTES, "an unknown code");
	return to;
}

int pto_run_failed(struct dw_chip_device *device, const struct dw_chip_call *call,
		   const char *name, int code, const char *hint, struct dw_chip_error *error)
{
	char room[PTO_CODE_BYTES];
	const char *meaning = pto_code_text(code, room);

	device->failures++;
	if (device->lost_after && device->failures >= device->lost_after)
		return kit_fail(
			error, -ENODEV,
			"pto device %u is lost: %u runs in a row have failed (driver option "
			"lost_after=%u), the last when %s() returned %d for \"%s\": %s",
			device->id, device->failures, device->lost_after, name, code,
			call->image->entry, meaning);
	return kit_fail(error, -EIO, "%s() returned %d for \"%s\" on pto device %u: %s%s", name,
			code, call->image->entry, device->id, meaning, hint);
}
