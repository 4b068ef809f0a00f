// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl_fuzz: one call with arguments that are nearly right, and the checks that must hold
 * afterwards.
 */
#include "fuzz.h"

/*
 * A wait that ends so much after its deadline is not just slow. It is measured in sleeps of the
 * first process, 20 s of a quiet machine, because a busy one is late with all of them.
 */
#define LATE_BEATS	(20 * NSEC_PER_SEC / BEAT_NS)

/* Every error that a call may have, faults injected or not. */
static bool error_is_documented(int error)
{
	switch (error) {
	case EINVAL:
	case EFAULT:
	case E2BIG:
	case ENOTTY:
	case EBADF:
	case EBADFD:
	case EPERM:
	case EBUSY:
	case ESRCH:
	case ENOTCONN: case EOWNERDEAD: case ETIMEDOUT: case EINTR: case ENOMEM: case EMFILE:
		return true;
	case ENFILE:
		return have_faults;
	}
	return false;
}

static void count_call(unsigned int number, int ret, int error)
{
	number &= NUMBERS - 1;
	atomic_fetch_add_explicit(&shared->calls[number][ret < 0 ? FAILED : DONE], 1,
				  memory_order_relaxed);
	if (ret >= 0)
		return;
	if (error > 0 && error < 200)
		atomic_fetch_add_explicit(&shared->errors[error], 1, memory_order_relaxed);
}

/* ---------------------------------------------------------------- arguments */

/*
 * A page with the struct at its very end and no page behind it, so that each byte too many is a
 * fault; the bytes before it and, in a larger struct, behind the size are a pattern that must stay.
 */
static _Thread_local char *arena;
#define ARENA_BYTES 8192
#define PATTERN 0xa5

void arena_free(void)
{
	if (arena)
		munmap(arena, ARENA_BYTES + 4096);
}

static char *arena_get(void)
{
	if (!arena) {
		arena = mmap(NULL, ARENA_BYTES + 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (arena == MAP_FAILED)
			_exit(2);
		mprotect(arena + ARENA_BYTES, 4096, PROT_NONE);
	}
	memset(arena, PATTERN, ARENA_BYTES);
	return arena;
}

union argument {
	uint32_t size;
	struct distworker_query query;
	struct distworker_hub_setup setup;
	struct distworker_mailbox_create create;
	struct distworker_mailbox_bind bind;
	struct distworker_mailbox_query mailbox;
	struct distworker_hub_wait wait;
	struct distworker_hub_wake wake;
	struct distworker_endpoint_attach attach;
	struct distworker_endpoint_wait endpoint_wait;
	struct distworker_timeline_wait timeline_wait;
	uint32_t words[32];
};

static uint32_t known_size(unsigned int number)
{
	switch (number) {
	case _IOC_NR(DISTWORKER_QUERY): return sizeof(struct distworker_query);
	case _IOC_NR(DISTWORKER_HUB_SETUP): return sizeof(struct distworker_hub_setup);
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE): return sizeof(struct distworker_mailbox_create);
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
	case _IOC_NR(DISTWORKER_MAILBOX_REARM): return sizeof(struct distworker_mailbox_bind);
	case _IOC_NR(DISTWORKER_MAILBOX_QUERY): return sizeof(struct distworker_mailbox_query);
	case _IOC_NR(DISTWORKER_HUB_WAIT): return sizeof(struct distworker_hub_wait);
	case _IOC_NR(DISTWORKER_HUB_WAKE): return sizeof(struct distworker_hub_wake);
	case _IOC_NR(DISTWORKER_ENDPOINT_ATTACH): return sizeof(struct distworker_endpoint_attach);
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT): return sizeof(struct distworker_endpoint_wait);
	case _IOC_NR(DISTWORKER_TIMELINE_WAIT): return sizeof(struct distworker_timeline_wait);
	}
	return 0;
}

/* Those without an argument are other commands for the kernel when they claim one. */
static unsigned int direction(unsigned int number)
{
	switch (number) {
	case _IOC_NR(DISTWORKER_ENDPOINT_WAKE):
	case _IOC_NR(DISTWORKER_ENDPOINT_DETACH):
	case _IOC_NR(DISTWORKER_TIMELINE_WAKE):
		return _IOC_NONE;
	}
	return _IOC_READ | _IOC_WRITE;
}

