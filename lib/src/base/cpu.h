/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The pause of a spinning thread between two looks at memory.
 */
#ifndef DW_BASE_CPU_H
#define DW_BASE_CPU_H

static inline void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	/* `yield` is a no-op on most cores; an instruction barrier does pause. */
	__asm__ volatile("isb" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

#endif
