// SPDX-License-Identifier: GPL-2.0-only
/*
 * The promises of every call with a struct, tried with each of them: sizes
 * older and newer than this header's, unknown flags, reserved fields, pointers
 * that lead nowhere. A call that fails has done nothing: the same call with
 * good arguments then works.
 */
#include "distworker_test.h"

#define ARGUMENT_BYTES 128

FIXTURE(call)
{
	int device;
	struct hub hub;
	int endpoint;
	int fd;				/* what the call is made on */
	unsigned char *argument;	/* a good one, room behind it, then no memory */
	unsigned char before[ARGUMENT_BYTES];
	size_t size;
};

FIXTURE_VARIANT(call)
{
	unsigned long command;
	size_t size;
	__u32 known_flags;
	int flags;			/* offset, -1: none */
	int reserved;			/* offset, -1: none */
	size_t minimum;			/* 0: the size of this header */
};

#define VARIANT(name, number, type, known, flags_offset, reserved_offset)	\
	FIXTURE_VARIANT_ADD(call, name) {					\
		.command = number, .size = sizeof(struct type),			\
		.known_flags = known, .flags = flags_offset,			\
		.reserved = reserved_offset,					\
	}

#define FLAGS(type) offsetof(struct type, flags)

/* Small enough for any future library to ask for the version. */
FIXTURE_VARIANT_ADD(call, query) {
	.command = DISTWORKER_QUERY, .size = sizeof(struct distworker_query),
	.flags = -1, .reserved = -1, .minimum = 8,
};
VARIANT(hub_setup, DISTWORKER_HUB_SETUP, distworker_hub_setup, DISTWORKER_SETUP_TIMELINES,
	FLAGS(distworker_hub_setup), -1);
VARIANT(mailbox_create, DISTWORKER_MAILBOX_CREATE, distworker_mailbox_create, 0,
	FLAGS(distworker_mailbox_create), -1);
VARIANT(mailbox_bind, DISTWORKER_MAILBOX_BIND, distworker_mailbox_bind, 0,
	FLAGS(distworker_mailbox_bind), -1);
VARIANT(mailbox_rearm, DISTWORKER_MAILBOX_REARM, distworker_mailbox_bind, 0,
	FLAGS(distworker_mailbox_bind), -1);
VARIANT(mailbox_query, DISTWORKER_MAILBOX_QUERY, distworker_mailbox_query, 0,
	FLAGS(distworker_mailbox_query), -1);
VARIANT(hub_wait, DISTWORKER_HUB_WAIT, distworker_hub_wait,
	DISTWORKER_WAIT_WAKE | DISTWORKER_WAIT_NOSPIN, FLAGS(distworker_hub_wait),
	offsetof(struct distworker_hub_wait, reserved));
VARIANT(hub_wake, DISTWORKER_HUB_WAKE, distworker_hub_wake,
	DISTWORKER_WAKE_SELF | DISTWORKER_WAKE_SIBLINGS, FLAGS(distworker_hub_wake), -1);
VARIANT(endpoint_attach, DISTWORKER_ENDPOINT_ATTACH, distworker_endpoint_attach, 0,
	FLAGS(distworker_endpoint_attach), -1);
VARIANT(endpoint_wait, DISTWORKER_ENDPOINT_WAIT, distworker_endpoint_wait,
	DISTWORKER_WAIT_WAKE | DISTWORKER_WAIT_NOSPIN, FLAGS(distworker_endpoint_wait), -1);
VARIANT(timeline_wait, DISTWORKER_TIMELINE_WAIT, distworker_timeline_wait, DISTWORKER_WAIT_NOSPIN,
	FLAGS(distworker_timeline_wait), offsetof(struct distworker_timeline_wait, reserved));

static unsigned long sized(unsigned long command, unsigned int bytes)
{
	return _IOC(_IOC_DIR(command), _IOC_TYPE(command), _IOC_NR(command), bytes);
}