static uint32_t some_mailboxes(void)
{
	if (one_in(40))
		return PICK(0u, 1023u, 1024u, 1025u, UINT32_MAX);
	return PICK(1u, 2u, 3u, 4u, 4u, 5u, 6u, 63u, 64u, 65u, 128u, 130u);
}

static uint32_t some_index(void)
{
	return one_in(30) ? odd_u32() : one_in(10) ? PICK(63u, 64u, 65u, 127u) : below(4);
}

static pid_t some_pid(void)
{
	switch (below(12)) {
	case 0: return 0;
	case 1: return -1;
	case 2: return 1;
	case 3: return getpid();
	case 4: return getppid();
	case 5: return odd_u32();
	case 6:
	case 7: return atomic_load(&family->pids[below(32)]);
	default: return me.peer_count ? me.peers[below(me.peer_count)] : getpid();
	}
}

static uint64_t some_deadline(void)
{
	switch (below(10)) {
	case 0: return 0;
	case 1: return 1;
	case 2: return INT64_MAX + odd_u32();
	case 3: return DISTWORKER_NO_DEADLINE;	/* the interval timer ends it */
	case 4: return now_ns();
	default: return now_ns() + any() % (5 * 1000 * 1000);
	}
}

static uint64_t some_pointer(void)
{
	static char page[4096];

	switch (below(8)) {
	case 0: return 0;
	case 1: return 8;
	case 2: return 0xffff888000000000;	/* the kernel's */
	case 3: return 0xffffffffff600000;	/* vsyscall */
	case 4: return 0x7ffffffff000 - 8;
	case 5: return (uintptr_t)arena + ARENA_BYTES - 4;
	case 6: return (uintptr_t)map_any(false).start + below(64);
	default: return (uintptr_t)page + below(4096);
	}
}

/* A mask in the arena's first page, or something worse. */
static uint64_t some_mask(unsigned int slot, unsigned int words)
{
	uint64_t *mask = (uint64_t *)(arena + slot * 256);
	unsigned int i;

	if (one_in(8))
		return 0;
	if (one_in(25))
		return some_pointer();
	for (i = 0; i < words && i < 32; i++)
		mask[i] = one_in(30) ? any() : 0;
	if (words)
		mask[0] = PICK(1ull, 2ull, 3ull, 7ull, 15ull, ~0ull, any());
	return (uintptr_t)mask;
}

/* Nearly right. */
static void fill(union argument *arg, unsigned int number)
{
	unsigned int words;

	memset(arg, 0, sizeof(*arg));
	switch (number) {
	case _IOC_NR(DISTWORKER_HUB_SETUP):
		arg->setup.flags = below(2);
		arg->setup.mailboxes = some_mailboxes();
		arg->setup.mailbox_bytes =
			one_in(10) ? odd_u32() : PICK(256u, 4096u, 4097u, 8192u, 65536u);
		if (arg->setup.mailboxes > 130 && arg->setup.mailbox_bytes > 8192)
			arg->setup.mailbox_bytes = 4096;
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_CREATE):
		arg->create.index = some_index();
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_BIND):
		arg->bind.index = some_index();
		arg->bind.pid = some_pid();
		break;
	case _IOC_NR(DISTWORKER_MAILBOX_REARM):
	case _IOC_NR(DISTWORKER_MAILBOX_QUERY):
		arg->bind.index = some_index();
		break;
	case _IOC_NR(DISTWORKER_HUB_WAIT):
		words = PICK(1u, 1u, 2u, 3u, 16u);
		arg->wait.mask_words = words;
		arg->wait.flags = below(4);
		arg->wait.deadline_ns = some_deadline();
		arg->wait.wake_mask = some_mask(0, words);
		arg->wait.watch_mask = some_mask(1, words);
		arg->wait.ready_mask = some_mask(2, words);
		arg->wait.state_mask = some_mask(3, words);
		arg->wait.kick_seen = below(3);
		if (one_in(30))
			arg->wait.mask_words = PICK(0u, 17u, UINT32_MAX, 0x20000001u);
		break;
	case _IOC_NR(DISTWORKER_HUB_WAKE):
		words = PICK(1u, 1u, 2u, 3u, 16u);
		arg->wake.mask_words = words;
		arg->wake.flags = below(4);
		arg->wake.wake_mask = some_mask(0, words);
		break;
	case _IOC_NR(DISTWORKER_ENDPOINT_WAIT):
		arg->endpoint_wait.flags = below(4);
		arg->endpoint_wait.deadline_ns = some_deadline();
		arg->endpoint_wait.seen = below(3);
		break;
	case _IOC_NR(DISTWORKER_TIMELINE_WAIT):
		arg->timeline_wait.flags = PICK(0u, DISTWORKER_WAIT_NOSPIN);
		arg->timeline_wait.deadline_ns = some_deadline();
		arg->timeline_wait.index = some_index();
		arg->timeline_wait.count = below(4);
		arg->timeline_wait.generation = one_in(8);
		arg->timeline_wait.recall = one_in(8);
		break;
	}
	arg->size = known_size(number);
}

