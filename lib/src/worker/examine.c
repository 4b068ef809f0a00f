/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * examine: dw_host_examine(): what a connection to a node needs, one after the other: the name, the
 * port, the key, the node's answer, and then what the node says about itself (about.h).
 *
 * Owns: struct visit, for as long as the call lasts. A step returns whether the next one makes
 * sense. Any thread.
 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/distworker.h>
#include "base/clock.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "host/connection.h"
#include "host/handshake.h"
#include "host/key.h"
#include "host/message.h"
#include "task/options.h"
#include "worker/about.h"
#include "worker/hierarchy.h"

#define TIMEOUT_NS (5 * NS_PER_S)
#define ELSEWHERE_NS NS_PER_S /* for the answer of another port */
#define QUESTIONS 16
#define LARGE_BYTES (256u << 10)
/* For a tree whose children have sockets and mailboxes of their own. */
#define FILES_WANTED 1024
#define PROCESSES_WANTED 512
#define TIME_OF_DAY_NS NS_PER_S /* more is told */

struct visit {
	struct dw_host_examine_options options;
	struct address address; /* as it was given, … */
	struct address numeric; /* … and the one that answers */
	struct stream *stream;
	struct offset offset;
	struct about_connection own;
	uint64_t trips[QUESTIONS];
	int64_t time_of_day_ns; /* there, ahead of the one here */
	uint64_t asked;
	void *answer; /* the payload that `about` points into */
	struct about about;
};

__attribute__((format(printf, 5, 6))) static void say(const struct visit *visit,
						      enum dw_verdict verdict, const char *subject,
						      const char *remedy, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	const struct dw_host_finding finding = {
		.size = sizeof(finding),
		.verdict = verdict,
		.subject = subject,
		.text = text,
		.remedy = remedy,
	};
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	visit->options.found(&finding, visit->options.context);
}

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

/* -------------------------------------------------------------------- name and port */

static bool find_name(const struct visit *visit, struct addrinfo **found)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	const struct address *address = &visit->address;
	char all[256] = "", one[64];
	int error = getaddrinfo(address->host, address->port, &hints, found);
	size_t used = 0;

	if (error) {
		say(visit, DW_VERDICT_FAIL, "name",
		    "check the spelling, /etc/hosts and DNS (getent hosts NAME), or give the "
		    "address itself",
		    "\"%s\" has no address: %s", address->host,
		    error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
		return false;
	}
	for (const struct addrinfo *at = *found; at; at = at->ai_next)
		if (!getnameinfo(at->ai_addr, at->ai_addrlen, one, sizeof(one), NULL, 0,
				 NI_NUMERICHOST) &&
		    used < sizeof(all))
			used += (size_t)text_format(all + used, sizeof(all) - used, "%s%s",
						    used ? ", " : "", one);
	say(visit, DW_VERDICT_OK, "name", "", "\"%s\" is %s", address->host, all);
	return true;
}

/*
 * Finds a port at which the host answers, if only by a refusal, so that it is known to be up. NULL:
 * it answers at none.
 */
static const char *answers_elsewhere(const struct address *to)
{
	static const char *const ports[] = { "22", "1" };
	struct address other = *to;

	for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
		int fd;

		if (strcmp(to->port, ports[i]) == 0)
			continue;
		text_copy(other.port, sizeof(other.port), ports[i]);
		fd = address_dial(&other, TIMEOUT_NS, deadline_in(ELSEWHERE_NS));
		if (fd >= 0)
			close(fd);
		if (fd >= 0 || fd == -ECONNREFUSED)
			return ports[i];
	}
	return NULL;
}