/* A state and arguments with which the call succeeds at once. */
FIXTURE_SETUP(call)
{
	const size_t page = getpagesize();
	unsigned char *memory;

	self->size = variant->size;
	self->device = device_open();
	ASSERT_LE(0, self->device);
	ASSERT_EQ(0, hub_open_with(&self->hub, DISTWORKER_SETUP_TIMELINES, 1, BOX_BYTES));
	self->endpoint = dw_create(self->hub.fd, 0);
	ASSERT_LE(0, self->endpoint);
	self->fd = self->hub.fd;

	memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(memory != MAP_FAILED);
	ASSERT_EQ(0, munmap(memory + page, page));
	self->argument = memory + page - ARGUMENT_BYTES;
	*(__u32 *)self->argument = self->size;

	switch (variant->command) {
	case DISTWORKER_QUERY:
		self->fd = self->device;
		break;
	case DISTWORKER_HUB_SETUP: {
		struct distworker_hub_setup *setup = (void *)self->argument;

		setup->mailboxes = 1;
		setup->mailbox_bytes = BOX_BYTES;
		self->fd = self->device;
		break;
	}
	case DISTWORKER_MAILBOX_CREATE:
		break;
	case DISTWORKER_MAILBOX_BIND:
		((struct distworker_mailbox_bind *)self->argument)->pid = getpid();
		break;
	case DISTWORKER_MAILBOX_REARM:
		ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
		ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
		ASSERT_EQ(0, dw_detach(self->endpoint));
		break;
	case DISTWORKER_HUB_WAIT: {
		struct distworker_hub_wait *wait = (void *)self->argument;

		wait->kick_seen = 1;
		wait->deadline_ns = soon();
		break;
	}
	case DISTWORKER_ENDPOINT_ATTACH:
		ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
		self->fd = self->endpoint;
		break;
	case DISTWORKER_ENDPOINT_WAIT: {
		struct distworker_endpoint_wait *wait = (void *)self->argument;

		ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
		ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
		wait->seen = 1;
		wait->deadline_ns = soon();
		self->fd = self->endpoint;
		break;
	}
	case DISTWORKER_TIMELINE_WAIT:
		/* Of count 0, which is reached. */
		ASSERT_EQ(0, dw_bind(self->hub.fd, 0, getpid(), NULL));
		ASSERT_EQ(0, dw_attach(self->endpoint, NULL));
		self->fd = self->endpoint;
		break;
	}
	memcpy(self->before, self->argument, ARGUMENT_BYTES);
}

FIXTURE_TEARDOWN(call)
{
}

#define MAKE_CALL(pointer) dw_ioctl(self->fd, variant->command, pointer)
/* The same from a header in which the struct is that long. */
#define MAKE_SIZED(bytes, pointer) dw_ioctl(self->fd, sized(variant->command, bytes), pointer)
#define UNTOUCHED() (memcmp(self->before, self->argument, ARGUMENT_BYTES) == 0)
#define REMEMBER() memcpy(self->before, self->argument, ARGUMENT_BYTES)

TEST_F(call, of_this_size_works_and_writes_no_byte_behind_it)
{
	memset(self->argument + self->size, POISON, ARGUMENT_BYTES - self->size);
	ASSERT_EQ(0, MAKE_CALL(self->argument));
	for (size_t i = self->size; i < ARGUMENT_BYTES; i++)
		ASSERT_EQ(POISON, self->argument[i]);
	EXPECT_EQ(self->size, *(__u32 *)self->argument);
}

TEST_F(call, from_a_newer_header_works_if_the_new_fields_are_zero)
{
	*(__u32 *)self->argument = self->size + 8;
	ASSERT_EQ(0, MAKE_SIZED(self->size + 8, self->argument));
	/* They stay defined: zero is the value that an old kernel gives. */
	for (size_t i = self->size; i < self->size + 8; i++)
		EXPECT_EQ(0, self->argument[i]);
}

