/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See address.h. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/clock.h"
#include "base/deadline.h"
#include "base/fd.h"
#include "base/text.h"
#include "host/address.h"
#include "task/error.h"

#define BACKLOG 64

/* ------------------------------------------------------------------------- names */

static int check_port(const char *what, const char *text, const char *port)
{
	char *end;
	unsigned long number = strtoul(port, &end, 10);

	if (*port >= '0' && *port <= '9' && !*end && number <= 65535 && strlen(port) < 8)
		return 0;
	return error_set(-EINVAL,
			 "%s \"%s\": the port is \"%s\"; it should be a number from 0 to "
			 "65535",
			 what, text_short(text), text_short(port));
}

int address_parse(const char *what, const char *text, struct address *address)
{
	const char *host = text, *end = NULL, *port = NULL, *colon = strrchr(text, ':');

	if (*text == '[') {
		host = text + 1;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return error_set(-EINVAL,
					 "%s \"%s\": after '[' an IPv6 address and ']' "
					 "should follow, as in \"[fe80::1]:7733\"",
					 what, text_short(text));
		port = end[1] ? end + 2 : NULL;
	} else if (colon && strchr(text, ':') == colon) {
		end = colon;
		port = colon + 1;
	} else {
		end = text + strlen(text);
	}
	if ((size_t)(end - host) >= sizeof(address->host) ||
	    strcspn(text, " \t\n/@") != strlen(text))
		return error_set(-EINVAL,
				 "%s \"%s\" is no name of a host: name, name:port or "
				 "[IPv6]:port",
				 what, text_short(text));
	if (port && check_port(what, text, port) < 0)
		return -EINVAL;
	memcpy(address->host, host, (size_t)(end - host));
	address->host[end - host] = '\0';
	if (port)
		text_copy(address->port, sizeof(address->port), port);
	else
		text_format(address->port, sizeof(address->port), "%d", ADDRESS_PORT);
	return 0;
}

static int look_up(const struct address *address, int flags, struct addrinfo **found)
{
	const struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = flags,
	};
	int error =
		getaddrinfo(address->host[0] ? address->host : NULL, address->port, &hints, found);

	if (!error)
		return 0;
	return error_set(error == EAI_SYSTEM ? -errno : -EHOSTUNREACH,
			 "host \"%s\" has no address: %s", address->host,
			 error == EAI_SYSTEM ? strerror(errno) : gai_strerror(error));
}

static void name_of(int result, const struct sockaddr_storage *from, socklen_t bytes,
		    char text[ADDRESS_BYTES])
{
	char host[ADDRESS_BYTES - 16], port[8];

	if (result < 0 || getnameinfo((const struct sockaddr *)from, bytes, host, sizeof(host),
				      port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
		text_format(text, ADDRESS_BYTES, "?");
	else
		text_format(text, ADDRESS_BYTES, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host,
			    port);
}

void address_of_own(int fd, char text[ADDRESS_BYTES])
{
	struct sockaddr_storage own;
	socklen_t bytes = sizeof(own);

	name_of(getsockname(fd, (struct sockaddr *)&own, &bytes), &own, bytes, text);
}

void address_of_peer(int fd, char text[ADDRESS_BYTES])
{
	struct sockaddr_storage peer;
	socklen_t bytes = sizeof(peer);

	name_of(getpeername(fd, (struct sockaddr *)&peer, &bytes), &peer, bytes, text);
}

/* ----------------------------------------------------------------------- sockets */

/* TCP_USER_TIMEOUT, if set, decides when probes have failed, and not their number. */
int address_set_timeout(int fd, uint64_t timeout_ns)
{
	const struct {
		int level, option, value;
	} settings[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 1 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 1 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, (int)(timeout_ns / (NS_PER_S / 1000)) },
	};

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		if (setsockopt(fd, settings[i].level, settings[i].option, &settings[i].value,
			       sizeof(settings[i].value)) < 0)
			return error_set(-errno, "setsockopt %d: %s", settings[i].option,
					 strerror(errno));
	return 0;
}

static int new_socket(int family)
{
	int fd = fd_move_up(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

	return fd < 0 ? error_set(-errno, "socket: %s%s", strerror(errno), error_hint(errno)) : fd;
}

/* 0 or -errno, without a text. */
static int wait_connected(int fd, uint64_t deadline_ns)
{
	struct deadline deadline = deadline_at(deadline_ns);
	struct pollfd polled = { .fd = fd, .events = POLLOUT };
	int error = 0, result;
	socklen_t bytes = sizeof(error);
	struct timespec rest;
	uint64_t now, until;

	do {
		now = now_ns();
		until = deadline_sleep(&deadline, now);
		rest = clock_timespec(until - now);
		result = ppoll(&polled, 1, until == NEVER ? NULL : &rest, NULL);
		if (result == 0 && deadline_passed(&deadline, now_ns()))
			return -ETIMEDOUT;
	} while (result == 0 || (result < 0 && errno == EINTR));
	if (result < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0)
		return -errno;
	return -error;
}

static int dial_one(const struct address *address, const struct addrinfo *to, uint64_t timeout_ns,
		    uint64_t deadline_ns)
{
	int fd = new_socket(to->ai_family), result;

	if (fd < 0)
		return fd;
	result = address_set_timeout(fd, timeout_ns);
	if (result == 0) {
		result = connect(fd, to->ai_addr, to->ai_addrlen) < 0 ? -errno : 0;
		if (result == -EINPROGRESS || result == -EINTR)
			result = wait_connected(fd, deadline_ns);
		if (result < 0)
			error_set(result, "host \"%s\", port %s: %s%s", address->host,
				  address->port, strerror(-result),
				  result == -ECONNREFUSED ?
					  " (does `distworker node` run there, on that port?)" :
					  "");
	}
	if (result == 0)
		return fd;
	close(fd);
	return result;
}

int address_dial(const struct address *address, uint64_t timeout_ns, uint64_t deadline_ns)
{
	struct addrinfo *found;
	int result = look_up(address, 0, &found);

	if (result < 0)
		return result;
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		result = dial_one(address, at, timeout_ns, deadline_ns);
		if (result >= 0)
			break;
	}
	freeaddrinfo(found);
	return result;
}

static int listen_at(const struct address *address, const struct addrinfo *at)
{
	static const int yes = 1;
	int fd = new_socket(at->ai_family), result = 0;

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, at->ai_addr, at->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		result = error_set(-errno, "address %s, port %s: cannot listen: %s",
				   address->host[0] ? address->host : "(any)", address->port,
				   strerror(errno));
	if (result == 0)
		return fd;
	close(fd);
	return result;
}

int address_listen(const struct address *address)
{
	struct addrinfo *found;
	int result = look_up(address, AI_PASSIVE, &found);

	if (result < 0)
		return result;
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		result = listen_at(address, at);
		if (result >= 0)
			break;
	}
	freeaddrinfo(found);
	return result;
}

int address_accept(int listening, uint64_t timeout_ns)
{
	int fd, result;

	do
		fd = fd_move_up(accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (fd < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ?
			       -EAGAIN :
			       error_set(-errno, "accept: %s%s", strerror(errno),
					 error_hint(errno));
	result = address_set_timeout(fd, timeout_ns);
	if (result == 0)
		return fd;
	close(fd);
	return result;
}
