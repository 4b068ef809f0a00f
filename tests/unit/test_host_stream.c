/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * What two hosts exchange before any tree exists: keys and codes (host/secret.h), the first bytes
 * (host/handshake.h), messages and data (host/stream.h), addresses (host/address.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "base/clock.h"
#include "host/address.h"
#include "host/handshake.h"
#include "host/key.h"
#include "host/stream.h"
#include "task/error.h"
#include "host.h"

static int non_blocking_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
}

/* ------------------------------------------------------------------------- secrets */

/* RFC 4231, test cases 1, 2 and 6. */
HOST_TEST(codes_are_hmac_sha_256)
{
	static const struct {
		unsigned char key_byte;
		const char *key;
		size_t key_bytes;
		const char *data, *code;
	} cases[] = {
		{ 0x0b, NULL, 20, "Hi There",
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ 0, "Jefe", 4, "what do ya want for nothing?",
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ 0xaa, NULL, 131, "Test Using Larger Than Block-Size Key - Hash Key First",
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char key[131], code[SECRET_CODE_BYTES];
		char text[2 * SECRET_CODE_BYTES + 1];
		struct secret *secret = NULL;
		size_t half = strlen(cases[i].data) / 2;
		const struct iovec parts[] = {
			{ (void *)(uintptr_t)cases[i].data, half },
			{ (void *)(uintptr_t)(cases[i].data + half),
			  strlen(cases[i].data) - half },
		};

		memset(key, cases[i].key_byte, sizeof(key));
		if (cases[i].key)
			memcpy(key, cases[i].key, cases[i].key_bytes);
		REQUIRE(secret_create(key, cases[i].key_bytes, &secret) == 0);
		for (int again = 0; again < 3; again++) {
			CHECK_EQ(secret_code(secret, parts, 2, code), 0);
			for (size_t j = 0; j < sizeof(code); j++)
				snprintf(text + 2 * j, 3, "%02x", code[j]);
			CHECK(strcmp(text, cases[i].code) == 0);
		}
		secret_destroy(secret);
	}
}

HOST_TEST(a_key_file_is_private_and_of_a_sensible_size)
{
	static const struct {
		size_t bytes;
		mode_t mode;
		int error;
		const char *says;
	} cases[] = {
		{ 64, 0600, 0, NULL },
		{ KEY_LEAST, 0400, 0, NULL },
		{ KEY_MOST, 0600, 0, NULL },
		{ KEY_LEAST - 1, 0600, -EINVAL, "has 15 bytes; 16 to 4096" },
		{ KEY_MOST + 1, 0600, -EINVAL, "has over 4096 bytes" },
		{ 0, 0600, -EINVAL, "has 0 bytes" },
		{ 64, 0640, -EACCES, "(mode 640): chmod 600 " },
		{ 64, 0602, -EACCES, "other users" },
	};
	char path[] = "/tmp/dw-key-XXXXXX", content[KEY_MOST + 3];
	int fd = mkstemp(path);
	struct secret *secret;

	REQUIRE(fd >= 0);
	memset(content, 'k', sizeof(content));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int result;

		/* Newlines at the end do not count. */
		CHECK_EQ(ftruncate(fd, 0), 0);
		CHECK_EQ(pwrite(fd, content, cases[i].bytes, 0), cases[i].bytes);
		if (cases[i].bytes && cases[i].bytes <= KEY_MOST - 2)
			CHECK_EQ(pwrite(fd, "\n\n", 2, (off_t)cases[i].bytes), 2);
		CHECK_EQ(fchmod(fd, cases[i].mode), 0);
		result = key_read(path, &secret);
		CHECK_EQ(result, cases[i].error);
		if (result == 0)
			secret_destroy(secret);
		else
			CHECK_STR(error_text(), cases[i].says);
	}
	close(fd);
	unlink(path);
	CHECK_EQ(key_read(path, &secret), -ENOENT);
	CHECK_STR(error_text(), path);
	CHECK_EQ(key_read("munge", &secret), -ENOENT);
	CHECK_STR(error_text(), "munge is not used: a file of yours");
	CHECK_EQ(key_read("/tmp", &secret), -EINVAL);
	CHECK_STR(error_text(), "is no regular file");
}

