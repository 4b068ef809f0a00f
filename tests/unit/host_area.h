/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * For tests of a gateway and a session: slots of memory, which a forked process has at the same
 * addresses with other contents, and streams between the two processes.
 */
#ifndef UNIT_HOST_AREA_H
#define UNIT_HOST_AREA_H

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "host.h"
#include "host/stream.h"

#define SLOTS 12
#define SLOT_BYTES 65536

static unsigned char *area;		/* SLOTS × SLOT_BYTES, private */

/* Lengths differ: some tensors travel with their task, others are fetched in several chunks. */
static inline uint32_t slot_bytes(unsigned slot)
{
	static const uint32_t bytes[] = { 16, 8192, 8193, 65536, 40000 };

	return bytes[slot % 5];
}

static inline unsigned char *slot_at(unsigned slot)
{
	return area + (size_t)slot * SLOT_BYTES;
}

static inline struct dw_tensor slot_tensor(unsigned slot)
{
	return (struct dw_tensor){
		.data = (uint64_t)(uintptr_t)slot_at(slot), .shape = { slot_bytes(slot) },
		.ndims = 1, .dtype = DW_UINT8,
	};
}

static inline struct stream *new_stream(int fd, bool gateway)
{
	struct stream *stream = NULL;

	CHECK_EQ(stream_create(fd, host_secret(gateway ? "up" : "down"),
			       host_secret(gateway ? "down" : "up"), 5000000000ULL, &stream), 0);
	return stream;
}

static inline void map_area(void)
{
	area = mmap(NULL, SLOTS * SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	CHECK(area != MAP_FAILED);
}

static inline void unmap_area(void)
{
	munmap(area, SLOTS * SLOT_BYTES);
}

static inline void make_sockets(int ends[2])
{
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
}

static inline void wait_for(int fd, bool writes)
{
	struct pollfd polled = { .fd = fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0)) };

	poll(&polled, 1, -1);
}

#endif