TEST_F(call, from_a_newer_header_that_uses_a_new_field_is_e2big)
{
	for (size_t byte = 0; byte < 16; byte += 5) {
		*(__u32 *)self->argument = self->size + 16;
		self->argument[self->size + byte] = 1;
		REMEMBER();
		EXPECT_EQ(-E2BIG, MAKE_SIZED(self->size + 16, self->argument));
		EXPECT_TRUE(UNTOUCHED());
		self->argument[self->size + byte] = 0;
	}
	*(__u32 *)self->argument = self->size;
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST_F(call, of_the_largest_size_that_a_command_can_tell_works)
{
	const size_t most = _IOC_SIZEMASK;
	unsigned char *memory = mmap(NULL, most, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(memory, self->argument, self->size);
	*(__u32 *)memory = most;
	memory[most - 1] = 1;
	EXPECT_EQ(-E2BIG, MAKE_SIZED(most, memory));
	memory[most - 1] = 0;
	EXPECT_EQ(0, MAKE_SIZED(most, memory));
}

TEST_F(call, smaller_than_the_first_version_is_einval)
{
	const size_t minimum = variant->minimum ?: self->size;

	for (__u32 size = 0; size < minimum; size++) {
		*(__u32 *)self->argument = size;
		REMEMBER();
		ASSERT_EQ(-EINVAL, MAKE_SIZED(size, self->argument));
		ASSERT_TRUE(UNTOUCHED());
	}
	*(__u32 *)self->argument = self->size;
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST(query_of_any_later_size_gets_as_much_as_it_has_room_for)
{
	struct distworker_query whole, part;
	int fd = device_open();

	ASSERT_EQ(0, dw_query(fd, &whole));
	for (__u32 size = 8; size < sizeof(whole); size++) {
		memset(&part, POISON, sizeof(part));
		part.size = size;
		ASSERT_EQ(0, dw_ioctl(fd, sized(DISTWORKER_QUERY, size), &part));
		ASSERT_EQ(size, part.size);
		ASSERT_EQ(0, memcmp(4 + (char *)&whole, 4 + (char *)&part, size - 4));
		for (__u32 i = size; i < sizeof(part); i++)
			ASSERT_EQ(POISON, ((unsigned char *)&part)[i]);
	}
}

TEST_F(call, with_an_unknown_flag_is_einval)
{
	if (variant->flags < 0)
		return;
	for (int bit = 0; bit < 32; bit++) {
		if (variant->known_flags >> bit & 1)
			continue;
		*(__u32 *)(self->argument + variant->flags) = 1u << bit;
		REMEMBER();
		ASSERT_EQ(-EINVAL, MAKE_CALL(self->argument));
		ASSERT_TRUE(UNTOUCHED());
	}
	*(__u32 *)(self->argument + variant->flags) = 0;
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST_F(call, with_a_reserved_field_in_use_is_einval)
{
	if (variant->reserved < 0)
		return;
	for (int bit = 0; bit < 32; bit++) {
		*(__u32 *)(self->argument + variant->reserved) = 1u << bit;
		REMEMBER();
		ASSERT_EQ(-EINVAL, MAKE_CALL(self->argument));
		ASSERT_TRUE(UNTOUCHED());
	}
	*(__u32 *)(self->argument + variant->reserved) = 0;
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST_F(call, with_a_pointer_to_nowhere_is_efault)
{
	unsigned char *end = self->argument + ARGUMENT_BYTES;

	EXPECT_EQ(-EFAULT, MAKE_CALL(NULL));
	EXPECT_EQ(-EFAULT, MAKE_CALL((void *)1));
	EXPECT_EQ(-EFAULT, MAKE_CALL((void *)-4096L));
	EXPECT_EQ(-EFAULT, MAKE_CALL(end));
	/* The size can be read, and the rest cannot. */
	memcpy(end - 8, &self->size, 4);
	EXPECT_EQ(-EFAULT, MAKE_CALL(end - 8));
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST_F(call, with_outputs_that_cannot_be_written_is_efault_and_leaves_no_descriptor)
{
	const size_t page = getpagesize();
	int lowest = dup(0);

	close(lowest);
	ASSERT_EQ(0, mprotect((void *)((uintptr_t)self->argument & ~(page - 1)), page, PROT_READ));
	EXPECT_EQ(-EFAULT, MAKE_CALL(self->argument));
	EXPECT_EQ(lowest, dup(0));
	close(lowest);
	ASSERT_EQ(0, mprotect((void *)((uintptr_t)self->argument & ~(page - 1)), page,
			      PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

/* The size in the command was ignored, and a struct's length could be read twice, and differ. */
TEST_F(call, of_which_command_and_struct_disagree_about_the_size_is_einval)
{
	static const int off[] = { -8, -1, 1, 8, 40 };

	for (unsigned int i = 0; i < ARRAY_SIZE(off); i++) {
		REMEMBER();
		EXPECT_EQ(-EINVAL, MAKE_SIZED(self->size + off[i], self->argument));
		EXPECT_TRUE(UNTOUCHED());
		*(__u32 *)self->argument = self->size + off[i];
		EXPECT_EQ(-EINVAL, MAKE_CALL(self->argument));
		*(__u32 *)self->argument = self->size;
	}
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

TEST_F(call, of_another_direction_is_enotty)
{
	static const unsigned int directions[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE };

	for (unsigned int i = 0; i < ARRAY_SIZE(directions); i++) {
		unsigned long other = _IOC(directions[i], DISTWORKER_IOC_MAGIC,
					   _IOC_NR(variant->command), self->size);

		EXPECT_EQ(-ENOTTY, dw_ioctl(self->fd, other, self->argument));
	}
	EXPECT_TRUE(UNTOUCHED());
	EXPECT_EQ(0, MAKE_CALL(self->argument));
}

/* ---------------------------------------------------------------- numbers */

/* Sizes of version 1, for the module too: these programs are built from the header that it has. */
_Static_assert(sizeof(struct distworker_query) == 32, "distworker_query");
_Static_assert(sizeof(struct distworker_hub_setup) == 56, "distworker_hub_setup");
_Static_assert(sizeof(struct distworker_mailbox_create) == 16, "distworker_mailbox_create");
_Static_assert(sizeof(struct distworker_mailbox_bind) == 24, "distworker_mailbox_bind");
_Static_assert(sizeof(struct distworker_mailbox_query) == 72, "distworker_mailbox_query");
_Static_assert(sizeof(struct distworker_hub_wait) == 64, "distworker_hub_wait");
_Static_assert(sizeof(struct distworker_hub_wake) == 24, "distworker_hub_wake");
_Static_assert(sizeof(struct distworker_endpoint_attach) == 32, "distworker_endpoint_attach");
_Static_assert(sizeof(struct distworker_endpoint_wait) == 24, "distworker_endpoint_wait");
_Static_assert(sizeof(struct distworker_hub_line) == 256, "distworker_hub_line");
_Static_assert(sizeof(struct distworker_hub_state) == 128, "distworker_hub_state");
_Static_assert(sizeof(struct distworker_mailbox) == 512, "distworker_mailbox");
_Static_assert(sizeof(struct distworker_timeline_wait) == 40, "distworker_timeline_wait");
_Static_assert(sizeof(struct distworker_timeline) == 384, "distworker_timeline");

TEST(unknown_numbers_and_other_letters_are_enotty)
{
	static const int known[] = { 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
				     0x20, 0x21, 0x22, 0x23, 0x24, 0x25 };
	unsigned char argument[256] = { 64 };
	struct hub hub;
	int fds[3];

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	fds[0] = device_open();
	fds[1] = hub.fd;
	fds[2] = dw_create(hub.fd, 0);
	ASSERT_LE(0, fds[2]);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		for (int number = 3; number < 256; number++) {
			bool skip = false;

			ASSERT_EQ(-ENOTTY,
				  dw_ioctl(fds[i], _IOWR('D', number, char[64]), argument));
			for (unsigned int k = 0; k < ARRAY_SIZE(known); k++)
				skip |= known[k] == number;
			if (skip)
				continue;
			ASSERT_EQ(-ENOTTY, dw_ioctl(fds[i], _IOWR(DISTWORKER_IOC_MAGIC, number,
								  char[64]), argument));
		}
	}
}

TEST(files_cannot_be_read_written_or_sought)
{
	struct hub hub;
	int fds[2];
	char byte = 0;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	fds[0] = hub.fd;
	fds[1] = dw_create(hub.fd, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		EXPECT_EQ(-1, read(fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, write(fds[i], &byte, 1));
		EXPECT_EQ(EINVAL, errno);
	}
}

/* ---------------------------------------------------------------- masks */

TEST(masks_must_cover_the_hub_and_have_no_bit_beyond_it)
{
	__u64 wake[MASK_WORDS + 4] = { 0 };
	struct distworker_hub_wake call = ABI(distworker_hub_wake, .wake_mask = to_u64(wake));
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 130, BOX_BYTES));
	for (__u32 words = 0; words <= MASK_WORDS; words++) {
		call.mask_words = words;
		EXPECT_EQ(words < 3 ? -EINVAL : 0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &call));
	}
	call.mask_words = MASK_WORDS + 1;
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &call));
	call.mask_words = ~0u;
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &call));
	for (unsigned int bit = 128; bit < 256; bit++) {
		memset(wake, 0, sizeof(wake));
		mask_set(wake, bit);
		call.mask_words = 4;
		call.woken = POISON32;
		ASSERT_EQ(bit < 130 ? 0 : -EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &call));
		ASSERT_EQ(bit < 130 ? 0 : POISON32, call.woken);
	}
	/* No mask at all wakes nobody. */
	call.wake_mask = 0;
	for (__u32 words = 0; words <= MASK_WORDS; words++) {
		call.mask_words = words;
		EXPECT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &call));
	}
}