/* ---------------------------------------------------------------- calls */

/*
 * The part of the struct that a successful call may write: nothing that the caller's size does not
 * cover.
 */
static void check_written(unsigned int number, const char *given, const char *before, uint32_t size,
			  uint32_t room, int ret, int error)
{
	uint32_t i;

	/*
	 * A copy that faults halfway has written its first half. These two copy out before the step
	 * that can still fail, so that a fault leaves no state behind.
	 */
	bool early = error == EFAULT || number == _IOC_NR(DISTWORKER_HUB_SETUP) ||
		     number == _IOC_NR(DISTWORKER_ENDPOINT_ATTACH);

	for (i = 0; i < room; i++) {
		if (given[i] == before[i])
			continue;
		if (ret < 0 && !early) {
			broken("ioctl %#x failed with %s and wrote byte %u of its struct", number,
			       strerror(error), i);
			return;
		}
		if (i >= size || i >= known_size(number) || i < 4) {
			broken("ioctl %#x with size %u wrote byte %u of its struct", number, size,
			       i);
			return;
		}
	}
}

int call(int fd, unsigned int number)
{
	union argument arg;
	char before[256];
	uint32_t size, room;
	uint64_t deadline = DISTWORKER_NO_DEADLINE;
	unsigned long since, took;
	bool private = false;
	void *target;
	unsigned int command;
	int ret, error;

	arena_get();
	fill(&arg, number);
	if (one_in(15)) {
		/* A word or two that are not right at all. */
		do {
			arg.words[below(18)] = odd_u32();
		} while (one_in(2));
	}
	if (one_in(25))
		arg.size = PICK(0u, 3u, 4u, 7u, 8u, 12u, 100u, 128u, 4096u, 4097u, UINT32_MAX,
				known_size(number) - 4, known_size(number) + 4);
	size = arg.size;
	room = size < 4 ? 4 : size > sizeof(arg) ? sizeof(arg) : size;
	if (number == _IOC_NR(DISTWORKER_HUB_WAIT))
		deadline = arg.wait.deadline_ns;
	else if (number == _IOC_NR(DISTWORKER_ENDPOINT_WAIT))
		deadline = arg.endpoint_wait.deadline_ns;
	else if (number == _IOC_NR(DISTWORKER_TIMELINE_WAIT))
		deadline = arg.timeline_wait.deadline_ns;

	if (one_in(40)) {
		target = (void *)(uintptr_t)some_pointer();
	} else if (one_in(40)) {
		/*
		 * In memory that others scribble over meanwhile: every read of it is another value.
		 */
		struct map map = map_any(false);

		target = map.start + (map.bytes > 4096 ? below(4096) & ~7u : 0);
		if (map.writable)
			touch(target, &arg, 64);
	} else {
		private = true;
		target = arena + ARENA_BYTES - room;
		memcpy(target, &arg, room);
		memcpy(before, target, room);
	}

	command = _IOC(direction(number), DISTWORKER_IOC_MAGIC, number, size & _IOC_SIZEMASK);
	if (one_in(100))
		command = PICK((unsigned int)DISTWORKER_QUERY, FIOCLEX, (unsigned int)any(),
			       command ^ 1u << below(32));
	number = _IOC_NR(command);

	since = atomic_load(&shared->beats);
	ret = ioctl(fd, command, target);
	error = errno;
	took = atomic_load(&shared->beats) - since;
	count_call(number, ret, error);
	if (_IOC_TYPE(command) != DISTWORKER_IOC_MAGIC)
		return -1;
	if (ret > 0)
		broken("ioctl %#x returned %d", number, ret);
	if (ret < 0 && !error_is_documented(error))
		broken("ioctl %#x failed with %s (%d)", number, strerror(error), error);
	if (private) {
		check_written(number, target, before, size, room, ret, error);
		if (deadline != DISTWORKER_NO_DEADLINE && deadline < now_ns() && took > LATE_BEATS)
			broken("ioctl %#x took %lu sleeps of %llu ms with a deadline before its "
			       "end",
			       number, took, BEAT_NS / 1000000);
	}
	if (ret == 0 && private && number == _IOC_NR(DISTWORKER_MAILBOX_CREATE)) {
		struct distworker_mailbox_create *create = target;

		if (create->fd < 0)
			broken("an endpoint's fd is %d", create->fd);
		else
			fd_add(create->fd, ENDPOINT);
	}
	return ret;
}