/* ---------------------------------------------------------------------- handshakes */

struct shake {
	int ends[2];			/* dialler, listener */
	struct secret *secrets[2];
	struct handshake sides[2];
	int results[2];
};

static void begin(struct shake *shake, const char *dialler_key, const char *listener_key)
{
	CHECK_EQ(non_blocking_pair(shake->ends), 0);
	shake->secrets[0] = host_secret(dialler_key);
	shake->secrets[1] = host_secret(listener_key);
	for (int side = 0; side < 2; side++) {
		CHECK_EQ(handshake_begin(&shake->sides[side], shake->secrets[side], side == 0,
					 shake->ends[side]), 0);
		shake->results[side] = 0;
	}
}

/* A side that fails closes its end. */
static void one_step(struct shake *shake, int side)
{
	if (shake->results[side])
		return;
	shake->results[side] = handshake_step(&shake->sides[side], shake->ends[side]);
	if (shake->results[side] < 0)
		shutdown(shake->ends[side], SHUT_RDWR);
}

static void finish(struct shake *shake)
{
	for (int side = 0; side < 2; side++) {
		secret_destroy(shake->secrets[side]);
		close(shake->ends[side]);
	}
}

HOST_TEST(both_sides_of_a_connection_come_to_the_same_keys)
{
	struct secret *send[2] = { NULL, NULL }, *receive[2] = { NULL, NULL };
	unsigned char codes[4][SECRET_CODE_BYTES];
	const struct iovec part = { (void *)(uintptr_t)"abc", 3 };
	struct shake shake;

	begin(&shake, "one key of both", "one key of both");
	one_step(&shake, 0);		/* nothing has arrived yet */
	CHECK_EQ(shake.results[0], 0);
	for (int i = 0; i < 4; i++)
		one_step(&shake, i % 2 == 0);
	CHECK_EQ(shake.results[0], 1);
	CHECK_EQ(shake.results[1], 1);
	for (int side = 0; side < 2; side++) {
		REQUIRE(handshake_keys(&shake.sides[side], &send[side], &receive[side]) == 0);
		CHECK_EQ(secret_code(send[side], &part, 1, codes[side]), 0);
		CHECK_EQ(secret_code(receive[side], &part, 1, codes[2 + side]), 0);
		secret_destroy(send[side]);
		secret_destroy(receive[side]);
	}
	CHECK(secret_equal(codes[0], codes[3]) && secret_equal(codes[1], codes[2]));
	CHECK(!secret_equal(codes[0], codes[1]));
	finish(&shake);
}

HOST_TEST(another_key_is_refused_on_both_sides)
{
	struct shake shake;

	begin(&shake, "one key of both", "another key");
	one_step(&shake, 1);
	one_step(&shake, 0);
	CHECK_EQ(shake.results[0], -EKEYREJECTED);
	CHECK_STR(error_text(), "another key");
	one_step(&shake, 1);
	CHECK_EQ(shake.results[1], -ECONNRESET);
	CHECK_STR(error_text(), "it may have another one");
	finish(&shake);
}

/* A dialler that continues although it has no proof. */
HOST_TEST(a_listener_wants_the_dialler_s_proof)
{
	static const char wrong[SECRET_CODE_BYTES];
	struct shake shake;

	begin(&shake, "one key of both", "another key");
	one_step(&shake, 1);
	CHECK_EQ(send(shake.ends[0], wrong, sizeof(wrong), 0), sizeof(wrong));
	one_step(&shake, 1);
	CHECK_EQ(shake.results[1], -EKEYREJECTED);
	finish(&shake);
}

