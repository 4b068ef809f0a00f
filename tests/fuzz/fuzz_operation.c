// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl_fuzz: the operations of a process other than calls: mappings, polls, signals, children,
 * threads, death.
 */
#include "faults.h"
#include "fuzz.h"

#define MAX_HUBS 3

static atomic_int threads_started;

/* ---------------------------------------------------------------- other operations */

static void do_open(void)
{
	int fd = open(DEVICE, (one_in(8) ? O_RDONLY : O_RDWR) | (one_in(4) ? 0 : O_CLOEXEC));
	unsigned int tries;

	if (fd < 0)
		return;
	for (tries = below(10); tries; tries--)
		if (call(fd, _IOC_NR(DISTWORKER_HUB_SETUP)) == 0)
			break;
	fd_add(fd, HUB);
}

static void do_map(void)
{
	int protection = PICK(PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE,
			      PROT_READ | PROT_WRITE | PROT_EXEC);
	int flags =
		PICK(MAP_SHARED, MAP_SHARED, MAP_SHARED, MAP_PRIVATE, MAP_SHARED | MAP_POPULATE);
	size_t bytes = PICK(4096ul, 4096ul, 8192ul, 12288ul, 16384ul, 1ul << 20, 100ul);
	off_t offset =
		PICK(0l, 0l, 0l, 4096l, 8192l, (long)DISTWORKER_HUB_LINE_OFFSET,
		     (long)DISTWORKER_HUB_LINE_OFFSET + 4096, (long)DISTWORKER_TIMELINE_OFFSET,
		     (long)DISTWORKER_TIMELINE_OFFSET + 4096, (long)(any() & 0x7ffffffffffff000));
	char *start = mmap(NULL, bytes, protection, flags, fd_any(), offset);

	if (start == MAP_FAILED)
		return;
	map_add(start, bytes, protection & PROT_WRITE);
}

static void do_unmap(void)
{
	struct map map = map_any(true);

	if (map.start)
		munmap(map.start, map.bytes);
}

static void do_change_mapping(void)
{
	struct map map = map_any(true);
	char *start;

	if (!map.start)
		return;
	switch (below(6)) {
	case 0:		/* split it */
		mprotect(map.start, 4096, PICK(PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE));
		break;
	case 1:
		munmap(map.start, 4096);
		if (map.bytes <= 4096)
			return;
		map.start += 4096;
		map.bytes -= 4096;
		break;
	case 2:
		start = mremap(map.start, map.bytes, PICK(4096ul, map.bytes, map.bytes + 8192),
			       MREMAP_MAYMOVE);
		if (start != MAP_FAILED) {
			map.start = start;
			map.bytes = 4096;
		}
		break;
	case 3:
		madvise(map.start, map.bytes,
			PICK(MADV_DONTNEED, MADV_DOFORK, MADV_DODUMP, MADV_REMOVE, MADV_HUGEPAGE,
			     MADV_FREE, MADV_WIPEONFORK, MADV_MERGEABLE, MADV_COLD, MADV_PAGEOUT,
			     MADV_POPULATE_READ, MADV_POPULATE_WRITE));
		break;
	case 4:
		if (mlock(map.start, map.bytes) == 0)
			munlock(map.start, map.bytes);
		break;
	case 5:
		msync(map.start, map.bytes, MS_SYNC);
		break;
	}
	map_add(map.start, map.bytes, map.writable);
}

/* Over the words that mean something, or over everything. */
static void do_scribble(void)
{
	struct map map = map_any(false);
	volatile uint32_t *words = (void *)map.start;
	unsigned int i, count = 1 + below(8);

	if (!map.start || map.bytes < 4096)
		return;
	if (sigsetjmp(recover, 1) == 0) {
		touching = 1;
		if (!map.writable) {
			(void)words[below(1024)];
		} else if (one_in(30)) {
			for (i = 0; i < 1024; i++)
				words[i] = any();
		} else {
			while (count--) {
				i = below(map.bytes / 4096) * 1024 +
				    (one_in(4) ? below(1024) : PICK(0u, 1u, 2u, 32u, 33u, 64u));
				words[i] = one_in(3) ? odd_u32() : words[i] + 1;
			}
		}
	}
	touching = 0;
}

