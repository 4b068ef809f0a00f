/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Data between hosts (host/bulk.h) over the stream, and over UCX with its TCP and its shared
 * memory. Each case is two processes, since UCX reads its settings when it is opened; they have the
 * same memory at the same address, with other contents.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "host/bulk.h"
#include "host/ucx.h"
#include "task/error.h"
#include "host.h"

#define AREA_BYTES (24u << 20)
#define HELLO 1
#define LAST 2
#define WORD 3
#define BYE 4
#define READY 5

static unsigned char *area;

/* ------------------------------------------------------------------- two processes */

/* One end: what it needs to send and to receive. */
struct end {
	struct stream *stream;
	struct bulk *bulk;
	uint64_t data; /* bytes that have arrived */
	bool broken; /* as the test has it */
};

/* Data for addresses from here on is refused. */
static uint64_t room;

static const struct way {
	const char *name;
	bool ucx;
	const char *transports; /* UCX_TLS */
} ways[] = {
	{ "stream", false, "" },
	{ "UCX over TCP", true, "tcp" },
	{ "UCX over shared memory", true, "posix,sysv,self" },
};

static void *place(void *context, const struct stream_message *message)
{
	(void)context;
	if (message->address + message->bytes > room) {
		error_set(-EBADMSG, "that is no address");
		return NULL;
	}
	return area + message->address;
}

/* This runs outside the test's process, so instead of CHECK() it exits with status 1. */
#define MUST(condition) \
	do { \
		if (!(condition)) { \
			printf("# %s:%d: %s: %s: %s\n", __FILE__, __LINE__, unit_now, #condition, \
			       error_text()); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)

/* Returns the type of the next message, or -errno. Counts data. */
static int next(struct end *end, struct stream_message *message)
{
	struct pollfd polls[BULK_POLLS];
	int result;

	for (;;) {
		result = bulk_flush(end->bulk);
		if (result == 0)
			result = bulk_receive(end->bulk, place, end, message);
		if (result < 0)
			return result;
		if (result == 1) {
			if (message->type != STREAM_DATA)
				return message->type;
			MUST(message->payload == area + message->address);
			end->data += message->bytes;
			return STREAM_DATA;
		}
		poll(polls, bulk_poll(end->bulk, polls), -1);
	}
}

/* The next control message. */
static int next_control(struct end *end, struct stream_message *message)
{
	int result;

	while ((result = next(end, message)) == STREAM_DATA)
		;
	return result;
}

static struct stream *new_stream(int fd, bool first)
{
	struct stream *stream = NULL;

	MUST(stream_create(fd, host_secret(first ? "up" : "down"),
			   host_secret(first ? "down" : "up"), 60 * NS_PER_S, &stream) == 0);
	return stream;
}

static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))
/* Counted before UCX is opened, since a sanitizer has threads of its own. */
static void (*actions[SIGNALS])(int);

static void note_actions(void)
{
	struct sigaction action;

	for (size_t i = 0; i < SIGNALS; i++) {
		MUST(sigaction(signals[i], NULL, &action) == 0);
		actions[i] = action.sa_handler;
	}
}

static void begin(struct end *end, int fd, bool first, const struct way *way)
{
	struct stream_message message;
	const void *address;
	size_t bytes;

	*end = (struct end){ .stream = NULL };
	note_actions();
	if (way->ucx)
		setenv("UCX_TLS", way->transports, 1);
	end->stream = new_stream(fd, first);
	MUST(bulk_create(end->stream, &end->bulk) == 0);
	MUST(!way->ucx || bulk_open(end->bulk) == 0);
	address = bulk_address(end->bulk, &bytes);
	MUST(stream_send(end->stream, HELLO, 0, 0, address, bytes) == 0);
	MUST(next(end, &message) == HELLO);
	MUST(!way->ucx || bulk_connect(end->bulk, message.payload, message.bytes) == 0);
	/* Data that goes another way than the stream does not overtake this. */
	if (first) {
		MUST(stream_send(end->stream, READY, 0, 0, NULL, 0) == 0);
		MUST(next_control(end, &message) == READY);
	} else {
		MUST(next(end, &message) == READY);
		MUST(stream_send(end->stream, READY, 0, 0, NULL, 0) == 0);
		MUST(bulk_flush(end->bulk) == 0);
	}
}

static void finish(struct end *end)
{
	struct stream_message message;

	/* Neither side leaves before the other has everything that it waits for. */
	if (!end->broken) {
		MUST(stream_send(end->stream, BYE, 0, 0, NULL, 0) == 0);
		MUST(next_control(end, &message) == BYE);
	}
	bulk_destroy(end->bulk);
	stream_destroy(end->stream);
	fflush(stdout);
	_exit(0);
}