HOST_TEST(another_version_byte_order_abi_or_page_size_is_refused_on_both_sides)
{
	static const char *const says[] = { "version 99", "another byte order (04030201)",
					    "pages of 12345 bytes", "ABI version 77" };

	for (unsigned what = 0; what < 4; what++) {
		for (int liar = 0; liar < 2; liar++) {
			struct greeting lie;
			struct shake shake;

			begin(&shake, "one key of both", "one key of both");
			lie = shake.sides[liar].own;
			if (what == 0)
				lie.version = 99;
			else if (what == 1)
				lie.byte_order = 0x04030201;
			else if (what == 2)
				lie.page_bytes = 12345;
			else
				lie.abi = 77;
			if (liar == 0) {
				/* What the dialler has sent already is taken back first. */
				CHECK_EQ(read(shake.ends[1], &shake.sides[1].peer, sizeof(lie)),
					 sizeof(lie));
				CHECK_EQ(write(shake.ends[0], &lie, sizeof(lie)), sizeof(lie));
			}
			shake.sides[liar].own = lie;
			one_step(&shake, 1);
			if (liar == 0) {
				CHECK_EQ(shake.results[1], -EPROTO);
				CHECK_STR(error_text(), says[what]);
			}
			one_step(&shake, 0);
			CHECK(shake.results[0] < 0);
			if (liar == 1) {
				CHECK_EQ(shake.results[0], -EPROTO);
				CHECK_STR(error_text(), says[what]);
			}
			finish(&shake);
		}
	}
}

HOST_TEST(what_is_no_greeting_is_refused_as_soon_as_it_differs)
{
	struct shake shake;

	begin(&shake, "one key of both", "one key of both");
	CHECK_EQ(read(shake.ends[1], &shake.sides[1].peer, sizeof(struct greeting)),
		 sizeof(struct greeting));
	CHECK_EQ(write(shake.ends[0], "GET /", 5), 5);
	one_step(&shake, 1);
	CHECK_EQ(shake.results[1], -EPROTO);
	CHECK_STR(error_text(), "its first bytes are 47 45 54 20 2f");
	finish(&shake);
}

/* A byte at a time, and cut off after each byte. */
HOST_TEST(a_greeting_may_arrive_in_pieces_and_may_end_at_any_byte)
{
	for (size_t cut = 0; cut <= sizeof(struct greeting); cut++) {
		struct greeting sent;
		struct shake shake;

		begin(&shake, "one key of both", "one key of both");
		CHECK_EQ(read(shake.ends[1], &sent, sizeof(sent)), sizeof(sent));
		for (size_t i = 0; i < cut; i++) {
			CHECK_EQ(write(shake.ends[0], (char *)&sent + i, 1), 1);
			one_step(&shake, 1);
			CHECK_EQ(shake.results[1], 0);
		}
		if (cut < sizeof(struct greeting)) {
			shutdown(shake.ends[0], SHUT_WR);
			one_step(&shake, 1);
			CHECK_EQ(shake.results[1], -ECONNRESET);
		} else {
			one_step(&shake, 0);
			one_step(&shake, 1);
			CHECK_EQ(shake.results[0] + shake.results[1], 2);
		}
		finish(&shake);
	}
}

/* ------------------------------------------------------------------------- streams */

struct pair {
	struct stream *a, *b;
};

static void make_pair(struct pair *pair)
{
	int ends[2];

	CHECK_EQ(non_blocking_pair(ends), 0);
	CHECK_EQ(stream_create(ends[0], host_secret("up"), host_secret("down"), 5000000000ULL,
			       &pair->a), 0);
	CHECK_EQ(stream_create(ends[1], host_secret("down"), host_secret("up"), 5000000000ULL,
			       &pair->b), 0);
}

static void drop_pair(struct pair *pair)
{
	stream_destroy(pair->a);
	stream_destroy(pair->b);
}

/* The other side's memory: `address` counts from its begin. */
struct memory {
	unsigned char *bytes;
	uint64_t size;
};

static void *place(void *context, const struct stream_message *message)
{
	const struct memory *memory = context;

	if (message->address >= memory->size || message->bytes > memory->size - message->address) {
		error_set(-EBADMSG, "data for %#llx", (unsigned long long)message->address);
		return NULL;
	}
	return memory->bytes + message->address;
}