static void do_poll(void)
{
	struct pollfd fds[4];
	unsigned int i, count = 1 + below(4);

	for (i = 0; i < count; i++)
		fds[i] =
			(struct pollfd){ fd_any(), PICK(POLLIN, POLLIN | POLLPRI, POLLOUT, -1), 0 };
	poll(fds, count, below(4));
}

static void do_epoll(void)
{
	struct epoll_event events[4], event = {
		.events = EPOLLIN | PICK(0u, (unsigned int)EPOLLPRI, (unsigned int)EPOLLET,
					 (unsigned int)EPOLLONESHOT),
	};
	int fd = fd_any();

	if (me.epoll < 0)
		me.epoll = epoll_create1(EPOLL_CLOEXEC);
	switch (below(4)) {
	case 0: epoll_ctl(me.epoll, EPOLL_CTL_ADD, fd, &event); break;
	case 1: epoll_ctl(me.epoll, EPOLL_CTL_DEL, fd, &event); break;
	case 2: epoll_ctl(me.epoll, EPOLL_CTL_MOD, fd, &event); break;
	case 3: epoll_wait(me.epoll, events, 4, below(4)); break;
	}
}

/*
 * A poll by io_uring on any fd, its cancellation, or the reaping of completions; never waited
 * for.
 */
static void do_ring(void)
{
	struct io_uring_params *p = &me.ring_params;
	struct io_uring_sqe *sqe;
	uint32_t *tail, *head, *array, mask;

	if (me.ring == -2 || !main_thread)
		return;
	if (me.ring < 0) {
		memset(p, 0, sizeof(*p));
		me.ring = syscall(SYS_io_uring_setup, 8, p);
		if (me.ring < 0) {
			me.ring = -2;
			return;
		}
		fcntl(me.ring, F_SETFD, FD_CLOEXEC);
		me.ring_sq = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, me.ring,
				  IORING_OFF_SQ_RING);
		me.ring_sqes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, me.ring,
				    IORING_OFF_SQES);
		if (me.ring_sq == MAP_FAILED || me.ring_sqes == MAP_FAILED) {
			close(me.ring);
			me.ring = -2;
			return;
		}
	}
	if (one_in(50)) {
		munmap(me.ring_sq, 4096);
		munmap(me.ring_sqes, 4096);
		close(me.ring);
		me.ring = -1;
		return;
	}
	/*
	 * The completion ring lies behind the submission ring in the same mapping: all of it is
	 * seen at once.
	 */
	head = (uint32_t *)((char *)me.ring_sq + p->cq_off.head);
	*head = *(volatile uint32_t *)((char *)me.ring_sq + p->cq_off.tail);
	tail = (uint32_t *)((char *)me.ring_sq + p->sq_off.tail);
	mask = *(uint32_t *)((char *)me.ring_sq + p->sq_off.ring_mask);
	array = (uint32_t *)((char *)me.ring_sq + p->sq_off.array);
	sqe = (struct io_uring_sqe *)me.ring_sqes + (*tail & mask);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = one_in(4) ? IORING_OP_POLL_REMOVE : IORING_OP_POLL_ADD;
	sqe->fd = sqe->opcode == IORING_OP_POLL_ADD ? fd_any() : -1;
	sqe->poll32_events = POLLIN | POLLPRI;
	sqe->len = sqe->opcode == IORING_OP_POLL_ADD && one_in(2) ? IORING_POLL_ADD_MULTI : 0;
	sqe->user_data = below(4);
	if (sqe->opcode == IORING_OP_POLL_REMOVE)
		sqe->addr = below(4);
	array[*tail & mask] = *tail & mask;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	syscall(SYS_io_uring_enter, me.ring, 1, 0, 0, NULL, 0);
}