typedef void side(struct end *end);
static side refuse;

static bool make_sockets(int ends[2])
{
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t bytes = sizeof(address);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (!CHECK(bind(listening, (struct sockaddr *)&address, sizeof(address)) == 0) ||
	    !CHECK(listen(listening, 1) == 0) ||
	    !CHECK(getsockname(listening, (struct sockaddr *)&address, &bytes) == 0))
		return false;
	ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!CHECK(connect(ends[0], (struct sockaddr *)&address, sizeof(address)) == 0))
		return false;
	ends[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	close(listening);
	return true;
}

/* Both sides of a case, over one way. `killed`: the first kills itself. */
static void run(side *first, side *second, const struct way *way, bool killed)
{
	side *sides[] = { first, second };
	pid_t pids[2];
	int ends[2], status;

	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(area != MAP_FAILED && make_sockets(ends));
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct end end;

			unit_bound(UNIT_SECONDS);
			close(ends[!i]);
			room = sides[i] == refuse ? BULK_PIECE : AREA_BYTES;
			begin(&end, ends[i], i == 0, way);
			sides[i](&end);
			finish(&end);
		}
	}
	close(ends[0]);
	close(ends[1]);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(waitpid(pids[i], &status, 0), pids[i]);
		if (!CHECK_EQ(status, i == 0 && killed ? SIGKILL : 0))
			printf("# side %d of %s: status %x\n", i, way->name, (unsigned)status);
	}
	munmap(area, AREA_BYTES);
}

/* Under TSan, UCX dies when it is opened, because it patches the C library. */
static bool has_ucx(void)
{
#ifdef __SANITIZE_THREAD__
	return false;
#endif
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		struct ucx *ucx = NULL;

		_exit(ucx_open(&ucx) == -ENOSYS);
	}
	waitpid(pid, &status, 0);
	return status == 0;
}

#define EACH_WAY(test_name, first, second) \
	HOST_TEST(test_name) \
	{ \
		bool ucx = has_ucx(); \
		for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) \
			if (ucx || !ways[i].ucx) \
				run(first, second, &ways[i], false); \
		if (!ucx && !unit_failures) \
			SKIP("UCX cannot be opened here: over the stream alone"); \
	}

/* ---------------------------------------------------------------------------- data */

/* Ranges with lengths around that of a piece, and around that of short data. */
static const uint64_t lengths[] = {
	1, 4096, BULK_LEAST - 1, BULK_LEAST, BULK_LEAST + 1, BULK_PIECE, BULK_PIECE + 1,
	3 * BULK_PIECE - 7, 9 * BULK_PIECE,
};
#define LENGTHS (sizeof(lengths) / sizeof(lengths[0]))

static unsigned char byte_of(uint64_t address, unsigned round)
{
	return (unsigned char)((address * 2654435761u >> 11) + round * 37);
}

static void send_ranges(struct end *end)
{
	struct stream_message message;

	for (unsigned round = 0; round < 3; round++) {
		uint64_t address = 0;

		for (uint64_t i = 0; i < AREA_BYTES; i++)
			area[i] = byte_of(i, round);
		for (size_t i = 0; i < LENGTHS; i++) {
			MUST(bulk_send_data(end->bulk, round, address, area + address,
					    lengths[i]) == 0);
			MUST(bulk_has_data(end->bulk, round));
			address += lengths[i];
			/* Everything that was sent before has arrived when this has. */
			MUST(bulk_send_after(end->bulk, LAST, address, round, NULL, 0) == 0);
		}
		MUST(next_control(end, &message) == WORD);
		MUST(!bulk_has_data(end->bulk, round));
	}
}

static void check_ranges(struct end *end)
{
	struct stream_message message;
	struct stream_counters counters;

	for (unsigned round = 0; round < 3; round++) {
		uint64_t address = 0;

		for (size_t i = 0; i < LENGTHS; i++) {
			MUST(next_control(end, &message) == LAST);
			address += lengths[i];
			MUST(message.number == address && message.address == round);
			for (uint64_t at = address - lengths[i]; at < address; at++)
				MUST(area[at] == byte_of(at, round));
		}
		MUST(end->data == (round + 1) * address);
		MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
		bulk_counters(end->bulk, &counters);
		MUST(counters.bytes_in == end->data && !counters.bytes_out);
	}
	MUST(bulk_flush(end->bulk) == 0);
}

EACH_WAY(a_message_behind_data_comes_when_all_of_it_is_in_its_place, send_ranges, check_ranges)