HOST_TEST(messages_arrive_as_they_were_sent)
{
	struct stream_message message;
	struct memory none = { NULL, 0 };
	struct pair pair;
	char text[64];

	make_pair(&pair);
	CHECK_EQ(stream_receive(pair.b, place, &none, &message), 0);
	for (unsigned i = 1; i < 200; i++) {
		snprintf(text, sizeof(text), "payload %u", i);
		CHECK_EQ(stream_send(pair.a, (uint8_t)i, i, ~(uint64_t)i, text,
				     i % 3 ? strlen(text) : 0), 0);
	}
	CHECK(stream_pending(pair.a));
	CHECK_EQ(stream_flush(pair.a), 0);
	CHECK(!stream_pending(pair.a));
	for (unsigned i = 1; i < 200; i++) {
		snprintf(text, sizeof(text), "payload %u", i);
		REQUIRE(stream_receive(pair.b, place, &none, &message) == 1);
		CHECK(message.type == i && message.number == i && message.address == ~(uint64_t)i);
		CHECK_EQ(message.bytes, i % 3 ? strlen(text) : 0);
		CHECK(memcmp(message.payload, text, message.bytes) == 0);
	}
	CHECK_EQ(stream_receive(pair.b, place, &none, &message), 0);
	stream_destroy(pair.a);
	CHECK_EQ(stream_receive(pair.b, place, &none, &message), -ECONNRESET);
	CHECK_STR(error_text(), "closed by the other side");
	stream_destroy(pair.b);
}

HOST_TEST(a_control_message_goes_between_the_chunks_of_data_and_a_late_one_behind_them)
{
	enum { BYTES = 1000000 };
	unsigned char *from = malloc(BYTES);
	struct memory to = { calloc(1, BYTES), BYTES };
	struct stream_message message;
	struct pair pair;
	uint64_t before = 0, after = 0;
	bool late = false;

	for (size_t i = 0; i < BYTES; i++)
		from[i] = (unsigned char)(i * 2654435761u >> 24);
	make_pair(&pair);
	CHECK_EQ(stream_send_data(pair.a, 7, 0, from, BYTES), 0);
	CHECK_EQ(stream_send_after(pair.a, 2, 7, 0, "late", 4), 0);
	CHECK_EQ(stream_flush(pair.a), 0);
	CHECK(stream_pending(pair.a));		/* the socket's buffer is smaller */
	CHECK_EQ(stream_send(pair.a, 1, 7, 0, "now", 3), 0);
	while (!late) {
		int result = stream_receive(pair.b, place, &to, &message);

		REQUIRE(result >= 0);
		if (result == 0)
			REQUIRE(stream_flush(pair.a) == 0 || errno == EAGAIN);
		else if (message.type == STREAM_DATA)
			*(after || before == (uint64_t)-1 ? &after : &before) += message.bytes;
		else if (message.type == 1)
			after = 1;
		else
			late = true;
	}
	CHECK(before > 0 && after > 1);
	CHECK_EQ(before + after - 1, BYTES);
	CHECK(memcmp(from, to.bytes, BYTES) == 0);
	CHECK(!stream_pending(pair.a));
	drop_pair(&pair);
	free(from);
	free(to.bytes);
}

