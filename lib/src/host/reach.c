/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See reach.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "host/reach.h"
#include "task/error.h"

#define HERE_BYTES 80

/*
 * Identifies this kernel and network namespace: equal words share one loopback. "-", which equals
 * nothing, if /proc does not tell.
 */
static void name_here(char here[HERE_BYTES])
{
	int fd = fd_move_up(open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
	struct stat status;
	char boot[37] = "";
	ssize_t got = fd < 0 ? -1 : read(fd, boot, sizeof(boot) - 1);

	if (fd >= 0)
		close(fd);
	if (got == sizeof(boot) - 1 && stat("/proc/self/ns/net", &status) == 0)
		text_format(here, HERE_BYTES, "%s/%llu", boot, (unsigned long long)status.st_ino);
	else
		text_format(here, HERE_BYTES, "-");
}

/* The bytes of an address; NULL: it is of another family. */
static const unsigned char *bytes_of(const struct sockaddr *address, size_t *count)
{
	if (address && address->sa_family == AF_INET) {
		*count = 4;
		return (const unsigned char *)&((const struct sockaddr_in *)address)->sin_addr;
	}
	if (address && address->sa_family == AF_INET6) {
		*count = 16;
		return (const unsigned char *)&((const struct sockaddr_in6 *)address)->sin6_addr;
	}
	*count = 0;
	return NULL;
}

/* Can other hosts reach this interface by this address? */
static bool is_offered(const struct ifaddrs *interface)
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)interface->ifa_addr;
	size_t count;

	return bytes_of(interface->ifa_addr, &count) && interface->ifa_flags & IFF_UP &&
	       !(interface->ifa_flags & IFF_LOOPBACK) &&
	       !(count == 16 && IN6_IS_ADDR_LINKLOCAL(&six->sin6_addr));
}

/* Addresses that do not fit are left out. */
static void add(char offer[REACH_BYTES], const char *word)
{
	size_t used = strlen(offer);

	if (used + strlen(word) + 2 <= REACH_BYTES)
		text_format(offer + used, REACH_BYTES - used, " %s", word);
}

/* Of a netmask. */
static uint32_t bits_of(const struct sockaddr *mask)
{
	size_t count;
	const unsigned char *bytes = bytes_of(mask, &count);
	uint32_t bits = 0;

	while (bytes && bits < 8 * count && bytes[bits / 8] & 0x80 >> bits % 8)
		bits++;
	return bits;
}

static void add_all(const struct ifaddrs *interfaces, int family, char offer[REACH_BYTES])
{
	char text[INET6_ADDRSTRLEN], word[INET6_ADDRSTRLEN + 8];
	const unsigned char *bytes;
	size_t count;

	for (const struct ifaddrs *at = interfaces; at; at = at->ifa_next) {
		if (!is_offered(at) || at->ifa_addr->sa_family != family)
			continue;
		bytes = bytes_of(at->ifa_addr, &count);
		if (!inet_ntop(family, bytes, text, sizeof(text)))
			continue;
		text_format(word, sizeof(word), "%s/%u", text, bits_of(at->ifa_netmask));
		add(offer, word);
	}
}

/* All addresses of a socket that is bound to none: IPv4, which most networks have, first. */
static int add_host(int family, char offer[REACH_BYTES])
{
	struct ifaddrs *interfaces;

	if (getifaddrs(&interfaces) < 0)
		return error_set(-errno, "the addresses of this host: getifaddrs: %s",
				 strerror(errno));
	add_all(interfaces, AF_INET, offer);
	if (family == AF_INET6)
		add_all(interfaces, AF_INET6, offer);
	freeifaddrs(interfaces);
	return 0;
}

static bool is_any(const struct sockaddr *address)
{
	static const unsigned char zeros[16];
	size_t count;
	const unsigned char *bytes = bytes_of(address, &count);

	return bytes && !memcmp(bytes, zeros, count);
}

int reach_offer(int listening, const char *only, char offer[REACH_BYTES])
{
	struct sockaddr_storage own = { .ss_family = AF_UNSPEC };
	socklen_t bytes = sizeof(own);
	char here[HERE_BYTES], bound[ADDRESS_BYTES];
	struct address address;
	int result = 0;

	address_of_own(listening, bound);
	if (getsockname(listening, (struct sockaddr *)&own, &bytes) < 0 ||
	    address_parse("listening address", bound, &address) < 0)
		return error_set(-EINVAL, "a socket with the address %s cannot be reached", bound);
	if (only || !is_any((const struct sockaddr *)&own))
		strcpy(here, "-");
	else
		name_here(here);
	text_format(offer, REACH_BYTES, "%s %s", here, address.port);
	if (only) {
		if (!*only || strcspn(only, " \t\n") != strlen(only))
			return error_set(-EINVAL, "\"%s\" is no address of this host",
					 text_short(only));
		add(offer, only);
	} else if (is_any((const struct sockaddr *)&own)) {
		result = add_host(own.ss_family, offer);
	} else {
		add(offer, address.host);
	}
	return result;
}

