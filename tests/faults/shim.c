/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The functions here stand before libc's, since the executable comes first in the
 * search order. The library's own blocks are kept in a table, so that what it never frees is seen.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "shim.h"

/* glibc's own names, which nobody stands before. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);
void __libc_free(void *block);

struct shared {
	_Atomic uint64_t calls, target;
	_Atomic bool hit;
	char name[32];
};

#define TABLE 65536

static struct shared *shared;
static uintptr_t text_begin, text_end;
static _Atomic uintptr_t table[TABLE];
static _Atomic int64_t live;

static int find_library(struct dl_phdr_info *info, size_t size, void *context)
{
	(void)size;
	(void)context;
	if (!strstr(info->dlpi_name, "libdistworker.so"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];

		if (header->p_type == PT_LOAD && header->p_flags & PF_X) {
			text_begin = info->dlpi_addr + header->p_vaddr;
			text_end = text_begin + header->p_memsz;
		}
	}
	return 1;
}

void shim_init(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	dl_iterate_phdr(find_library, NULL);
	if (!text_begin)
		abort();
}

void shim_arm(uint64_t n)
{
	shared->hit = false;
	shared->calls = 0;
	shared->target = n;
}

void shim_disarm(void)
{
	shared->target = 0;
}

const char *shim_failed(void)
{
	return shared->hit ? shared->name : NULL;
}

int64_t shim_live_blocks(void)
{
	return live;
}

static bool is_library(const void *caller)
{
	return (uintptr_t)caller >= text_begin && (uintptr_t)caller < text_end;
}

static bool fails(const void *caller, const char *name)
{
	if (!shared || !is_library(caller) || ++shared->calls != shared->target)
		return false;
	snprintf(shared->name, sizeof(shared->name), "%s", name);
	shared->hit = true;
	return true;
}

static void *noted(const void *caller, void *block)
{
	size_t at = (uintptr_t)block / 16 * 0x9e3779b97f4a7c15ULL % TABLE;
	uintptr_t free_place;

	if (!block || !shared || !is_library(caller))
		return block;
	for (size_t i = 0; i < TABLE; i++, at = (at + 1) % TABLE) {
		free_place = 0;
		if (atomic_compare_exchange_strong(&table[at], &free_place, (uintptr_t)block)) {
			live++;
			break;
		}
	}
	return block;
}

/* A table of blocks that come and go: gaps are filled again, so a search goes on past them. */
static void forgotten(void *block)
{
	size_t at = (uintptr_t)block / 16 * 0x9e3779b97f4a7c15ULL % TABLE;

	for (size_t i = 0; block && shared && i < 512; i++, at = (at + 1) % TABLE) {
		uintptr_t expected = (uintptr_t)block;

		if (atomic_compare_exchange_strong(&table[at], &expected, 0)) {
			live--;
			return;
		}
	}
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t bytes)
{
	if (fails(CALLER, "malloc")) {
		errno = ENOMEM;
		return NULL;
	}
	return noted(CALLER, __libc_malloc(bytes));
}

void *calloc(size_t count, size_t bytes)
{
	if (fails(CALLER, "calloc")) {
		errno = ENOMEM;
		return NULL;
	}
	return noted(CALLER, __libc_calloc(count, bytes));
}

void *realloc(void *block, size_t bytes)
{
	void *grown;

	if (fails(CALLER, "realloc")) {
		errno = ENOMEM;
		return NULL;
	}
	grown = __libc_realloc(block, bytes);
	if (grown && grown != block) {
		forgotten(block);
		noted(CALLER, grown);
	} else if (!block) {
		noted(CALLER, grown);
	}
	return grown;
}

void free(void *block)
{
	forgotten(block);
	__libc_free(block);
}

int posix_memalign(void **block, size_t align, size_t bytes)
{
	if (fails(CALLER, "posix_memalign"))
		return ENOMEM;
	*block = noted(CALLER, __libc_memalign(align, bytes));
	return *block ? 0 : ENOMEM;
}

void *aligned_alloc(size_t align, size_t bytes)
{
	if (fails(CALLER, "aligned_alloc")) {
		errno = ENOMEM;
		return NULL;
	}
	return noted(CALLER, __libc_memalign(align, bytes));
}

char *strdup(const char *text)
{
	size_t bytes = strlen(text) + 1;
	char *copy;

	if (fails(CALLER, "strdup")) {
		errno = ENOMEM;
		return NULL;
	}
	copy = noted(CALLER, __libc_malloc(bytes));
	return copy ? memcpy(copy, text, bytes) : NULL;
}

/* The others fail with an errno that they have, or do what libc's do. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAULT(name, error, ...) \
	do { \
		if (fails(CALLER, #name)) { \
			errno = error; \
			return -1; \
		} \
		return NEXT(name)(__VA_ARGS__); \
	} while (0)

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	if (fails(CALLER, "mmap")) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}

int socketpair(int domain, int type, int protocol, int ends[2])
{
	FAULT(socketpair, EMFILE, domain, type, protocol, ends);
}

int pipe(int ends[2])
{
	FAULT(pipe, EMFILE, ends);
}

int pipe2(int ends[2], int flags)
{
	FAULT(pipe2, EMFILE, ends, flags);
}

int eventfd(unsigned value, int flags)
{
	FAULT(eventfd, EMFILE, value, flags);
}

int epoll_create1(int flags)
{
	FAULT(epoll_create1, EMFILE, flags);
}

int epoll_ctl(int fd, int operation, int watched, struct epoll_event *event)
{
	FAULT(epoll_ctl, ENOSPC, fd, operation, watched, event);
}

int timerfd_create(clockid_t clock, int flags)
{
	FAULT(timerfd_create, EMFILE, clock, flags);
}

int signalfd(int fd, const sigset_t *mask, int flags)
{
	FAULT(signalfd, EMFILE, fd, mask, flags);
}

int memfd_create(const char *name, unsigned flags)
{
	FAULT(memfd_create, EMFILE, name, flags);
}

int ftruncate(int fd, off_t bytes)
{
	FAULT(ftruncate, ENOSPC, fd, bytes);
}

int madvise(void *address, size_t bytes, int advice)
{
	FAULT(madvise, ENOMEM, address, bytes, advice);
}

pid_t fork(void)
{
	FAULT(fork, EAGAIN);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
		   void *argument)
{
	if (fails(CALLER, "pthread_create"))
		return EAGAIN;
	return NEXT(pthread_create)(thread, attributes, start, argument);
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_pidfd_open && fails(CALLER, "pidfd_open")) {
		errno = EMFILE;
		return -1;
	}
	return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
