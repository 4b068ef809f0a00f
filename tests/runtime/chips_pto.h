/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pto driver in runtime tests: the files and options of the stand-in runtime, its image, its
 * calls.
 */
#ifndef TESTS_CHIPS_PTO_H
#define TESTS_CHIPS_PTO_H

#include "chips.h"
#include "../unit/pto_objects.h"

static char pto_folder[] = "/tmp/distworker-pto-XXXXXX", pto_options[4 * PATH_MAX], pto_log[64];

static inline void pto_file(const char *name, const char *text)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", pto_folder, name);
	file = fopen(path, "we");
	if (!CHECK(file && fputs(text, file) >= 0))
		exit(1);
	fclose(file);
}

/* What orchestration objects export for the runtime that is prepared. */
static const char *pto_exports = "orchestrate configure";

/*
 * Prepares a stand-in runtime, fixtures/pto_runtime.c or fixtures/pto_present.c; `mode` says how it
 * misbehaves.
 */
static inline void pto_prepare_runtime(const char *runtime, const char *mode)
{
	bool present = strcmp(runtime, "pto_present") == 0;

	pto_exports = present ? "orchestrate configure simpler_host_log_bind_state" :
				"orchestrate configure";
	if (strstr(pto_folder, "XXXXXX") && !mkdtemp(pto_folder))
		abort();
	pto_file("aicpu", "the aicpu binary");
	pto_file("aicore", "the aicore binary, longer");
	snprintf(pto_log, sizeof(pto_log), "%s/log", pto_folder);
	unlink(pto_log);
	setenv("PTO_LOG", pto_log, 1);
	setenv("PTO_MODE", mode, 1);
	snprintf(pto_options, sizeof(pto_options),
		 "host=%s,aicpu=%s/aicpu,aicore=%s/aicore,sim_context=%s", fixture(runtime),
		 pto_folder, pto_folder, fixture("pto_context"));
}

static inline void pto_prepare(const char *mode)
{
	pto_prepare_runtime("pto_runtime", mode);
}

static inline void pto_clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "%s/aicpu", pto_folder);
	unlink(command);
	snprintf(command, sizeof(command), "%s/aicore", pto_folder);
	unlink(command);
	unlink(pto_log);
	rmdir(pto_folder);
	strcpy(strrchr(pto_folder, '-'), "-XXXXXX");
}

static inline dw_callable pto_image(struct rig *rig)
{
	static const int32_t signature[9] = { DW_DIR_IN, DW_DIR_IN, DW_DIR_OUT };
	struct dw_pto_image_options build = DW_OPTIONS(dw_pto_image_options);
	struct dw_image_options options = DW_OPTIONS(dw_image_options);
	unsigned char *orchestration = pto_object_make(pto_exports, 600, 0);
	dw_callable callable = 0;
	void *image = NULL;

	build.data = orchestration;
	build.bytes = 600;
	build.entry = "orchestrate";
	build.config_entry = "configure";
	build.signature = signature;
	build.signature_count = 9;
	CHECK_EQ(dw_pto_image_build(&build, &image, &options.bytes), 0);
	free(orchestration);
	options.driver = "pto";
	options.entry = "orchestrate";
	options.data = image;
	if (!CHECK_EQ(dw_callable_register_image(rig->node, &options, &callable), 0))
		printf("# %s\n", dw_strerror_last());
	free(image);
	return callable;
}

static inline struct call pto_call(const struct rig *rig, dw_callable callable, unsigned part)
{
	struct call call = add_call(rig, callable, part);
	const uint64_t scalars[6] = { 3, 3, 0, 600, 0, 0xabcd0005 };

	memcpy(call.scalar, scalars, sizeof(scalars));
	call.scalars = 6;
	call.options.config.block_dim = call.options.config.aicpu_thread_num = 3;
	return call;
}

#endif