/* A peer's calls in their right order; before and after them it is attached to its endpoint. */
void call_in_order(int endpoint)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
	int ret;

	ret = ioctl(endpoint, DISTWORKER_ENDPOINT_WAKE);
	count_call(_IOC_NR(DISTWORKER_ENDPOINT_WAKE), ret, errno);
	ret = ioctl(endpoint, DISTWORKER_TIMELINE_WAKE);
	count_call(_IOC_NR(DISTWORKER_TIMELINE_WAKE), ret, errno);
	ret = ioctl(endpoint, DISTWORKER_ENDPOINT_DETACH);
	count_call(_IOC_NR(DISTWORKER_ENDPOINT_DETACH), ret, errno);
	ret = ioctl(endpoint, DISTWORKER_ENDPOINT_ATTACH, &attach);
	count_call(_IOC_NR(DISTWORKER_ENDPOINT_ATTACH), ret, errno);
}

unsigned int some_number(void)
{
	static const unsigned int hub[] = {
		_IOC_NR(DISTWORKER_HUB_WAIT),	    _IOC_NR(DISTWORKER_HUB_WAIT),
		_IOC_NR(DISTWORKER_HUB_WAIT),	    _IOC_NR(DISTWORKER_HUB_WAKE),
		_IOC_NR(DISTWORKER_HUB_WAKE),	    _IOC_NR(DISTWORKER_MAILBOX_BIND),
		_IOC_NR(DISTWORKER_MAILBOX_BIND),   _IOC_NR(DISTWORKER_MAILBOX_REARM),
		_IOC_NR(DISTWORKER_MAILBOX_REARM),  _IOC_NR(DISTWORKER_MAILBOX_QUERY),
		_IOC_NR(DISTWORKER_MAILBOX_CREATE), _IOC_NR(DISTWORKER_HUB_SETUP),
		_IOC_NR(DISTWORKER_QUERY),
	};
	static const unsigned int endpoint[] = {
		_IOC_NR(DISTWORKER_ENDPOINT_ATTACH), _IOC_NR(DISTWORKER_ENDPOINT_ATTACH),
		_IOC_NR(DISTWORKER_ENDPOINT_WAIT),   _IOC_NR(DISTWORKER_ENDPOINT_WAIT),
		_IOC_NR(DISTWORKER_ENDPOINT_WAIT),   _IOC_NR(DISTWORKER_ENDPOINT_WAKE),
		_IOC_NR(DISTWORKER_ENDPOINT_WAKE),   _IOC_NR(DISTWORKER_QUERY),
		_IOC_NR(DISTWORKER_TIMELINE_WAIT),   _IOC_NR(DISTWORKER_TIMELINE_WAIT),
		_IOC_NR(DISTWORKER_TIMELINE_WAKE),
	};

	if (one_in(50))
		return below(NUMBERS);
	/* An owner has endpoints too, and is at times its own peer. */
	if (me.owner ? !one_in(6) : one_in(12))
		return hub[below(sizeof(hub) / sizeof(*hub))];
	if (one_in(60))
		return _IOC_NR(DISTWORKER_ENDPOINT_DETACH);
	return endpoint[below(sizeof(endpoint) / sizeof(*endpoint))];
}

void do_call(void)
{
	unsigned int number = some_number();

	call(one_in(15) ? fd_any() : fd_of(number < 0x20 ? HUB : ENDPOINT), number);
}