static void read_some(const char *path)
{
	char text[512];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while (read(fd, text, sizeof(text)) > 0 && !one_in(20))
		;
	close(fd);
}

static void do_look(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d",
		 one_in(3) ? atomic_load(&family->pids[below(32)]) : getpid(), fd_any());
	read_some(path);
}

/* Another process reads or writes through a mapping of this one. */
static void do_reach_over(void)
{
	struct map map = map_any(false);
	char bytes[64] = { 0 };
	struct iovec mine = { bytes, sizeof(bytes) }, theirs = { map.start, sizeof(bytes) };
	pid_t pid = atomic_load(&family->pids[below(32)]);

	if (pid <= 1 || !map.start)
		return;
	if (one_in(2))
		process_vm_readv(pid, &mine, 1, &theirs, 1, 0);
	else
		process_vm_writev(pid, &mine, 1, &theirs, 1, 0);
}

static void do_signal(void)
{
	pid_t pid = atomic_load(&family->pids[below(32)]);

	/* It may be long dead, and another process may have its number. */
	if (pid <= 1 || getpgid(pid) != getpgrp())
		return;
	if (one_in(8)) {
		atomic_fetch_add(&shared->kills, 1);
		kill(pid, PICK(SIGKILL, SIGKILL, SIGTERM, SIGSEGV));
	} else if (one_in(10)) {
		kill(pid, SIGSTOP);
		usleep(below(2000));
		kill(pid, SIGCONT);
	} else {
		kill(pid, SIGUSR1);
	}
}

static void do_dup(void)
{
	int fd = dup(fd_any());

	if (fd >= 0)
		fd_add(fd, FOREIGN);
}

/*
 * To any process of the family that takes it: fds arrive in processes that had no right to them
 * from birth.
 */
static int mail[2] = { -1, -1 };

static void do_mail(void)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 }, byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	int fd = fd_any();

	if (one_in(2) && fd >= 0) {
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
		sendmsg(mail[0], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (recvmsg(mail[1], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0) {
		header = CMSG_FIRSTHDR(&message);
		if (header && header->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(header), sizeof(int));
			fd_add(fd, one_in(2) ? ENDPOINT : FOREIGN);
		}
	}
}

/* ---------------------------------------------------------------- processes and threads */

static void live(unsigned int operations);

static void process_begin(uint64_t stream)
{
	unsigned int i;

	me.parent = getppid();
	me.peer_count = 0;
	main_thread = true;
	atomic_store(&threads_started, 0);
	/* Maps are not inherited: those in the table were the parent's. */
	me.map_count = 0;
	for (i = 0; i < (unsigned int)me.fd_count; i++)
		me.kinds[i] = FOREIGN;
	if (me.ring >= 0)
		close(me.ring);
	me.ring = -1;
	if (me.epoll >= 0 && one_in(2)) {
		close(me.epoll);
		me.epoll = -1;
	}
	pthread_mutex_init(&tables, NULL);
	thread_begin(stream);
	atomic_fetch_add(&shared->processes, 1);
	i = below(32);
	atomic_store(&family->pids[i], getpid());
	/* Ends waits without a deadline. */
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 10000 + below(40000) }, { 0, 10000 } },
		  NULL);
}

static void process_end(void)
{
	char *argv[] = { "ioctl_fuzz", "--heir", NULL };

	coverage_take();
	switch (below(8)) {
	case 0:
		raise(SIGKILL);
		break;
	case 1:
		abort();
	case 2:
		execv("/proc/self/exe", argv);
		break;
	case 3:		/* the fds first, the mappings go with the process */
		while (me.fd_count)
			close(me.fds[--me.fd_count]);
		break;
	case 4:
		while (me.map_count)
			do_unmap();
		break;
	}
	_exit(below(256));
}

