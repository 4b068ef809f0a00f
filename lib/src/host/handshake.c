/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See handshake.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/distworker.h>
#include "base/clock.h"
#include "host/handshake.h"
#include "task/error.h"

#define BYTE_ORDER_MARK 0x01020304u

static const char magic[8] = { 'd', 'w', '-', 'h', 'o', 's', 't', '\n' };

/* Sends a few bytes into a socket whose buffer is empty. */
static int send_all(int fd, const void *bytes, size_t count)
{
	ssize_t sent;

	do
		sent = send(fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent == (ssize_t)count)
		return 0;
	return error_set(sent < 0 ? -errno : -EPROTO, "cannot greet the other host: %s",
			 sent < 0 ? strerror(errno) : "its socket takes no more");
}

static int code_of(const struct handshake *handshake, const char *word,
		   unsigned char code[SECRET_CODE_BYTES])
{
	const struct greeting *dialler = handshake->dialled ? &handshake->own : &handshake->peer;
	const struct greeting *listener = handshake->dialled ? &handshake->peer : &handshake->own;
	const struct iovec parts[] = {
		{ (void *)(uintptr_t)word, strlen(word) + 1 },
		{ (void *)(uintptr_t)dialler, sizeof(*dialler) },
		{ (void *)(uintptr_t)listener, sizeof(*listener) },
	};

	return secret_code(handshake->secret, parts, 3, code);
}

static int send_proof(const struct handshake *handshake, int fd)
{
	unsigned char message[sizeof(struct greeting) + SECRET_CODE_BYTES];
	size_t greeting = handshake->dialled ? 0 : sizeof(struct greeting);
	int result =
		code_of(handshake, handshake->dialled ? "dialler" : "listener", message + greeting);

	if (result < 0)
		return result;
	memcpy(message, &handshake->own, greeting);
	return send_all(fd, message, greeting + SECRET_CODE_BYTES);
}

int handshake_begin(struct handshake *handshake, struct secret *secret, bool dialled, int fd)
{
	int result;

	memset(handshake, 0, sizeof(*handshake));
	handshake->secret = secret;
	handshake->dialled = dialled;
	handshake->own = (struct greeting){
		.byte_order = BYTE_ORDER_MARK,
		.version = HANDSHAKE_VERSION,
		.page_bytes = (uint32_t)sysconf(_SC_PAGESIZE),
		.abi = DISTWORKER_ABI_VERSION,
	};
	memcpy(handshake->own.magic, magic, sizeof(magic));
	result = secret_random(handshake->own.random, sizeof(handshake->own.random));
	handshake->own.clock_ns = now_ns();
	if (result == 0 && dialled)
		result = send_all(fd, &handshake->own, sizeof(handshake->own));
	return result;
}

/* Can the first bytes be a greeting? The rest of anything else is not awaited. */
static int check_magic(const struct handshake *handshake)
{
	size_t got = handshake->got < sizeof(magic) ? handshake->got : sizeof(magic);
	char seen[3 * sizeof(magic) + 1] = "";

	if (memcmp(handshake->in, magic, got) == 0)
		return 0;
	for (size_t i = 0; i < got; i++) {
		static const char digits[] = "0123456789abcdef";

		seen[3 * i] = ' ';
		seen[3 * i + 1] = digits[handshake->in[i] >> 4];
		seen[3 * i + 2] = digits[handshake->in[i] & 15];
		seen[3 * i + 3] = '\0';
	}
	return error_set(-EPROTO, "the other end is no distworker: its first bytes are%s", seen);
}

static int check_peer(const struct greeting *peer, const struct greeting *own)
{
	if (peer->byte_order != BYTE_ORDER_MARK)
		return error_set(-EPROTO,
				 "the other host has another byte order (%08x): a tree "
				 "takes hosts of one",
				 peer->byte_order);
	if (peer->version != own->version)
		return error_set(-EPROTO,
				 "the other host speaks version %u of the messages "
				 "between hosts, this one version %u: install the same distworker "
				 "on both",
				 peer->version, own->version);
	if (peer->abi != own->abi)
		return error_set(-EPROTO,
				 "the other host has ABI version %u, this one %u: install "
				 "the same distworker on both",
				 peer->abi, own->abi);
	if (peer->page_bytes != own->page_bytes)
		return error_set(-EPROTO,
				 "the other host has pages of %u bytes, this one of %u: a "
				 "tree takes hosts with pages of one size",
				 peer->page_bytes, own->page_bytes);
	return 0;
}

/* How many bytes the current state waits for. */
static size_t wanted(const struct handshake *handshake)
{
	return handshake->greeted ? SECRET_CODE_BYTES : sizeof(struct greeting);
}

/*
 * The listening side also answers a greeting of another version, so that the dialler learns of it.
 */
static int take_greeting(struct handshake *handshake, int fd)
{
	int result = 0;

	memcpy(&handshake->peer, handshake->in, sizeof(handshake->peer));
	handshake->greeted = true;
	handshake->greeted_ns = now_ns();
	handshake->got = 0;
	if (!handshake->dialled) {
		handshake->own.clock_ns = handshake->greeted_ns;
		result = send_proof(handshake, fd);
	}
	return result < 0 ? result : check_peer(&handshake->peer, &handshake->own);
}

static int take_proof(const struct handshake *handshake, int fd)
{
	unsigned char code[SECRET_CODE_BYTES];
	int result = code_of(handshake, handshake->dialled ? "listener" : "dialler", code);

	if (result == 0 && !secret_equal(code, handshake->in))
		result = error_set(-EKEYREJECTED, "the other host has another key: both ends need "
						  "the same key file");
	if (result == 0 && handshake->dialled)
		result = send_proof(handshake, fd);
	return result < 0 ? result : 1;
}

int handshake_step(struct handshake *handshake, int fd)
{
	ssize_t got;
	int result;

	for (;;) {
		got = recv(fd, handshake->in + handshake->got, wanted(handshake) - handshake->got,
			   MSG_DONTWAIT);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (got < 0)
			return error_set(-errno, "the other host does not answer: %s",
					 strerror(errno));
		if (got == 0)
			return error_set(-ECONNRESET,
					 "the other host ended the connection before "
					 "it proved that it has the key%s",
					 handshake->greeted ? ": it may have another one" : "");
		handshake->got += (uint32_t)got;
		result = handshake->greeted ? 0 : check_magic(handshake);
		if (result == 0 && handshake->got == wanted(handshake))
			result = handshake->greeted ? take_proof(handshake, fd) :
						      take_greeting(handshake, fd);
		if (result)
			return result;
	}
}

struct offset_sample handshake_sample(const struct handshake *handshake)
{
	return (struct offset_sample){
		.sent_ns = handshake->own.clock_ns,
		.got_ns = handshake->peer.clock_ns,
		.answered_ns = handshake->peer.clock_ns,
		.received_ns = handshake->greeted_ns,
	};
}

int handshake_keys(const struct handshake *handshake, struct secret **send, struct secret **receive)
{
	unsigned char code[SECRET_CODE_BYTES];
	int result = code_of(handshake, handshake->dialled ? "up" : "down", code);

	if (result == 0)
		result = secret_create(code, sizeof(code), send);
	if (result < 0)
		return result;
	result = code_of(handshake, handshake->dialled ? "down" : "up", code);
	if (result == 0)
		result = secret_create(code, sizeof(code), receive);
	if (result < 0)
		secret_destroy(*send);
	explicit_bzero(code, sizeof(code));
	return result;
}
