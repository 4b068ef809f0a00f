/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Synchronous runs with the present interface. After a launch of unknown outcome a context refuses
 * every run. No code says so; but a run that could not be prepared has not begun, so that the first
 * run after a failed one goes in steps, and a context that does not prepare it is made anew.
 */
#include "present.h"

int present_prepare(struct dw_chip_device *device, const struct dw_chip_call *call,
		    unsigned int storage, bool may_reopen, struct dw_chip_error *error)
{
	struct present *present = device->state;
	void *memory = present->storages[storage].memory;
	int status, code = present->host.prepare(present->context, memory, call->image->id,
						 &present->args, &present->config,
						 &present->descriptor);

	if (code && may_reopen && present->suspect) {
		status = present_reopen(device, error);
		if (status < 0)
			return status;
		code = present->host.prepare(present->context, memory, call->image->id,
					     &present->args, &present->config,
					     &present->descriptor);
		if (code == 0)
			kit_fail(error, 0,
				 "pto device %u: its context took no run after a failed one, and "
				 "was made anew",
				 device->id);
	}
	if (code)
		return pto_run_failed(device, call, "simpler_prepare_run", code, "", error);
	/* It does take runs. */
	present->suspect = false;
	return 0;
}

static int run_in_steps(struct dw_chip_device *device, const struct dw_chip_call *call,
			struct dw_chip_error *error)
{
	struct present *present = device->state;
	void *memory = present->storages[0].memory;
	const char *name = "simpler_launch_run";
	int code, last, status = present_prepare(device, call, 0, true, error);

	if (status < 0)
		return status;
	code = present->host.launch(present->context, memory);
	if (code == 0) {
		name = "simpler_wait_run";
		code = present->host.wait(present->context, memory);
	}
	last = present->host.finalize(present->context, memory);
	if (code == 0 && last) {
		name = "simpler_finalize_run";
		code = last;
	}
	if (code) {
		present->suspect = true;
		error->text[0] = '\0';
		return pto_run_failed(device, call, name, code, "", error);
	}
	return 0;
}

int present_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		struct dw_chip_error *error)
{
	struct present *present = device->state;
	int code, status = present_fill(device, call, 0, error);

	if (status < 0)
		return status;
	device->calls++;
	if (present->suspect) {
		status = run_in_steps(device, call, error);
		if (status < 0)
			return status;
	} else {
		code = present->host.run(present->context, present->storages[0].memory,
					 call->image->id, &present->args, &present->config,
					 &present->descriptor);
		if (code) {
			present->suspect = true;
			return pto_run_failed(device, call, "simpler_run", code, "", error);
		}
	}
	device->failures = 0;
	present_remark(device, call, error);
	return 0;
}
