// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Options of a hub, the choice of the provider, and why the module is not used. */
#include <errno.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "mailbox/provider.h"
#include "task/error.h"
#include "unit.h"

static struct hub *hub;

TEST(options_that_make_no_sense_are_refused_by_name)
{
	static const struct { struct hub_options options; const char *text;
	} bad[] = {
		{ { .mailboxes = 0, .depth = 8, .frame_bytes = 128 }, "mailboxes is 0" },
		{ { .mailboxes = 1u << 30, .depth = 8, .frame_bytes = 128 }, "mailboxes is" },
		{ { .mailboxes = 1, .depth = 0, .frame_bytes = 128 }, "depth is 0" },
		{ { .mailboxes = 1, .depth = 1, .frame_bytes = 128 }, "depth is 1" },
		{ { .mailboxes = 1, .depth = 12, .frame_bytes = 128 }, "depth is 12" },
		{ { .mailboxes = 1, .depth = 1u << 31, .frame_bytes = 128 }, "depth is" },
		{ { .mailboxes = 1, .depth = 8, .frame_bytes = 0 }, "frame_bytes is 0" },
		{ { .mailboxes = 1, .depth = 8, .frame_bytes = 100 }, "frame_bytes is 100" },
		{ { .mailboxes = 1, .depth = 8, .frame_bytes = 1u << 31 }, "frame_bytes is" },
		{ { .mailboxes = 1, .depth = 32768, .frame_bytes = 1u << 20 }, "more than 1 GiB" },
		{ { .provider = (enum dw_provider)3,
		    .mailboxes = 1,
		    .depth = 8,
		    .frame_bytes = 128 },
		  "provider 3" },
	};

	hub = (void *)4711;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_EQ(hub_create(&bad[i].options, &hub), -EINVAL);
		CHECK_STR(dw_strerror_last(), bad[i].text);
		CHECK(hub == (void *)4711);
	}
}

/* A depth and frame size that fill pages exactly once left a single place for all `done` words. */
TEST(done_words_of_many_mailboxes_do_not_share_a_set_of_the_cache)
{
	enum { COUNT = 512, SETS = 64, SET_BYTES = 64 };
	static const uint32_t frame_bytes[] = { 128, 320, 512, 576, 832, 1024 };
	uint32_t tried = 0;

	for (uint32_t depth = 2; depth <= 128; depth *= 2) {
		for (size_t f = 0; f < sizeof(frame_bytes) / sizeof(frame_bytes[0]); f++) {
			struct hub_options options = { .mailboxes = COUNT, .depth = depth,
						       .frame_bytes = frame_bytes[f] };
			uint32_t in_set[SETS] = { 0 }, most = 0;

			if (!CHECK_EQ(hub_create(&options, &hub), 0))
				continue;
			for (uint32_t i = 0; i < COUNT; i++) {
				uintptr_t at = (uintptr_t)&hub_mailbox(hub, i)->done;
				uint32_t set = at / SET_BYTES % SETS;

				/* The ring stays within the mailbox's own pages. */
				CHECK(hub_header_offset(hub, i) + hub->layout.bytes <= hub->stride);
				most = ++in_set[set] > most ? in_set[set] : most;
			}
			if (!CHECK(most <= COUNT / 8))
				printf("# depth %u, frames of %u: %u of %d in one set\n", depth,
				       frame_bytes[f], most, COUNT);
			hub_destroy(hub);
			tried++;
		}
	}
	CHECK_EQ(tried, 42);
}