TEST(masks_of_a_wait_must_cover_the_hub_too)
{
	__u64 mask[3] = { 0 };
	struct distworker_hub_wait wait = ABI(distworker_hub_wait, .kick_seen = 1);
	__u64 *pointers[] = { &wait.watch_mask, &wait.ready_mask, &wait.state_mask,
			      &wait.wake_mask };
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 130, BOX_BYTES));
	wait.flags = DISTWORKER_WAIT_WAKE;
	for (unsigned int i = 0; i < ARRAY_SIZE(pointers); i++) {
		*pointers[i] = to_u64(mask);
		for (wait.mask_words = 0; wait.mask_words < 4; wait.mask_words++)
			EXPECT_EQ(wait.mask_words < 3 ? -EINVAL : 0,
				  dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
		*pointers[i] = 0;
	}
	mask[2] = 4;
	wait.mask_words = 3;
	wait.watch_mask = to_u64(mask);
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
	wait.watch_mask = 0;
	wait.wake_mask = to_u64(mask);
	EXPECT_EQ(-EINVAL, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
}

TEST(masks_that_lead_nowhere_are_efault)
{
	void *nowhere = mmap(NULL, getpagesize(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct distworker_hub_wake wake = ABI(distworker_hub_wake, .wake_mask = to_u64(nowhere),
					      .mask_words = 1);
	struct distworker_hub_wait wait = ABI(distworker_hub_wait, .kick_seen = 1,
					      .mask_words = 1);
	struct distworker_hub_wait bad;
	struct hub hub;

	ASSERT_EQ(0, hub_open(&hub, 1, BOX_BYTES));
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &wake));
	wake.wake_mask = 1ULL << 63;
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAKE, &wake));

	bad = wait;
	bad.flags = DISTWORKER_WAIT_WAKE;
	bad.wake_mask = to_u64(nowhere);
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	bad = wait;
	bad.watch_mask = to_u64(nowhere);
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	bad = wait;
	bad.ready_mask = to_u64(nowhere);
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	bad = wait;
	bad.state_mask = to_u64(nowhere);
	EXPECT_EQ(-EFAULT, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &bad));
	EXPECT_EQ(0, dw_ioctl(hub.fd, DISTWORKER_HUB_WAIT, &wait));
}

