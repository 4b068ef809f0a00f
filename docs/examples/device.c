/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * /dev/distworker without the library: a parent hands a child one number, and the child sends back
 * its double.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/distworker.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* The words that the two sides wait on are in the header, and the number behind it. */
static _Atomic __u32 *word(__u32 *place)
{
	return (_Atomic __u32 *)place;
}

static int child(int endpoint)
{
	struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
	struct distworker_endpoint_wait wait = { .size = sizeof(wait),
						 .deadline_ns = DISTWORKER_NO_DEADLINE };
	struct distworker_mailbox *mailbox;
	char *memory;
	int *number;

	if (ioctl(endpoint, DISTWORKER_ENDPOINT_ATTACH, &attach))
		return fail("attach");
	memory = mmap(NULL, attach.mailbox_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, endpoint, 0);
	if (memory == MAP_FAILED)
		return fail("child: mmap");
	mailbox = (struct distworker_mailbox *)(memory + attach.header_offset);
	number = (int *)(mailbox + 1);
	/* Sleeps until `post` is another number than 0. */
	while (!atomic_load(word(&mailbox->post)))
		if (ioctl(endpoint, DISTWORKER_ENDPOINT_WAIT, &wait))
			return fail("child: wait");
	*number *= 2;
	atomic_store(word(&mailbox->done), 1);
	return ioctl(endpoint, DISTWORKER_ENDPOINT_WAKE) ? fail("child: wake") : 0;
}

int main(void)
{
	struct distworker_hub_setup setup = { .size = sizeof(setup),
					      .mailboxes = 1,
					      .mailbox_bytes = 4096 };
	struct distworker_mailbox_create create = { .size = sizeof(create) };
	struct distworker_mailbox_bind bind = { .size = sizeof(bind) };
	__u64 all = 1, ready = 0, state = 0;
	struct distworker_hub_wake wake = { .size = sizeof(wake),
					    .wake_mask = (__u64)(unsigned long)&all,
					    .mask_words = 1 };
	struct distworker_hub_wait wait = { .size = sizeof(wait),
					    .deadline_ns = DISTWORKER_NO_DEADLINE,
					    .watch_mask = (__u64)(unsigned long)&all,
					    .ready_mask = (__u64)(unsigned long)&ready,
					    .state_mask = (__u64)(unsigned long)&state,
					    .mask_words = 1 };
	struct distworker_mailbox *mailbox;
	int hub = open("/dev/distworker", O_RDWR | O_CLOEXEC), gate[2], status;
	char *memory, byte = 0;
	pid_t pid;

	if (hub < 0 || ioctl(hub, DISTWORKER_HUB_SETUP, &setup))
		return fail("/dev/distworker");
	memory = mmap(NULL, setup.mapping_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, hub, 0);
	if (memory == MAP_FAILED || ioctl(hub, DISTWORKER_MAILBOX_CREATE, &create) || pipe(gate))
		return fail("mailbox");
	pid = fork();
	if (!pid)
		/* The parent binds the mailbox first. */
		_exit(read(gate[0], &byte, 1) == 1 ? child(create.fd) : 1);
	bind.pid = pid;
	if (pid < 0 || ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind) || write(gate[1], &byte, 1) != 1)
		return fail("child");
	mailbox = (struct distworker_mailbox *)(memory + setup.mailbox_offset);
	*(int *)(mailbox + 1) = 21;
	atomic_store(word(&mailbox->post), 1);
	/* A system call only if the child sleeps. */
	if (atomic_load(word(&mailbox->asleep)) && ioctl(hub, DISTWORKER_HUB_WAKE, &wake))
		return fail("wake");
	while (!atomic_load(word(&mailbox->done))) {
		if (ioctl(hub, DISTWORKER_HUB_WAIT, &wait))
			return fail("wait");
		if (state && !atomic_load(word(&mailbox->done)) &&
		    waitpid(pid, &status, WNOHANG) == pid)
			return fail("the child died");
	}
	printf("%d\n", *(int *)(mailbox + 1));
	return waitpid(pid, &status, 0) == pid && !status ? 0 : 1;
}