/* A program that has got our fds over exec: it owns nothing, and must be told so. */
int heir(void)
{
	int fd;

	random_state = mix(getpid());
	for (fd = 3; fd < 40; fd++) {
		struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
		struct distworker_mailbox_query query = { .size = sizeof(query) };

		if (ioctl(fd, DISTWORKER_MAILBOX_QUERY, &query) == 0)
			return 3;
		ioctl(fd, DISTWORKER_ENDPOINT_ATTACH, &attach);
		mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	}
	return 0;
}

static void do_fork(void)
{
	uint64_t stream = any();
	pid_t pid;

	if (me.peer_count >= MAX_PEERS)
		return;
	pid = fork();
	if (pid == 0) {
		me.owner = one_in(8);
		process_begin(stream);
		live(50 + below(400));
		process_end();
	}
	if (pid > 0) {
		me.indices[me.peer_count] = below(4);
		me.peers[me.peer_count++] = pid;
	}
}

/* A child in the same address space, as vfork and posix_spawn make one. */
static int shared_child(void *argument)
{
	unsigned int i;

	(void)argument;
	for (i = 0; i < 8; i++)
		call(fd_any(), some_number());
	_exit(0);
}

static void do_vfork(void)
{
	static _Thread_local char stack[65536] __attribute__((aligned(16)));
	int saved = faults;
	pid_t pid;

	faults = -1;
	pid = clone(shared_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	faults = saved;
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void reap(void)
{
	unsigned int i;

	for (i = 0; i < me.peer_count; i++)
		if (waitpid(me.peers[i], NULL, WNOHANG) != 0) {
			me.indices[i] = me.indices[--me.peer_count];
			me.peers[i--] = me.peers[me.peer_count];
		}
}

/* A peer may come back: it has its endpoint still. */
static void rebind(void)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind) };
	unsigned int i = below(me.peer_count);
	int hub = fd_of(HUB);

	if (!me.peer_count)
		return;
	bind.index = me.indices[i];
	ioctl(hub, DISTWORKER_MAILBOX_REARM, &bind);
	bind.pid = me.peers[i];
	ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind);
}

/* As the library does it: create, fork, bind, attach, map. */
static void peer_fork(void)
{
	struct distworker_mailbox_bind bind = { .size = sizeof(bind), .index = below(4) };
	struct distworker_mailbox_create create = { .size = sizeof(create),
						    .index = bind.index,
						    .fd = -1 };
	uint64_t stream = any();
	int hub = fd_of(HUB), i, go[2];
	char byte = 0;
	pid_t pid;

	if (me.peer_count >= MAX_PEERS || ioctl(hub, DISTWORKER_MAILBOX_CREATE, &create))
		return;
	if (pipe2(go, O_CLOEXEC)) {
		close(create.fd);
		return;
	}
	pid = fork();
	if (pid == 0) {
		struct distworker_endpoint_attach attach = { .size = sizeof(attach) };
		char *map;

		close(go[1]);
		process_begin(stream);
		if (!one_in(4)) {
			for (i = 0; i < me.fd_count; i++)
				close(me.fds[i]);
			me.fd_count = 0;
		}
		me.owner = false;
		fd_add(create.fd, ENDPOINT);
		if (read(go[0], &byte, 1) == 1 &&
		    ioctl(create.fd, DISTWORKER_ENDPOINT_ATTACH, &attach) == 0) {
			if (one_in(2))
				call_in_order(create.fd);
			map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, create.fd, 0);
			if (map != MAP_FAILED)
				map_add(map, 4096, true);
		}
		live(100 + below(4000));
		process_end();
	}
	bind.pid = pid;
	if (pid > 0) {
		me.indices[me.peer_count] = bind.index;
		me.peers[me.peer_count++] = pid;
		ioctl(hub, DISTWORKER_MAILBOX_REARM,
		      &(struct distworker_mailbox_bind){ .size = sizeof(bind),
							 .index = bind.index });
		ioctl(hub, DISTWORKER_MAILBOX_BIND, &bind);
	}
	close(go[0]);
	/* A child that is dead already does not read it. */
	(void)!write(go[1], &byte, 1);
	close(go[1]);
	if (one_in(3))
		fd_add(create.fd, ENDPOINT);
	else
		close(create.fd);
}