static void say_unreachable(const struct visit *visit, const struct address *to, int error)
{
	bool times_out = error == -ETIMEDOUT;
	const char *other = NULL;

	if (times_out || error == -EHOSTUNREACH || error == -EACCES)
		other = answers_elsewhere(to);
	if (error == -ECONNREFUSED)
		say(visit, DW_VERDICT_FAIL, "port",
		    "start the node there (distworker node, or run JOB --listen), or "
		    "name its port: "
		    "--host NAME:PORT",
		    "%s refuses connections to port %s: nothing listens there, or a firewall "
		    "rejects them",
		    to->host, to->port);
	else if (other)
		say(visit, DW_VERDICT_FAIL, "port",
		    "open the TCP port in the firewall of that host, or of the network between",
		    "%s is up (its port %s answers), and connections to port %s are filtered: %s",
		    to->host, other, to->port, times_out ? "no answer" : strerror(-error));
	else if (times_out)
		say(visit, DW_VERDICT_FAIL, "port",
		    "is the host on, and in this network? ping it; else a firewall drops "
		    "everything",
		    "%s does not answer within %.3g s, at port %s or any other", to->host,
		    (double)visit->options.timeout_ns / 1e9, to->port);
	else
		say(visit, DW_VERDICT_FAIL, "port",
		    "is the host on? `ip route get ADDRESS` shows the way that its packets take",
		    "%s, port %s: %s", to->host, to->port, strerror(-error));
}

/* Connects to the first address that accepts. */
static bool reach(struct visit *visit, const struct addrinfo *found)
{
	char own[ADDRESS_BYTES];
	uint64_t began;
	int fd;

	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		struct address *to = &visit->numeric;

		*to = visit->address;
		if (getnameinfo(at->ai_addr, at->ai_addrlen, to->host, sizeof(to->host), NULL, 0,
				NI_NUMERICHOST))
			continue;
		began = now_ns();
		fd = address_dial(to, visit->options.timeout_ns,
				  deadline_in(visit->options.timeout_ns));
		if (fd < 0) {
			say_unreachable(visit, to, fd);
			continue;
		}
		address_of_own(fd, own);
		say(visit, DW_VERDICT_OK, "port", "",
		    "%s takes connections at port %s, after %.3f ms, from %s", to->host, to->port,
		    ms(now_ns() - began), own);
		close(fd);
		return true;
	}
	return false;
}

/* ---------------------------------------------------------------- key and handshake */

static bool find_key(const struct visit *visit, struct secret **secret)
{
	int result = key_find(visit->options.key, secret);

	if (result == 0)
		return true;
	say(visit, DW_VERDICT_FAIL, "key",
	    result == -ENOKEY ? "--key FILE, or DW_HOST_KEY: the file that the node has, too" :
	    result == -ENOSYS ? "install libcrypto of OpenSSL 3 (Debian: libssl3)" :
				"a file of 16 to 4,096 bytes that only its owner reads (chmod 600)",
	    "%s", error_text());
	return false;
}

static bool connect_to(struct visit *visit, struct secret *secret)
{
	uint64_t timeout = visit->options.timeout_ns;
	struct offset_sample sample;
	int result = connection_dial(&visit->numeric, secret, timeout, deadline_in(timeout),
				     &visit->stream, &sample);

	if (result == 0) {
		offset_take(&visit->offset, &sample);
		say(visit, DW_VERDICT_OK, "handshake", "",
		    "both hosts have one key, and speak version %d of the messages, ABI %d, with "
		    "pages of %ld bytes",
		    HANDSHAKE_VERSION, DISTWORKER_ABI_VERSION, sysconf(_SC_PAGESIZE));
		return true;
	}
	say(visit, DW_VERDICT_FAIL, "handshake",
	    result == -EKEYREJECTED ?
		    "copy the key file to both hosts; a node reads it when it starts" :
	    result == -EPROTO ?
		    "name the port of a node, and install the same distworker on both hosts" :
	    result == -ECONNRESET ?
		    "the node's own output says why it has refused: another key is the "
		    "usual cause" :
		    "see there what listens (ss -tlnp): another program, or a node that is stopped",
	    "%s", error_text());
	return false;
}

/* ------------------------------------------------------------------------ questions */

