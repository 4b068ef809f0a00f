// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * See arena.h: pages that go back to the system. No state, any thread.
 */
#include <sys/mman.h>
#include <unistd.h>
#include "memory/arena.h"

void arena_give_back(uint64_t address, uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t begin = (address + page - 1) & -page, end = (address + bytes) & -page;

	if (end > begin)
		madvise((void *)(uintptr_t)begin, end - begin, MADV_REMOVE);
}
