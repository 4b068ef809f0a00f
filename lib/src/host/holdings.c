/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See holdings.h. */
#include <stdlib.h>
#include <string.h>
#include "host/holdings.h"

void holdings_release(struct holdings *holdings)
{
	free(holdings->pieces);
	*holdings = (struct holdings){ .pieces = NULL };
}

/* Returns the first piece that ends behind `address`. */
static size_t find(const struct holdings *holdings, uint64_t address)
{
	size_t low = 0, high = holdings->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (holdings->pieces[middle].range.end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static uint64_t length(const struct range *range)
{
	return range->end - range->begin;
}

bool holdings_has(struct holdings *holdings, const struct range *range, uint64_t name)
{
	size_t i = find(holdings, range->begin);
	struct holding *piece;

	if (!name || i == holdings->count)
		return false;
	piece = &holdings->pieces[i];
	if (piece->name != name || piece->range.begin > range->begin ||
	    piece->range.end < range->end)
		return false;
	piece->used = ++holdings->uses;
	return true;
}

/* Makes room for one more piece at index i. */
static bool insert(struct holdings *holdings, size_t i, const struct holding *piece)
{
	size_t room = holdings->room ? 2 * holdings->room : 16;
	struct holding *grown;

	if (holdings->count == holdings->room) {
		grown = realloc(holdings->pieces, room * sizeof(*grown));
		if (!grown)
			return false;
		holdings->pieces = grown;
		holdings->room = room;
	}
	memmove(&holdings->pieces[i + 1], &holdings->pieces[i],
		(holdings->count - i) * sizeof(*piece));
	holdings->pieces[i] = *piece;
	holdings->count++;
	holdings->bytes += length(&piece->range);
	return true;
}

static void take_out(struct holdings *holdings, size_t i)
{
	holdings->bytes -= length(&holdings->pieces[i].range);
	holdings->count--;
	memmove(&holdings->pieces[i], &holdings->pieces[i + 1],
		(holdings->count - i) * sizeof(holdings->pieces[0]));
}

/* The range lies inside piece i: the part behind it becomes a piece of its own, or is lost. */
static void split(struct holdings *holdings, size_t i, const struct range *range)
{
	struct holding behind = holdings->pieces[i];

	holdings->bytes -= holdings->pieces[i].range.end - range->begin;
	holdings->pieces[i].range.end = range->begin;
	behind.range.begin = range->end;
	insert(holdings, i + 1, &behind);
}

void holdings_forget(struct holdings *holdings, const struct range *range)
{
	size_t i = find(holdings, range->begin);
	struct range *piece;

	if (range->begin >= range->end)
		return;
	while (i < holdings->count && holdings->pieces[i].range.begin < range->end) {
		piece = &holdings->pieces[i].range;
		if (piece->begin < range->begin && piece->end > range->end) {
			split(holdings, i, range);
			return;
		}
		if (piece->begin >= range->begin && piece->end <= range->end) {
			take_out(holdings, i);
			continue;
		}
		if (piece->begin < range->begin) {
			holdings->bytes -= piece->end - range->begin;
			piece->end = range->begin;
		} else {
			holdings->bytes -= range->end - piece->begin;
			piece->begin = range->end;
		}
		i++;
	}
}

void holdings_set(struct holdings *holdings, const struct range *range, uint64_t name)
{
	const struct holding piece = { *range, name, holdings->uses + 1 };

	holdings_forget(holdings, range);
	if (!name || range->begin >= range->end)
		return;
	holdings->uses++;
	insert(holdings, find(holdings, range->begin), &piece);
}

bool holdings_gap(const struct holdings *holdings, const struct range *range, struct range *gap)
{
	size_t i = find(holdings, range->begin);

	*gap = *range;
	for (; i < holdings->count && holdings->pieces[i].range.begin <= gap->begin; i++)
		if (holdings->pieces[i].range.end > gap->begin)
			gap->begin = holdings->pieces[i].range.end;
	if (i < holdings->count && holdings->pieces[i].range.begin < gap->end)
		gap->end = holdings->pieces[i].range.begin;
	return gap->begin < gap->end;
}

const struct holding *holdings_oldest(const struct holdings *holdings, uint64_t after)
{
	const struct holding *oldest = NULL;

	for (size_t i = 0; i < holdings->count; i++) {
		const struct holding *piece = &holdings->pieces[i];

		if (piece->used > after && (!oldest || piece->used < oldest->used))
			oldest = piece;
	}
	return oldest;
}