static void *nowhere(void *context, const struct stream_message *message)
{
	(void)context;
	(void)message;
	error_set(-EBADMSG, "the node sends data that nobody has asked for");
	return NULL;
}

static int wait_message(const struct visit *visit, struct stream_message *message)
{
	uint64_t deadline = deadline_in(visit->options.timeout_ns), now;
	struct pollfd polled = { .fd = stream_fd(visit->stream) };
	struct timespec rest;
	int result;

	for (;;) {
		result = stream_flush(visit->stream);
		if (result == 0)
			result = stream_receive(visit->stream, nowhere, NULL, message);
		if (result)
			return result;
		now = now_ns();
		if (now >= deadline)
			return error_set(-ETIMEDOUT, "no answer for %.1f s",
					 (double)visit->options.timeout_ns / 1e9);
		rest = clock_timespec(deadline - now);
		polled.events = (short)(POLLIN | (stream_pending(visit->stream) ? POLLOUT : 0));
		ppoll(&polled, 1, &rest, NULL);
	}
}

static int read_answer(struct visit *visit, const struct stream_message *message, uint64_t sent_ns)
{
	struct unpack unpack = { .at = message->payload, .left = message->bytes }, about;
	struct offset_sample sample = { .sent_ns = sent_ns, .received_ns = now_ns() };
	struct host_examined_head head;
	struct timespec real;

	unpack_into(&unpack, &head, sizeof(head));
	about = (struct unpack){ .at = unpack.at, .left = head.about_bytes };
	if (message->type != HOST_EXAMINED || message->number != visit->asked ||
	    !unpack_bytes(&unpack, head.about_bytes))
		return error_set(-EBADMSG, "the node answers with a message of type %u, %u bytes",
				 message->type, message->bytes);
	sample.got_ns = head.got_ns;
	sample.answered_ns = head.answered_ns;
	offset_take(&visit->offset, &sample);
	clock_gettime(CLOCK_REALTIME, &real);
	visit->time_of_day_ns =
		(int64_t)(head.real_ns +
			  (now_ns() - offset_here(&visit->offset, head.answered_ns)) -
			  ((uint64_t)real.tv_sec * NS_PER_S + (uint64_t)real.tv_nsec));
	if (visit->answer)
		return 0;
	visit->answer = malloc(about.left ? about.left : 1);
	if (!visit->answer)
		return error_set(-ENOMEM, "no memory for the node's answer");
	memcpy(visit->answer, about.at, about.left);
	about.at = visit->answer;
	return about_decode(&about, &visit->about) ?
		       0 :
		       error_set(-EBADMSG, "the node describes itself in %zu bytes of no sense",
				 about.left);
}

/* Asks a question of `bytes` bytes, and gets an answer of `answer_bytes`. */
static int ask(struct visit *visit, uint32_t bytes, uint32_t answer_bytes)
{
	uint64_t sent_ns = now_ns();
	struct stream_message message;
	void *filling = bytes ? calloc(1, bytes) : NULL;
	int result;

	if (bytes && !filling)
		return error_set(-ENOMEM, "no memory for a question of %u bytes", bytes);
	result = stream_send(visit->stream, HOST_EXAMINE, ++visit->asked, answer_bytes, filling,
			     bytes);
	free(filling);
	if (result == 0)
		result = wait_message(visit, &message);
	return result < 0 ? result : read_answer(visit, &message, sent_ns);
}