/* ------------------------------------------------------------------------- choosing */

/* Is the address in one of the networks of the host that has to dial? */
typedef bool near_fn(const void *host, int family, const unsigned char *address);

static bool same_bits(const unsigned char *one, const unsigned char *other, uint32_t bits)
{
	uint32_t bytes = bits / 8, rest = bits % 8;

	return memcmp(one, other, bytes) == 0 &&
	       (!rest || (one[bytes] ^ other[bytes]) >> (8 - rest) == 0);
}

/* This host has those interfaces. */
static bool near_here(const void *host, int family, const unsigned char *address)
{
	size_t count;

	for (const struct ifaddrs *at = host; at; at = at->ifa_next)
		if (is_offered(at) && at->ifa_addr->sa_family == family && at->ifa_netmask &&
		    same_bits(bytes_of(at->ifa_addr, &count), address, bits_of(at->ifa_netmask)))
			return true;
	return false;
}

/* The bytes of a word of an offer, and of its network; false: it is a name. */
static bool read_word(const char *word, size_t length, int *family, unsigned char bytes[16],
		      uint32_t *bits)
{
	char text[INET6_ADDRSTRLEN + 8], *slash;
	uint32_t most;

	text_format(text, sizeof(text), "%.*s", (int)length, word);
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	*family = strchr(text, ':') ? AF_INET6 : AF_INET;
	most = *family == AF_INET ? 32 : 128;
	*bits = slash ? (uint32_t)strtoul(slash + 1, NULL, 10) : most;
	return inet_pton(*family, text, bytes) == 1 && *bits <= most;
}

/* Another host has made this offer. */
static bool near_offer(const void *host, int family, const unsigned char *address)
{
	const char *word = host;
	unsigned char own[16];
	uint32_t bits;
	int its;

	for (size_t length; *word; word += length + strspn(word + length, " ")) {
		length = strcspn(word, " ");
		if (read_word(word, length, &its, own, &bits) && its == family &&
		    same_bits(own, address, bits))
			return true;
	}
	return false;
}

/* The first nearby address, else the first one; NULL: none is offered. Cuts `words`. */
static const char *nearest(char *words, near_fn *near, const void *host)
{
	const char *first = NULL;
	unsigned char bytes[16];
	uint32_t bits;
	char *rest;
	int family;

	for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
		bool is_near = read_word(word, strlen(word), &family, bytes, &bits) &&
			       near(host, family, bytes);

		word[strcspn(word, "/")] = '\0';
		if (is_near)
			return word;
		first = first ? first : word;
	}
	return first;
}

static int no_offer(const char *offer, const char *who)
{
	return error_set(-EPROTO,
			 "%s says \"%s\" about its address: is it the same version of distworker?",
			 who, text_short(offer));
}

/* `here` as name_here() names the host that dials. */
static int choose(const char *offer, const char *who, const char *here, near_fn *near,
		  const void *host, struct address *address)
{
	char words[REACH_BYTES], text[ADDRESS_BYTES], *there, *port, *rest;
	const char *chosen;

	if (strlen(offer) >= sizeof(words))
		return no_offer(offer, who);
	text_copy(words, sizeof(words), offer);
	there = strtok_r(words, " ", &rest);
	port = strtok_r(NULL, " ", &rest);
	if (!there || !port)
		return no_offer(offer, who);
	chosen = strcmp(here, "-") && !strcmp(here, there) ? "127.0.0.1" :
							     nearest(rest, near, host);
	if (!chosen)
		return error_set(-ENETUNREACH, "%s has no address by which other hosts reach it",
				 who);
	text_format(text, sizeof(text), strchr(chosen, ':') ? "[%s]:%s" : "%s:%s", chosen, port);
	return address_parse(who, text, address) < 0 ? no_offer(offer, who) : 0;
}

int reach_choose(const char *offer, const char *who, struct address *address)
{
	struct ifaddrs *interfaces;
	char here[HERE_BYTES];
	int result;

	if (getifaddrs(&interfaces) < 0)
		interfaces = NULL;
	name_here(here);
	result = choose(offer, who, here, near_here, interfaces, address);
	freeifaddrs(interfaces);
	return result;
}

int reach_choose_from(const char *from, const char *offer, const char *who,
		      struct address *address)
{
	size_t length = strcspn(from, " "), port = strspn(from + length, " ");
	char here[HERE_BYTES];

	text_format(here, sizeof(here), "%.*s", (int)length, from);
	from += length + port;
	return choose(offer, who, here, near_offer, from + strcspn(from, " "), address);
}