/* ---------------------------------------------------------------- version 1, in numbers */

/* All of these are literals: the numbers that a program was once built with stay. */
TEST(numbers_of_version_1_stay_what_they_were)
{
	EXPECT_EQ(0x1, DISTWORKER_ABI_VERSION);
	EXPECT_EQ(0x1, DISTWORKER_FEATURE_WAKE_AND_WAIT);
	EXPECT_EQ(0x2, DISTWORKER_FEATURE_ADAPTIVE_SPIN);
	EXPECT_EQ(0x4, DISTWORKER_FEATURE_DEATH);
	EXPECT_EQ(0x8, DISTWORKER_FEATURE_POLL);
	EXPECT_EQ(0x10, DISTWORKER_FEATURE_TIMELINES);
	EXPECT_EQ(0x1, DISTWORKER_SETUP_TIMELINES);
	EXPECT_EQ(0x10000000, DISTWORKER_HUB_LINE_OFFSET);
	EXPECT_EQ(0x20000000, DISTWORKER_TIMELINE_OFFSET);
	EXPECT_EQ(128, DISTWORKER_LINE_BYTES);
	EXPECT_EQ(0x1, DISTWORKER_ASLEEP_WAITER);
	EXPECT_EQ(0x2, DISTWORKER_ASLEEP_POLLER);
	EXPECT_EQ(0x4, DISTWORKER_ASLEEP_TIMELINE);
	EXPECT_EQ(0x1, DISTWORKER_WAIT_WAKE);
	EXPECT_EQ(0x2, DISTWORKER_WAIT_NOSPIN);
	EXPECT_EQ(0x1, DISTWORKER_EVENT_DONE);
	EXPECT_EQ(0x2, DISTWORKER_EVENT_STATE);
	EXPECT_EQ(0x4, DISTWORKER_EVENT_KICK);
	EXPECT_EQ(0x8, DISTWORKER_EVENT_POST);
	EXPECT_EQ(0x10, DISTWORKER_EVENT_STOP);
	EXPECT_EQ(0x20, DISTWORKER_EVENT_COUNT);
	EXPECT_EQ(0x40, DISTWORKER_EVENT_RECALL);
	EXPECT_EQ(0x2, DISTWORKER_WAKE_SIBLINGS);
	EXPECT_EQ(0xffffffffffffffffULL, DISTWORKER_NO_DEADLINE);
	EXPECT_EQ(0x1, DISTWORKER_WAKE_SELF);
	EXPECT_EQ(0xdc, DISTWORKER_IOC_MAGIC);
	EXPECT_EQ(0xc020dc10, DISTWORKER_QUERY);
	EXPECT_EQ(0xc038dc11, DISTWORKER_HUB_SETUP);
	EXPECT_EQ(0xc010dc12, DISTWORKER_MAILBOX_CREATE);
	EXPECT_EQ(0xc018dc13, DISTWORKER_MAILBOX_BIND);
	EXPECT_EQ(0xc018dc14, DISTWORKER_MAILBOX_REARM);
	EXPECT_EQ(0xc048dc15, DISTWORKER_MAILBOX_QUERY);
	EXPECT_EQ(0xc040dc16, DISTWORKER_HUB_WAIT);
	EXPECT_EQ(0xc018dc17, DISTWORKER_HUB_WAKE);
	EXPECT_EQ(0xc020dc20, DISTWORKER_ENDPOINT_ATTACH);
	EXPECT_EQ(0xc018dc21, DISTWORKER_ENDPOINT_WAIT);
	EXPECT_EQ(0xdc22, DISTWORKER_ENDPOINT_WAKE);
	EXPECT_EQ(0xdc23, DISTWORKER_ENDPOINT_DETACH);
	EXPECT_EQ(0xc028dc24, DISTWORKER_TIMELINE_WAIT);
	EXPECT_EQ(0xdc25, DISTWORKER_TIMELINE_WAKE);
	EXPECT_EQ(0, DISTWORKER_MAILBOX_FREE);
	EXPECT_EQ(0x1, DISTWORKER_MAILBOX_ATTACHED);
	EXPECT_EQ(0x2, DISTWORKER_MAILBOX_DEAD);
	EXPECT_EQ(0, DISTWORKER_DEATH_NONE);
	EXPECT_EQ(0x1, DISTWORKER_DEATH_EXIT);
	EXPECT_EQ(0x2, DISTWORKER_DEATH_EXEC);
	EXPECT_EQ(0x3, DISTWORKER_DEATH_DETACH);
}