/* Both at once, so that each receives while it sends. */
static void swap_halves(struct end *end)
{
	const uint64_t half = AREA_BYTES / 2;
	struct stream_message message;

	for (uint64_t i = 0; i < half; i++)
		area[i] = byte_of(i, 5);
	MUST(bulk_send_data(end->bulk, 1, half, area, half) == 0);
	MUST(bulk_send_after(end->bulk, LAST, 0, 0, "done", 5) == 0);
	MUST(next_control(end, &message) == LAST && !strcmp(message.payload, "done"));
	for (uint64_t i = 0; i < half; i++)
		MUST(area[half + i] == byte_of(i, 5));
	/* Behind its own data, as LAST is. */
	MUST(bulk_send_after(end->bulk, WORD, 0, 0, NULL, 0) == 0);
	MUST(next_control(end, &message) == WORD);
}

EACH_WAY(both_ends_send_at_once, swap_halves, swap_halves)

static void overtake(struct end *end)
{
	struct stream_message message;

	MUST(bulk_send_data(end->bulk, 1, 0, area, AREA_BYTES) == 0);
	MUST(bulk_send_after(end->bulk, LAST, 0, 0, NULL, 0) == 0);
	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(next_control(end, &message) == WORD);
}

static void be_overtaken(struct end *end)
{
	struct stream_message message;

	MUST(next_control(end, &message) == WORD);
	MUST(end->data < AREA_BYTES);
	MUST(next_control(end, &message) == LAST);
	MUST(end->data == AREA_BYTES);
	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(bulk_flush(end->bulk) == 0);
}

EACH_WAY(another_message_overtakes_data, overtake, be_overtaken)

static void drop(struct end *end)
{
	struct stream_message message;
	size_t bytes;

	MUST(bulk_send_data(end->bulk, 1, 0, area, AREA_BYTES) == 0);
	MUST(bulk_send_after(end->bulk, LAST, 1, 0, NULL, 0) == 0);
	MUST(bulk_send_data(end->bulk, 2, 0, area, 2 * BULK_PIECE) == 0);
	MUST(bulk_send_after(end->bulk, LAST, 2, 0, NULL, 0) == 0);
	/* The stream would send all of it; UCX was given only as much as may be on its way. */
	MUST(!bulk_address(end->bulk, &bytes) || bulk_flush(end->bulk) == 0);
	bulk_drop_data(end->bulk, 1);
	MUST(next_control(end, &message) == WORD);
	MUST(!bulk_has_data(end->bulk, 1) && !bulk_has_data(end->bulk, 2));
}

static void see_the_drop(struct end *end)
{
	struct stream_message message;

	MUST(next_control(end, &message) == LAST && message.number == 2);
	MUST(end->data >= 2 * BULK_PIECE && end->data < AREA_BYTES);
	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(bulk_flush(end->bulk) == 0);
}

EACH_WAY(data_that_is_dropped_is_not_sent, drop, see_the_drop)

static void send_too_far(struct end *end)
{
	struct stream_message message;

	MUST(bulk_send_data(end->bulk, 1, 0, area, 4 * BULK_PIECE) == 0);
	MUST(next(end, &message) < 0);
	end->broken = true;
}

static void refuse(struct end *end)
{
	struct stream_message message;
	int result;

	while ((result = next(end, &message)) == STREAM_DATA)
		;
	MUST(result == -EBADMSG && strstr(error_text(), "that is no address"));
	MUST(end->data <= BULK_PIECE);
	end->broken = true;
}

EACH_WAY(data_without_a_place_ends_the_connection, send_too_far, refuse)

/* ---------------------------------------------------------------------------- marks */

/* A hand-made sender: it announces two pieces as sent, and sends them later, in reverse order. */
struct by_hand {
	struct stream *stream;
	struct ucx *ucx;
};

static void wait_for(struct by_hand *hand, uint8_t type, struct stream_message *message)
{
	struct pollfd polled = { .fd = stream_fd(hand->stream), .events = POLLIN };
	int result;

	MUST(stream_flush(hand->stream) == 0);
	while ((result = stream_receive(hand->stream, place, NULL, message)) == 0)
		poll(&polled, 1, -1);
	MUST(result == 1 && message->type == type);
}

static void wait_for_word(struct by_hand *hand)
{
	struct stream_message message;

	wait_for(hand, WORD, &message);
}

