/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Futexes by io_uring (Linux 6.7): several wakes and a wait in one call. Layout of the rings:
 * io_uring_setup(2), io_uring_enter(2); the operations are numbered in <linux/io_uring.h> of 6.7,
 * which Debian 12 does not have.
 */
#ifndef TESTS_BENCH_URING_H
#define TESTS_BENCH_URING_H

#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define URING_ENTRIES 64u
#define URING_FUTEX_WAIT 51
#define URING_FUTEX_WAKE 52
#define URING_FUTEX_U32 2 /* FUTEX2_SIZE_U32, shared between processes */

struct uring {
	int fd;
	uint32_t *tail, *head, *cq_tail; /* of the submissions; of the completions */
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	uint32_t cq_mask, added;
};

/* For the calling thread alone. -errno. */
static inline int uring_open(struct uring *ring)
{
	struct io_uring_params params = {
		/* The cheapest: completions are looked at in the call that waits for them. */
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	unsigned char *rings;
	uint32_t *array;

	ring->fd = (int)syscall(SYS_io_uring_setup, URING_ENTRIES, &params);
	if (ring->fd < 0)
		return -errno;
	rings = mmap(NULL,
		     params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe) +
			     params.sq_off.array + params.sq_entries * sizeof(uint32_t),
		     PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->sqes = mmap(NULL, params.sq_entries * sizeof(*ring->sqes), PROT_READ | PROT_WRITE,
			  MAP_SHARED, ring->fd, IORING_OFF_SQES);
	if (rings == MAP_FAILED || ring->sqes == MAP_FAILED)
		return -errno;
	ring->tail = (uint32_t *)(rings + params.sq_off.tail);
	ring->head = (uint32_t *)(rings + params.cq_off.head);
	ring->cq_tail = (uint32_t *)(rings + params.cq_off.tail);
	ring->cqes = (struct io_uring_cqe *)(rings + params.cq_off.cqes);
	ring->cq_mask = params.cq_entries - 1;
	array = (uint32_t *)(rings + params.sq_off.array);
	for (uint32_t i = 0; i < params.sq_entries; i++)
		array[i] = i;
	ring->added = 0;
	return 0;
}

static inline void uring_close(struct uring *ring)
{
	close(ring->fd);
}

static inline void uring_add(struct uring *ring, uint8_t operation, _Atomic uint32_t *word,
			     uint64_t value)
{
	struct io_uring_sqe *sqe = &ring->sqes[(*ring->tail + ring->added++) % URING_ENTRIES];

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = operation;
	sqe->fd = URING_FUTEX_U32;
	sqe->addr = (uintptr_t)word;
	sqe->addr2 = value;
	sqe->addr3 = UINT32_MAX;
}

static inline void uring_wake(struct uring *ring, _Atomic uint32_t *word)
{
	uring_add(ring, URING_FUTEX_WAKE, word, 1);
}

/* Until it is woken; ends at once unless the word has the value. */
static inline void uring_wait(struct uring *ring, _Atomic uint32_t *word, uint32_t value)
{
	uring_add(ring, URING_FUTEX_WAIT, word, value);
}

/* Submits what was added, and waits for all of it; the sum of the positive results, or -errno. */
static inline int uring_run(struct uring *ring)
{
	uint32_t count = ring->added, head = *ring->head;
	int sum = 0, error = 0;

	__atomic_store_n(ring->tail, *ring->tail + count, __ATOMIC_RELEASE);
	ring->added = 0;
	if (syscall(SYS_io_uring_enter, ring->fd, count, count, IORING_ENTER_GETEVENTS, NULL, 0) !=
	    (long)count)
		return -errno;
	while (head != __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE)) {
		int result = ring->cqes[head++ & ring->cq_mask].res;

		if (result > 0)
			sum += result;
		else if (result < 0 && result != -EAGAIN)
			error = result;
	}
	__atomic_store_n(ring->head, head, __ATOMIC_RELEASE);
	return error ? error : sum;
}

/* Whether this kernel has both. */
static inline bool uring_works(void)
{
	_Atomic uint32_t word = 0;
	struct uring ring;
	bool works;

	if (uring_open(&ring))
		return false;
	uring_wake(&ring, &word);
	uring_wait(&ring, &word, 1);
	works = uring_run(&ring) == 0;
	uring_close(&ring);
	return works;
}

#endif
