/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Sets of small numbers as arrays of 64-bit words. No locks: a set belongs to its owner.
 *
 * A loop over a set takes each word into a variable, so that the set may change meanwhile:
 *
 *	for (uint32_t word = 0; word < words; word++) {
 *		uint64_t bits = set[word];
 *
 *		while (bits_next(&bits, word, &i))
 *			use(i);
 *	}
 */
#ifndef DW_BASE_BITS_H
#define DW_BASE_BITS_H

#include <stdbool.h>
#include <stdint.h>

static inline void bit_set(uint64_t *bits, uint32_t i) { bits[i / 64] |= 1ULL << (i % 64); }
static inline void bit_clear(uint64_t *bits, uint32_t i) { bits[i / 64] &= ~(1ULL << (i % 64)); }
static inline bool bit_test(const uint64_t *bits, uint32_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

/*
 * Takes the lowest number out of `bits`, which is word number `word` of a set. False: none is left.
 */
static inline bool bits_next(uint64_t *bits, uint32_t word, uint32_t *i)
{
	if (!*bits)
		return false;
	*i = word * 64 + (uint32_t)__builtin_ctzll(*bits);
	*bits &= *bits - 1;
	return true;
}

/* The lowest number in `bits`, which must not be 0. */
static inline uint32_t bits_first(uint64_t bits, uint32_t word)
{
	return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

#endif
