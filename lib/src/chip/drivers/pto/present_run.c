/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Synchronous runs with the present interface. After a launch of unknown outcome a context refuses
 * every run. No code says so. But a run that could not be prepared has not begun, so the first run
 * after a failed one is done in steps, and a context that cannot prepare it is replaced.
 */
#include "present.h"

/* Stages and prepares a call. Negative: it is refused. *code: what function `*name` returned. */
static int prepare_once(struct dw_chip_device *device, const struct dw_chip_call *call,
			unsigned int storage, const char **name, int *code,
			struct dw_chip_error *error)
{
	struct present *present = device->state;
	int status;

	*name = "copy_to_device_ctx";
	status = present_stage(device, call, storage, code, error);
	if (status < 0 || *code)
		return status;
	*name = "simpler_prepare_run";
	*code = present->host.prepare(present->context, present->storages[storage].memory,
				      call->image->id, &present->args, &present->config,
				      &present->descriptor);
	return 0;
}

int present_prepare(struct dw_chip_device *device, const struct dw_chip_call *call,
		    unsigned int storage, bool may_reopen, struct dw_chip_error *error)
{
	struct present *present = device->state;
	const char *name = "";
	int code = 0, status = prepare_once(device, call, storage, &name, &code, error);

	if (status == 0 && code && may_reopen && present->suspect) {
		status = present_reopen(device, error);
		if (status == 0)
			status = prepare_once(device, call, storage, &name, &code, error);
		if (status == 0 && code == 0)
			kit_fail(error, 0,
				 "pto device %u: its context took no run after a failed one, and "
				 "was made anew",
				 device->id);
	}
	if (status < 0)
		return status;
	if (code)
		return pto_run_failed(device, call, name, code, "", error);
	/* The context still takes runs. */
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
	device->calls++;
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
	if (code == 0) {
		name = "copy_from_device_ctx";
		code = present_unstage(device, call);
	}
	if (code) {
		present->suspect = true;
		error->text[0] = '\0';
		return pto_run_failed(device, call, name, code, "", error);
	}
	return 0;
}

static int run_at_once(struct dw_chip_device *device, const struct dw_chip_call *call,
		       struct dw_chip_error *error)
{
	struct present *present = device->state;
	const char *name = "copy_to_device_ctx";
	int code, status = present_stage(device, call, 0, &code, error);

	if (status < 0)
		return status;
	device->calls++;
	if (code == 0) {
		name = "simpler_run";
		code = present->host.run(present->context, present->storages[0].memory,
					 call->image->id, &present->args, &present->config,
					 &present->descriptor);
	}
	if (code == 0) {
		name = "copy_from_device_ctx";
		code = present_unstage(device, call);
	}
	if (code == 0)
		return 0;
	present->suspect = true;
	return pto_run_failed(device, call, name, code, "", error);
}

int present_run(struct dw_chip_device *device, const struct dw_chip_call *call,
		struct dw_chip_error *error)
{
	struct present *present = device->state;
	int status = present->suspect ? run_in_steps(device, call, error) :
		     run_at_once(device, call, error);

	if (status < 0)
		return status;
	device->failures = 0;
	present_remark(device, call, error);
	return 0;
}