HOST_TEST(data_that_is_dropped_takes_what_follows_it_along)
{
	enum { BYTES = 3 * STREAM_CHUNK_BYTES };
	unsigned char *from = calloc(1, BYTES);
	struct memory to = { calloc(1, BYTES), BYTES };
	struct stream_message message;
	struct pair pair;
	unsigned chunks[2] = { 0, 0 }, messages[2] = { 0, 0 };

	make_pair(&pair);
	for (uint64_t number = 0; number < 2; number++) {
		CHECK_EQ(stream_send_data(pair.a, number, 0, from, BYTES), 0);
		CHECK_EQ(stream_send_after(pair.a, 2, number, 0, "done", 4), 0);
	}
	stream_drop_data(pair.a, 0);
	while (stream_pending(pair.a)) {
		REQUIRE(stream_flush(pair.a) == 0);
		while (stream_receive(pair.b, place, &to, &message) == 1)
			(message.type == STREAM_DATA ? chunks : messages)[message.number]++;
	}
	CHECK(chunks[0] == 0 && messages[0] == 0 && chunks[1] == 3 && messages[1] == 1);
	/* The list is intact: a later message arrives. */
	CHECK_EQ(stream_send_data(pair.a, 1, 0, from, 10), 0);
	CHECK_EQ(stream_flush(pair.a), 0);
	CHECK_EQ(stream_receive(pair.b, place, &to, &message), 1);
	drop_pair(&pair);
	free(from);
	free(to.bytes);
}

/* The bytes that one end has written, to be changed and fed to the other. */
static size_t record(struct stream *from, int into, unsigned char *bytes, size_t room)
{
	CHECK_EQ(stream_flush(from), 0);
	return (size_t)read(into, bytes, room);
}

/* A stream that receives what the test writes into *feed, and one that writes into *tap. */
static void make_recorder(struct pair *pair, int *tap, int *feed)
{
	int first[2], second[2];

	CHECK_EQ(non_blocking_pair(first) + non_blocking_pair(second), 0);
	CHECK_EQ(stream_create(first[0], host_secret("up"), host_secret("down"), 5000000000ULL,
			       &pair->a), 0);
	CHECK_EQ(stream_create(second[0], host_secret("down"), host_secret("up"), 5000000000ULL,
			       &pair->b), 0);
	*tap = first[1];
	*feed = second[1];
}

HOST_TEST(a_byte_that_was_changed_on_the_way_is_found)
{
	unsigned char original[512], changed[512], area[64];
	struct pollfd polled = { .events = POLLIN };
	struct memory to = { area, sizeof(area) };
	struct stream_message message;
	size_t bytes = 0;

	/* 56 bytes and 16 of a control message; 56 of data, whose 32 bytes are not protected. */
	for (size_t at = 0; at == 0 || at < bytes; at++) {
		struct pair pair;
		int tap, feed, result, whole = 0;

		make_recorder(&pair, &tap, &feed);
		CHECK_EQ(stream_send(pair.a, 1, 2, 3, "sixteen bytes...", 16), 0);
		CHECK_EQ(stream_send_data(pair.a, 4, 5, "thirty-two bytes of data........", 32), 0);
		bytes = record(pair.a, tap, original, sizeof(original));
		CHECK_EQ(bytes, 56 + 16 + 56 + 32);
		memcpy(changed, original, bytes);
		changed[at] ^= 0x10;
		CHECK_EQ(write(feed, changed, bytes), bytes);
		shutdown(feed, SHUT_WR);
		while ((result = stream_receive(pair.b, place, &to, &message)) >= 0) {
			polled.fd = stream_fd(pair.b);
			if (result == 0)
				poll(&polled, 1, -1);
			whole += result;
		}
		if (at >= 56 + 16 + 56)
			CHECK(whole == 2 && result == -ECONNRESET);
		else
			CHECK(whole == (at >= 56 + 16) &&
			      (result == -EBADMSG || result == -ECONNRESET));
		close(tap);
		close(feed);
		drop_pair(&pair);
	}
}

HOST_TEST(a_message_that_is_repeated_left_out_or_swapped_is_found)
{
	static const char *const orders[] = { "001", "12", "02", "10", "0120" };

	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		unsigned char messages[3][64];
		struct memory none = { NULL, 0 };
		struct stream_message message;
		struct pair pair;
		int tap, feed, result;

		make_recorder(&pair, &tap, &feed);
		for (unsigned j = 0; j < 3; j++) {
			CHECK_EQ(stream_send(pair.a, 1, 2, 3, "8 bytes.", 8), 0);
			CHECK_EQ(record(pair.a, tap, messages[j], 64), 64);
		}
		for (const char *at = orders[i]; *at; at++)
			CHECK_EQ(write(feed, messages[*at - '0'], 64), 64);
		while ((result = stream_receive(pair.b, place, &none, &message)) == 1)
			;
		CHECK_EQ(result, -EBADMSG);
		CHECK_STR(error_text(), "does not come from the other host");
		close(tap);
		close(feed);
		drop_pair(&pair);
	}
}