TEST(the_environment_chooses_the_provider)
{
	struct hub_options options = { .mailboxes = 1, .depth = 2, .frame_bytes = 64 };
	char *saved = getenv("DW_PROVIDER") ? strdup(getenv("DW_PROVIDER")) : NULL;
	struct dw_provider_info info = { .size = sizeof(info) };

	setenv("DW_PROVIDER", "futex", 1);
	if (CHECK_EQ(hub_create(&options, &hub), 0)) {
		CHECK_EQ(hub_provider(hub), DW_PROVIDER_FUTEX);
		hub_destroy(hub);
	}
	CHECK_EQ(dw_provider_query(&info), 0);
	CHECK_EQ(info.provider, DW_PROVIDER_FUTEX);
	setenv("DW_PROVIDER", "sockets", 1);
	CHECK_EQ(hub_create(&options, &hub), -EINVAL);
	CHECK_STR(dw_strerror_last(), "\"sockets\"; it can be");
	/* The caller's choice comes first. */
	options.provider = DW_PROVIDER_FUTEX;
	if (CHECK_EQ(hub_create(&options, &hub), 0))
		hub_destroy(hub);
	if (access("/dev/distworker", F_OK)) {
		options.provider = DW_PROVIDER_KERNEL;
		CHECK_EQ(hub_create(&options, &hub), -ENOSYS);
		CHECK_STR(dw_strerror_last(), "provider \"kernel\": there is no /dev/distworker");
		setenv("DW_PROVIDER", "kernel", 1);
		CHECK_EQ(dw_provider_query(&info), -ENOSYS);
		CHECK_EQ(info.provider, DW_PROVIDER_KERNEL);
		CHECK_STR(info.reason,
			  "DW_PROVIDER=kernel cannot be met: there is no /dev/distworker");
		CHECK_STR(dw_strerror_last(), info.reason);
	}
	setenv("DW_PROVIDER", "polling", 1);
	CHECK_EQ(dw_provider_query(&info), -EINVAL);
	CHECK_STR(info.reason, "DW_PROVIDER is \"polling\"");
	if (saved)
		setenv("DW_PROVIDER", saved, 1);
	else
		unsetenv("DW_PROVIDER");
	free(saved);
}

/* Compiled with an older, shorter struct. */
TEST(provider_query_fits_the_callers_struct)
{
	struct dw_provider_info info;

	memset(&info, 0xcc, sizeof(info));
	info.size = offsetof(struct dw_provider_info, reason) + 10;
	CHECK_EQ(dw_provider_query(&info), 0);
	CHECK_EQ(strlen(info.reason), 9);
	CHECK_EQ((unsigned char)info.reason[10], 0xcc);
	info.size = 4;
	CHECK_EQ(dw_provider_query(&info), -EINVAL);
	CHECK_EQ(dw_provider_query(NULL), -EINVAL);
}

TEST(why_the_module_is_not_used_is_one_sentence)
{
	struct dw_provider_info info = { .size = sizeof(info) };
	char path[] = "/tmp/distworker-unit-XXXXXX";
	int fd = mkstemp(path), status = 0;
	pid_t pid;

	REQUIRE(fd >= 0);
	close(fd);
	provider_describe("/nonexistent/distworker", &info);
	CHECK_EQ(info.provider, getenv("DW_PROVIDER") && *getenv("DW_PROVIDER") == 'k' ?
				DW_PROVIDER_KERNEL : DW_PROVIDER_FUTEX);
	CHECK_EQ(info.module_abi, 0);
	CHECK_STR(info.reason, "/nonexistent/distworker");
	CHECK_STR(info.reason, !access("/sys/module/distworker", F_OK) ? "container" :
			       access("/proc/modules", F_OK) ? "no loadable modules" : "modprobe");
	provider_describe(path, &info);
	CHECK_STR(info.reason, "is not the device of the distworker module");
	if (getuid() == 0) {
		chmod(path, 0640);
		pid = fork();
		if (pid == 0) {
			if (setgid(65534) || setuid(65534))
				_exit(77);
			provider_describe(path, &info);
			_exit(strstr(info.reason, "permission denied") &&
			      strstr(info.reason, "group root, mode 0640") ? 0 : 1);
		}
		waitpid(pid, &status, 0);
		CHECK_EQ(status, 0);
	}
	unlink(path);
}