static void send_by_hand(struct by_hand *hand, uint64_t sequence)
{
	const struct ucx_header header = {
		.number = 1, .address = sequence * BULK_PIECE, .bytes = BULK_PIECE,
		.sequence = sequence,
	};
	struct ucx_header sent;
	struct pollfd polled = { .events = POLLIN };
	enum ucx_event event = UCX_NOTHING;
	int result;

	MUST(ucx_send(hand->ucx, &header, area) == 0);
	polled.fd = ucx_fd(hand->ucx);
	while ((result = ucx_step(hand->ucx, &event, &sent)) != 1) {
		MUST(result == 0 || result == -EBUSY);
		poll(&polled, 1, result ? 0 : -1);
	}
	MUST(event == UCX_SENT && sent.sequence == sequence);
}

static void mark_and_send(struct by_hand *hand)
{
	wait_for_word(hand);
	MUST(stream_send(hand->stream, BULK_MARK, 2, 0, NULL, 0) == 0);
	MUST(stream_send(hand->stream, LAST, 0, 0, NULL, 0) == 0);
	wait_for_word(hand);
	send_by_hand(hand, 1);
	wait_for_word(hand);
	send_by_hand(hand, 0);
	wait_for_word(hand);
}

/* The other end says that it waits, and ends before the pieces have come. */
static void mark_and_end(struct by_hand *hand)
{
	wait_for_word(hand);
	MUST(stream_send(hand->stream, BULK_MARK, 2, 0, NULL, 0) == 0);
	MUST(stream_send(hand->stream, LAST, 0, 0, NULL, 0) == 0);
	wait_for_word(hand);
	stream_destroy(hand->stream);
	/* UCX stays open as long as this process, until the test has seen the end. */
	pause();
}

static void say_word(struct end *end)
{
	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(bulk_flush(end->bulk) == 0);
}

/* Nothing behind the mark is returned, although it has arrived. */
static void be_held(struct end *end)
{
	struct pollfd polled = { .fd = stream_fd(end->stream), .events = POLLIN };
	struct stream_message message;

	say_word(end);
	/* Both are in one packet, so they arrive together. */
	poll(&polled, 1, -1);
	MUST(bulk_receive(end->bulk, place, end, &message) == 0);
	MUST(bulk_receive(end->bulk, place, end, &message) == 0);
	say_word(end);
}

static void hold_back(struct end *end)
{
	struct stream_message message;

	be_held(end);
	MUST(next(end, &message) == STREAM_DATA && message.address == BULK_PIECE);
	MUST(bulk_receive(end->bulk, place, end, &message) == 0);
	say_word(end);
	MUST(next(end, &message) == STREAM_DATA && message.address == 0);
	MUST(next(end, &message) == LAST);
	say_word(end);
}

static void hold_back_to_the_end(struct end *end)
{
	struct stream_message message;

	be_held(end);
	MUST(next(end, &message) == -ECONNRESET);
	MUST(strstr(error_text(), "while 2 pieces of data were on their way") != NULL);
}

static void meet_by_hand(struct by_hand *hand)
{
	struct stream_message message;
	size_t bytes;
	const void *address = ucx_address(hand->ucx, &bytes);

	MUST(stream_send(hand->stream, HELLO, 0, 0, address, bytes) == 0);
	wait_for(hand, HELLO, &message);
	MUST(ucx_connect(hand->ucx, message.payload, message.bytes) == 0);
	wait_for(hand, READY, &message);
	MUST(stream_send(hand->stream, READY, 0, 0, NULL, 0) == 0);
	MUST(stream_flush(hand->stream) == 0);
}

static void run_by_hand(void (*send)(struct by_hand *), side *receive)
{
	int ends[2], status;
	pid_t pids[2];

	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(area != MAP_FAILED && make_sockets(ends));
	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i])
			continue;
		unit_bound(UNIT_SECONDS);
		close(ends[!i]);
		room = AREA_BYTES;
		if (i == 0) {
			struct end end;

			begin(&end, ends[0], true, &ways[1]);
			receive(&end);
		} else {
			struct by_hand hand = { .stream = new_stream(ends[1], false) };

			setenv("UCX_TLS", "tcp", 1);
			MUST(ucx_open(&hand.ucx) == 0);
			meet_by_hand(&hand);
			send(&hand);
		}
		fflush(stdout);
		_exit(0);
	}
	close(ends[0]);
	close(ends[1]);
	CHECK_EQ(waitpid(pids[0], &status, 0), pids[0]);
	CHECK_EQ(status, 0);
	kill(pids[1], SIGKILL);
	CHECK_EQ(waitpid(pids[1], &status, 0), pids[1]);
	CHECK(status == 0 || status == SIGKILL);
	munmap(area, AREA_BYTES);
}