static int by_length(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static bool ask_often(struct visit *visit)
{
	int result = ask(visit, 0, 0); /* the node makes its session meanwhile */

	for (int i = 0; i < QUESTIONS && result == 0; i++) {
		uint64_t began = now_ns();

		result = ask(visit, 0, 0);
		visit->trips[i] = now_ns() - began;
	}
	if (result < 0) {
		say(visit, DW_VERDICT_FAIL, "answer",
		    "the node's own output says what has happened to its session", "%s",
		    error_text());
		return false;
	}
	about_connection(stream_fd(visit->stream), &visit->own);
	qsort(visit->trips, QUESTIONS, sizeof(visit->trips[0]), by_length);
	return true;
}

/* ------------------------------------------------------------------ what it has said */

static bool same_object(const struct visit *visit, const struct about_object *object)
{
	uint8_t here[ABOUT_IDENTITY_BYTES];
	int result = symbol_identify(object->path, NULL, here);

	if (result == 0 && memcmp(here, object->identity, sizeof(here)) == 0)
		return true;
	if (result < 0 && object->functions)
		say(visit, DW_VERDICT_WARN, "program",
		    "the tree's process needs the same file; under the same path, if ssh or a "
		    "launcher starts it",
		    "%u of the node's functions are in %s, which this host does not have",
		    object->functions, object->path);
	else if (result == 0)
		say(visit, object->functions ? DW_VERDICT_FAIL : DW_VERDICT_WARN, "program",
		    "copy the file from one host to the other, and start the node again",
		    "%s is another build there (%02x%02x%02x%02x…, here %02x%02x%02x%02x…): %s",
		    object->path, object->identity[0], object->identity[1], object->identity[2],
		    object->identity[3], here[0], here[1], here[2], here[3],
		    object->functions ? "its functions are refused" :
					"the messages fit, by their version");
	return false;
}

static void say_program(const struct visit *visit)
{
	const struct about *about = &visit->about;
	uint32_t same = 0;

	for (uint32_t i = 0; i < about->object_count; i++)
		same += same_object(visit, &about->objects[i]);
	if (strcmp(about->version, DW_VERSION) != 0)
		say(visit, DW_VERDICT_WARN, "version", "install the same release on both hosts",
		    "distworker is %s there, and %s here", about->version, DW_VERSION);
	say(visit, DW_VERDICT_OK, "program", "",
	    "distworker %s serves as %s, with %u functions; %u of its %u files are the same here",
	    about->version, about->user, about->functions, same, about->object_count);
	if (visit->options.user && strcmp(visit->options.user, about->user) != 0)
		say(visit, DW_VERDICT_FAIL, "user", "start the node with --user NAME",
		    "the node serves as %s, not as %s", about->user, visit->options.user);
}

static void say_objects(const struct visit *visit)
{
	const char *folder = visit->about.folder;

	if (folder[0])
		say(visit, DW_VERDICT_OK, "objects", "",
		    "shared objects of symbols that are not there come from home, into %s",
		    text_short(folder));
	else
		say(visit, DW_VERDICT_OK, "objects", "",
		    "it takes no shared objects: those of symbols lie there under the same path "
		    "(--objects FOLDER would take them)");
}

static void say_clock(const struct visit *visit)
{
	int64_t ahead = offset_ahead(&visit->offset), day = visit->time_of_day_ns;
	uint64_t apart = (uint64_t)(day < 0 ? -day : day);

	say(visit, DW_VERDICT_OK, "round trip", "",
	    "%.3f ms the shortest of %d, %.3f ms the median; by the kernel here %.3f ms, "
	    "by the one "
	    "there %.3f ms",
	    ms(visit->trips[0]), QUESTIONS, ms(visit->trips[QUESTIONS / 2]),
	    visit->own.round_trip_us / 1e3, visit->about.connection.round_trip_us / 1e3);
	say(visit, apart > TIME_OF_DAY_NS ? DW_VERDICT_WARN : DW_VERDICT_OK, "clock",
	    apart > TIME_OF_DAY_NS ?
		    "synchronise both (chrony): lines of logs are hard to compare; the "
		    "trace is not "
		    "concerned" :
		    "",
	    "its uptime is %.3f s %s, known to %.3f ms; its time of day is %.3f s %s",
	    (double)(ahead < 0 ? -ahead : ahead) / 1e9, ahead < 0 ? "less" : "more",
	    ms(offset_error(&visit->offset, now_ns())), (double)apart / 1e9,
	    day < 0 ? "behind" : "ahead");
}

static void say_limits(const struct visit *visit)
{
	const struct about *about = &visit->about;
	bool files = about->files < FILES_WANTED, processes = about->processes < PROCESSES_WANTED;
	char open_files[32] = "unlimited", users_processes[32] = "unlimited";

	if (about->files != UINT64_MAX)
		text_format(open_files, sizeof(open_files), "%llu",
			    (unsigned long long)about->files);
	if (about->processes != UINT64_MAX)
		text_format(users_processes, sizeof(users_processes), "%llu",
			    (unsigned long long)about->processes);
	say(visit, files || processes ? DW_VERDICT_WARN : DW_VERDICT_OK, "limits",
	    files     ? "ulimit -n 4096 before the node starts" :
	    processes ? "ulimit -u 4096 before the node starts" :
			"",
	    "there: open files %s, processes %s, %llu MiB for tensors that are kept", open_files,
	    users_processes, (unsigned long long)(about->cache_bytes >> 20));
}

/* Large packets may be lost on a path that small ones pass. */
static void try_large(struct visit *visit)
{
	uint64_t began = now_ns(), there = 0, back = 0;
	int result = ask(visit, LARGE_BYTES, 0);
	bool out = result < 0;

	there = now_ns() - began;
	if (result == 0) {
		began = now_ns();
		result = ask(visit, 0, LARGE_BYTES);
		back = now_ns() - began;
	}
	about_connection(stream_fd(visit->stream), &visit->own);
	if (result < 0)
		say(visit, DW_VERDICT_FAIL, "MTU",
		    "a link on the way drops large packets: the same MTU on both hosts "
		    "(ip link set "
		    "DEV mtu 1400), or let ICMP \"fragmentation needed\" pass",
		    "small messages pass, and %u KiB %s do not: %s; packets have up to %u bytes",
		    LARGE_BYTES >> 10, out ? "to the node" : "from the node", error_text(),
		    out ? visit->own.mtu : visit->about.connection.mtu);
	else
		say(visit, DW_VERDICT_OK, "MTU", "",
		    "packets have up to %u bytes; %u KiB take %.3f ms to the node, %.3f ms back, "
		    "with %u packets sent again",
		    visit->own.mtu, LARGE_BYTES >> 10, ms(there), ms(back), visit->own.retransmits);
}

/* --------------------------------------------------------------------------- the call */

static void go(struct visit *visit)
{
	struct addrinfo *found = NULL;
	struct secret *secret = NULL;

	if (find_name(visit, &found) && reach(visit, found) && find_key(visit, &secret) &&
	    connect_to(visit, secret) && ask_often(visit)) {
		say_program(visit);
		say_objects(visit);
		say_clock(visit);
		say_limits(visit);
		try_large(visit);
	}
	if (found)
		freeaddrinfo(found);
	secret_destroy(secret);
	stream_destroy(visit->stream);
	free(visit->answer);
}

DW_API int dw_host_examine(const char *host, const struct dw_host_examine_options *options)
{
	struct visit *visit;
	int result;

	if (!host)
		return error_set(-EINVAL, "dw_host_examine: host is NULL");
	visit = calloc(1, sizeof(*visit));
	if (!visit)
		return error_set(-ENOMEM, "no memory to examine a host");
	visit->options = DW_OPTIONS(dw_host_examine_options);
	result = options_read(&visit->options, sizeof(visit->options), options,
			      "dw_host_examine_options");
	if (result == 0 && !visit->options.found)
		result = error_set(-EINVAL, "dw_host_examine: options.found is NULL");
	if (result == 0)
		result = address_parse("dw_host_examine: host", host, &visit->address);
	if (result == 0 && !visit->address.host[0])
		result = error_set(-EINVAL,
				   "dw_host_examine: host \"%s\" has no name before the "
				   "port",
				   host);
	if (!visit->options.timeout_ns)
		visit->options.timeout_ns = TIMEOUT_NS;
	if (result == 0)
		go(visit);
	free(visit);
	return result;
}
