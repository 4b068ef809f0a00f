/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See link.h. A message carries the generation of the child's process, so that a message of a dead
 * one is not taken for its replacement's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/text.h"
#include "worker/link.h"

int link_make(struct link *link)
{
	int ends[2];

	if (fd_move_pair_up(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ends) < 0)
		return -errno;
	link->parent = ends[0];
	link->child = ends[1];
	return 0;
}

void link_close_parent(struct link *link)
{
	if (link->parent >= 0)
		close(link->parent);
	link->parent = -1;
}

void link_close_child(struct link *link)
{
	if (link->child >= 0)
		close(link->child);
	link->child = -1;
}

int link_send(int fd, enum link_kind kind, uint32_t generation, int error, const char *text)
{
	struct link_message message = { .kind = kind, .generation = generation, .error = error };
	ssize_t n;

	if (text)
		text_copy(message.text, sizeof(message.text), text);
	do {
		n = send(fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int link_receive(int fd, struct link_message *message, bool wait)
{
	ssize_t n;

	/*
	 * ECONNRESET comes once, when the other side has closed without reading everything; its own
	 * messages can still be read.
	 */
	do {
		n = recv(fd, message, sizeof(*message), wait ? 0 : MSG_DONTWAIT);
	} while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n != sizeof(*message))
		return 0;
	message->text[sizeof(message->text) - 1] = '\0';
	return 1;
}

void link_drain(int fd)
{
	struct link_message message;

	while (recv(fd, &message, sizeof(message), MSG_DONTWAIT) > 0)
		;
}