static void *thread(void *argument)
{
	main_thread = false;
	thread_begin((uintptr_t)argument);
	atomic_fetch_add(&shared->threads, 1);
	live(100 + below(1000));
	thread_end();
	return NULL;
}

static void do_thread(void)
{
	pthread_attr_t attributes;
	pthread_t id;

	if (atomic_fetch_add(&threads_started, 1) >= 6)
		return;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	pthread_create(&id, &attributes, thread, (void *)(uintptr_t)any());
	pthread_attr_destroy(&attributes);
}

/* ---------------------------------------------------------------- operations of a process */

static const struct operation {
	void (*run)(void);
	unsigned int weight;
	bool owner_only;
} operations[] = {
	{ do_call, 60, false },
	{ do_scribble, 20, false },
	{ do_map, 6, false },
	{ do_unmap, 3, false },
	{ do_change_mapping, 4, false },
	{ do_poll, 5, false },
	{ do_epoll, 5, false },
	{ do_ring, 5, false },
	{ do_signal, 3, false },
	{ do_look, 2, false },
	{ do_reach_over, 1, false },
	{ do_dup, 1, false },
	{ do_mail, 2, false },
	{ fd_close_any, 1, false },
	{ do_thread, 1, false },
	{ do_fork, 1, false },
	{ do_vfork, 1, false },
	{ peer_fork, 14, true },
	{ rebind, 14, true },
	{ do_open, 2, true },
};

static void operate(void)
{
	static unsigned int total;
	unsigned int i, at;
	bool armed = false;

	if (!total)
		for (i = 0; i < sizeof(operations) / sizeof(*operations); i++)
			total += operations[i].weight;
	at = below(total);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	if (operations[i].owner_only && !me.owner)
		i = 0;
	/* Not across a fork: the counter is this thread's, and so is the file that it is set by. */
	if (faults >= 0 && one_in(15) && operations[i].run != do_fork &&
	    operations[i].run != peer_fork && operations[i].run != do_thread &&
	    operations[i].run != do_vfork) {
		faults_arm(faults, 1 + below(one_in(2) ? 4 : 40));
		armed = true;
	}
	operations[i].run();
	if (armed && faults_disarm(faults))
		atomic_fetch_add_explicit(&shared->faults, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&shared->operations, 1, memory_order_relaxed);
}

/* Has it still something that a call can succeed on? Some go on without for a while. */
static bool useful(void)
{
	if (me.owner) {
		if (!fd_is_there(HUB))
			do_open();
		return true;
	}
	return (fd_is_there(ENDPOINT) && getppid() == me.parent) || !one_in(3);
}

static void live(unsigned int count)
{
	while (count-- && !atomic_load_explicit(&shared->stop, memory_order_relaxed)) {
		operate();
		if (count % 16 == 0)
			coverage_take();
		if (count % 64 == 0)
			reap();
		if (count % 32 == 0 && !useful())
			break;
	}
}

void owner_live(uint64_t stream)
{
	unsigned int i;

	setpgid(0, 0);
	me.epoll = me.ring = -1;
	me.owner = true;
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, mail))
		_exit(2);
	process_begin(stream);
	/* At times without root's rights, and then with limits. */
	if (one_in(4)) {
		int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

		if (setgid(1000) == 0 && setuid(1000) == 0)
			prctl(PR_SET_DUMPABLE, 1);
		call(fd, _IOC_NR(DISTWORKER_HUB_SETUP));
		fd_add(fd, HUB);
	} else {
		for (i = 1 + below(MAX_HUBS); i; i--)
			do_open();
	}
	/* An owner lives longer than most of its peers. */
	live(500 + below(20000));
	process_end();
}