HOST_TEST(sizes_that_no_message_has_are_refused_before_memory_is_taken)
{
	static const struct {
		uint32_t bytes;
		unsigned char type, zero;
	} cases[] = {
		{ STREAM_CONTROL_MOST + 1, 1, 0 }, { UINT32_MAX, 1, 0 }, { 8, 1, 1 },
		{ STREAM_CHUNK_BYTES + 1, STREAM_DATA, 0 }, { 0, STREAM_DATA, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char envelope[56] = { 0 };
		struct memory none = { NULL, 0 };
		struct stream_message message;
		struct pair pair;
		int tap, feed;

		make_recorder(&pair, &tap, &feed);
		memcpy(envelope, &cases[i].bytes, 4);
		envelope[4] = cases[i].type;
		envelope[6] = cases[i].zero;
		CHECK_EQ(write(feed, envelope, sizeof(envelope)), sizeof(envelope));
		CHECK_EQ(stream_receive(pair.b, place, &none, &message), -EBADMSG);
		CHECK_STR(error_text(), "sent no message");
		close(tap);
		close(feed);
		drop_pair(&pair);
	}
	CHECK_EQ(stream_send(NULL, 1, 0, 0, "", (size_t)STREAM_CONTROL_MOST + 1), -EMSGSIZE);
}

/* Sockets that take little at a time, and messages of all sizes in both directions at once. */
HOST_TEST(what_both_sides_send_at_once_arrives_whole_whatever_the_socket_takes)
{
	enum { AREA = 1 << 20, MESSAGES = 400 };
	struct memory memory[2] = { { calloc(1, AREA), AREA }, { calloc(1, AREA), AREA } };
	unsigned char *from = malloc(AREA);
	uint64_t wanted[2] = { 0, 0 }, got[2] = { 0, 0 };
	uint64_t data[2] = { 0, 0 }, sent_data[2] = { 0, 0 };
	struct stream *ends[2];
	struct pair pair;
	unsigned random = 4711, idle = 0;
	static const int small = 4096;

	for (size_t i = 0; i < AREA; i++)
		from[i] = (unsigned char)(i * 40503u >> 8);
	make_pair(&pair);
	ends[0] = pair.a;
	ends[1] = pair.b;
	for (int i = 0; i < 2; i++)
		setsockopt(stream_fd(ends[i]), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	for (unsigned sent = 0; idle < 4;) {
		bool any = false;

		for (int side = 0; side < 2; side++) {
			struct stream_message message;
			uint64_t bytes, at;
			int result;

			random = random * 1103515245u + 12345u;
			bytes = (random >> 8) % (random % 5 ? 300 : 200000);
			at = (random >> 4) % (AREA - 200000);
			if (sent < MESSAGES && random % 3) {
				CHECK_EQ(stream_send(ends[side], 1, sent, at, from + at, bytes),
					 0);
				wanted[!side]++;
			} else if (sent < MESSAGES) {
				CHECK_EQ(stream_send_data(ends[side], sent, at, from + at, bytes),
					 0);
				sent_data[!side] += bytes;
			}
			sent++;
			REQUIRE(stream_flush(ends[side]) == 0);
			result = stream_receive(ends[!side], place, &memory[!side], &message);
			REQUIRE(result >= 0);
			any |= result > 0 || stream_pending(ends[side]);
			if (result && message.type == STREAM_DATA)
				data[!side] += message.bytes;
			else if (result)
				got[!side]++;
			if (result)
				CHECK(memcmp(message.payload, from + message.address,
					     message.bytes) == 0);
		}
		idle = any || sent < MESSAGES ? 0 : idle + 1;
	}
	for (int side = 0; side < 2; side++) {
		struct stream_counters counters;

		CHECK_EQ(got[side], wanted[side]);
		CHECK_EQ(data[side], sent_data[side]);
		stream_counters(ends[side], &counters);
		CHECK_EQ(counters.bytes_in, data[side]);
		CHECK_EQ(counters.bytes_out, sent_data[!side]);
		free(memory[side].bytes);
	}
	free(from);
	drop_pair(&pair);
}

/* ----------------------------------------------------------------------- addresses */

TEST(names_of_hosts)
{
	static const struct {
		const char *text, *host, *port;	/* host NULL: port is a part of the error */
	} cases[] = {
		{ "b", "b", "7733" }, { "b:1", "b", "1" },
		{ "10.0.0.7:65535", "10.0.0.7", "65535" }, { "[fe80::1]:80", "fe80::1", "80" },
		{ "[::1]", "::1", "7733" }, { "::1", "::1", "7733" },
		{ ":4711", "", "4711" }, { "", "", "7733" },
		{ "b:", NULL, "the port is \"\"" }, { "b:65536", NULL, "from 0 to 65535" },
		{ "b:-1", NULL, "the port is \"-1\"" }, { "b:1x", NULL, "the port is \"1x\"" },
		{ "[::1", NULL, "']' should follow" }, { "[::1]80", NULL, "']' should follow" },
		{ "a b", NULL, "is no name of a host" }, { "user@b", NULL, "is no name of a host" },
	};
	struct address address;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int result = address_parse("host", cases[i].text, &address);

		if (cases[i].host) {
			CHECK_EQ(result, 0);
			CHECK(strcmp(address.host, cases[i].host) == 0);
			CHECK(strcmp(address.port, cases[i].port) == 0);
		} else {
			CHECK_EQ(result, -EINVAL);
			CHECK_STR(error_text(), cases[i].port);
			CHECK_STR(error_text(), "host \"");
		}
	}
}

TEST(a_dialled_connection_is_accepted_and_a_closed_port_is_named)
{
	struct address address;
	char own[ADDRESS_BYTES], peer[ADDRESS_BYTES];
	struct pollfd polled = { .events = POLLIN };
	int listening, dialled, accepted;

	REQUIRE(address_parse("host", "127.0.0.1:0", &address) == 0);
	listening = address_listen(&address);
	REQUIRE(listening >= 0);
	CHECK_EQ(address_accept(listening, 5000000000ULL), -EAGAIN);
	address_of_own(listening, own);
	REQUIRE(address_parse("host", own, &address) == 0);
	dialled = address_dial(&address, 5000000000ULL, now_ns() + 60000000000ULL);
	REQUIRE(dialled >= 0);
	polled.fd = listening;
	CHECK_EQ(poll(&polled, 1, -1), 1);
	accepted = address_accept(listening, 5000000000ULL);
	REQUIRE(accepted >= 0);
	address_of_own(dialled, own);
	address_of_peer(accepted, peer);
	CHECK(strcmp(own, peer) == 0);
	CHECK(fcntl(dialled, F_GETFL) & O_NONBLOCK && fcntl(accepted, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(dialled, F_GETFD) & FD_CLOEXEC && fcntl(accepted, F_GETFD) & FD_CLOEXEC);
	close(accepted);
	close(dialled);
	/* A second listener of the same port. */
	CHECK_EQ(address_listen(&address), -EADDRINUSE);
	CHECK_STR(error_text(), address.port);
	close(listening);
	CHECK_EQ(address_dial(&address, 5000000000ULL, now_ns() + 60000000000ULL), -ECONNREFUSED);
	CHECK_STR(error_text(), "`distworker node`");
	REQUIRE(address_parse("host", "no-such-host.invalid", &address) == 0);
	CHECK(address_dial(&address, 5000000000ULL, now_ns() + 60000000000ULL) < 0);
	CHECK_STR(error_text(), "host \"no-such-host.invalid\" has no address");
}