HOST_TEST(a_message_behind_a_mark_waits_for_as_many_pieces)
{
	if (!has_ucx())
		SKIP("UCX cannot be opened here");
	run_by_hand(mark_and_send, hold_back);
}

HOST_TEST(a_stream_that_waits_for_pieces_sees_its_end)
{
	if (!has_ucx())
		SKIP("UCX cannot be opened here");
	run_by_hand(mark_and_end, hold_back_to_the_end);
}

/* ---------------------------------------------------------------------- the process */

/* The sleeps of this process's threads; TSan has one of its own, which wakes up all the time. */
static long count_sleeps(void)
{
	struct rusage usage;

#ifdef __SANITIZE_THREAD__
	getrusage(RUSAGE_THREAD, &usage);
#else
	getrusage(RUSAGE_SELF, &usage);
#endif
	return usage.ru_nvcsw;
}

static void stay_idle(struct end *end)
{
	struct pollfd polls[BULK_POLLS];
	struct stream_message message;
	long sleeps;

	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(next_control(end, &message) == WORD);
	/* The connection has been set up. */
	while (poll(polls, bulk_poll(end->bulk, polls), 1000) > 0) {
		MUST(bulk_flush(end->bulk) == 0);
		MUST(bulk_receive(end->bulk, place, end, &message) == 0);
	}
	sleeps = count_sleeps();
	MUST(poll(polls, bulk_poll(end->bulk, polls), 2000) == 0);
	sleeps = count_sleeps() - sleeps;
	/* This thread's own sleep is one. */
	if (sleeps > 1)
		printf("# %ld sleeps\n", sleeps);
	MUST(sleeps <= 1);
	MUST(stream_send(end->stream, LAST, 0, 0, NULL, 0) == 0);
}

static void stay_idle_too(struct end *end)
{
	struct stream_message message;

	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(next_control(end, &message) == WORD);
	MUST(next_control(end, &message) == LAST);
}

EACH_WAY(an_idle_connection_wakes_no_thread, stay_idle, stay_idle_too)

static void die_while_sending(struct end *end)
{
	struct stream_message message;

	MUST(next_control(end, &message) == WORD);
	MUST(bulk_send_data(end->bulk, 1, 0, area, AREA_BYTES) == 0);
	MUST(bulk_flush(end->bulk) == 0);
	raise(SIGKILL);
}

static void see_the_death(struct end *end)
{
	struct stream_message message;
	int result;

	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	result = next_control(end, &message);
	MUST(result == -ECONNRESET || result == -EIO);
	_exit(0);
}

HOST_TEST(the_death_of_the_other_end_is_an_error)
{
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]) && (!i || has_ucx()); i++)
		run(die_while_sending, see_the_death, &ways[i], true);
}

static void look_at_signals(struct end *end)
{
	struct stream_message message;
	struct sigaction action;

	for (size_t i = 0; i < SIGNALS; i++) {
		MUST(sigaction(signals[i], NULL, &action) == 0);
		MUST(action.sa_handler == actions[i]);
	}
	MUST(stream_send(end->stream, WORD, 0, 0, NULL, 0) == 0);
	MUST(next_control(end, &message) == WORD);
}

EACH_WAY(signals_keep_their_actions, look_at_signals, look_at_signals)

/* -------------------------------------------------------------------------- opening */

TEST(a_libucp_that_is_none_is_an_error_with_the_packages_name)
{
	char path[] = "/tmp/bulk-XXXXXX", file[64], self[256], command[512];
	char line[600], said[600] = "";
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	FILE *pipe;
	int fd;

	if (getenv("BULK_OPENS")) {
		struct ucx *ucx = NULL;

		printf("# opened: %d: %s\n", ucx_open(&ucx), error_text());
		return;
	}
	REQUIRE(length > 0 && mkdtemp(path) != NULL);
	self[length] = '\0';
	snprintf(file, sizeof(file), "%s/libucp.so.0", path);
	fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "no library", 10) == 10);
	close(fd);
	snprintf(command, sizeof(command), "BULK_OPENS=1 LD_LIBRARY_PATH=%s '%s' %s", path, self,
		 unit_now);
	pipe = popen(command, "re");
	while (pipe && fgets(line, sizeof(line), pipe))
		if (strstr(line, "opened"))
			memcpy(said, line, sizeof(said));
	CHECK_STR(said, "opened: -38: DW_NET=ucx needs libucp.so.0 (Debian: libucx0): ");
	CHECK_STR(said, file);
	CHECK_EQ(pclose(pipe), 0);
	unlink(file);
	rmdir(path);
}
