// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * tsc: how many kHz the TSC of this machine has, which is that of QEMU's guests too.
 *
 * Both clocks are read together, twice, a tenth of a second apart or more. Of many readings
 * the one counts that took least time: a busy machine interrupts the others.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

#define READINGS 1000
#define APART_NS 100000000

struct reading {
	uint64_t tsc;
	uint64_t ns;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static struct reading read_both(void)
{
	struct reading best = { 0 };
	uint64_t shortest = UINT64_MAX;

	for (int i = 0; i < READINGS; i++) {
		uint64_t before = __rdtsc(), ns = now_ns(), took = __rdtsc() - before;

		if (took < shortest) {
			shortest = took;
			best = (struct reading){ .tsc = before + took / 2, .ns = ns };
		}
	}
	return best;
}

int main(void)
{
	struct reading begin = read_both(), end;

	nanosleep(&(struct timespec){ .tv_nsec = APART_NS }, NULL);
	end = read_both();
	printf("%.0f\n", (end.tsc - begin.tsc) * 1e6 / (end.ns - begin.ns));
	return 0;
}