#define AT(offset, type, member) EXPECT_EQ(offset, offsetof(struct distworker_##type, member))

TEST(members_of_version_1_stay_where_they_were)
{
	AT(0, hub_line, asleep);
	AT(4, hub_line, reserved0);
	AT(128, hub_line, driving);
	AT(132, hub_line, user);
	AT(0, hub_state, kick);
	AT(4, hub_state, reserved);
	AT(128, hub_state, seen);
	AT(0, mailbox, post);
	AT(4, mailbox, recall);
	AT(8, mailbox, stop);
	AT(12, mailbox, user0);
	AT(128, mailbox, done);
	AT(132, mailbox, seen);
	AT(136, mailbox, user1);
	AT(256, mailbox, asleep);
	AT(260, mailbox, reserved2);
	AT(384, mailbox, user3);
	AT(0, timeline, count);
	AT(4, timeline, user0);
	AT(128, timeline, generation);
	AT(132, timeline, user1);
	AT(256, timeline, awaited);
	AT(260, timeline, reserved2);
	AT(0, query, size);
	AT(4, query, abi_version);
	AT(8, query, features);
	AT(16, query, max_mailboxes);
	AT(20, query, max_mailbox_bytes);
	AT(24, query, page_bytes);
	AT(28, query, line_bytes);
	AT(0, hub_setup, size);
	AT(4, hub_setup, flags);
	AT(8, hub_setup, mailboxes);
	AT(12, hub_setup, mailbox_bytes);
	AT(16, hub_setup, state_offset);
	AT(24, hub_setup, mailbox_offset);
	AT(32, hub_setup, timeline_offset);
	AT(40, hub_setup, mapping_bytes);
	AT(48, hub_setup, header_step);
	AT(52, hub_setup, header_slots);
	AT(0, mailbox_create, size);
	AT(4, mailbox_create, flags);
	AT(8, mailbox_create, index);
	AT(12, mailbox_create, fd);
	AT(0, mailbox_bind, size);
	AT(4, mailbox_bind, flags);
	AT(8, mailbox_bind, index);
	AT(12, mailbox_bind, pid);
	AT(16, mailbox_bind, generation);
	AT(0, mailbox_query, size);
	AT(4, mailbox_query, flags);
	AT(8, mailbox_query, index);
	AT(12, mailbox_query, state);
	AT(16, mailbox_query, generation);
	AT(24, mailbox_query, cause);
	AT(28, mailbox_query, pid);
	AT(32, mailbox_query, status);
	AT(36, mailbox_query, reserved);
	AT(40, mailbox_query, wakes);
	AT(48, mailbox_query, sleeps);
	AT(56, mailbox_query, spins_won);
	AT(64, mailbox_query, spins_lost);
	AT(0, hub_wait, size);
	AT(4, hub_wait, flags);
	AT(8, hub_wait, deadline_ns);
	AT(16, hub_wait, wake_mask);
	AT(24, hub_wait, watch_mask);
	AT(32, hub_wait, ready_mask);
	AT(40, hub_wait, state_mask);
	AT(48, hub_wait, mask_words);
	AT(52, hub_wait, kick_seen);
	AT(56, hub_wait, events);
	AT(60, hub_wait, reserved);
	AT(0, hub_wake, size);
	AT(4, hub_wake, flags);
	AT(8, hub_wake, wake_mask);
	AT(16, hub_wake, mask_words);
	AT(20, hub_wake, woken);
	AT(0, endpoint_attach, size);
	AT(4, endpoint_attach, flags);
	AT(8, endpoint_attach, index);
	AT(12, endpoint_attach, owner_pid);
	AT(16, endpoint_attach, generation);
	AT(24, endpoint_attach, mailbox_bytes);
	AT(28, endpoint_attach, header_offset);
	AT(0, endpoint_wait, size);
	AT(4, endpoint_wait, flags);
	AT(8, endpoint_wait, deadline_ns);
	AT(16, endpoint_wait, seen);
	AT(20, endpoint_wait, events);
	AT(0, timeline_wait, size);
	AT(4, timeline_wait, flags);
	AT(8, timeline_wait, deadline_ns);
	AT(16, timeline_wait, index);
	AT(20, timeline_wait, count);
	AT(24, timeline_wait, generation);
	AT(28, timeline_wait, recall);
	AT(32, timeline_wait, events);
	AT(36, timeline_wait, reserved);
}

TEST_HARNESS_MAIN
