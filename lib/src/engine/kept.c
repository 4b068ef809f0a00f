/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * See kept.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine/kept.h"
#include "task/error.h"

/* The index of the first buffer that ends above `address`. */
static size_t buffer_above(const struct kept_set *set, uint64_t address)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (set->buffers[middle].range.end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int kept_add(struct kept_set *set, const struct range *range)
{
	struct kept_buffer *grown = realloc(set->buffers, (set->count + 1) * sizeof(*grown));
	size_t i;

	if (!grown)
		return error_set(-ENOMEM, "no memory for the names of a kept buffer");
	set->buffers = grown;
	i = buffer_above(set, range->begin);
	memmove(&grown[i + 1], &grown[i], (set->count - i) * sizeof(*grown));
	grown[i] = (struct kept_buffer){ .range = *range };
	set->count++;
	return 0;
}

void kept_remove(struct kept_set *set, uint64_t begin)
{
	size_t i = buffer_above(set, begin);

	if (i == set->count || set->buffers[i].range.begin != begin)
		return;
	free(set->buffers[i].pieces);
	set->count--;
	memmove(&set->buffers[i], &set->buffers[i + 1],
		(set->count - i) * sizeof(*set->buffers));
}

void kept_release(struct kept_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		free(set->buffers[i].pieces);
	free(set->buffers);
}

struct kept_buffer *kept_find(const struct kept_set *set, const struct range *range)
{
	size_t i = buffer_above(set, range->begin);

	return i < set->count && ranges_overlap(&set->buffers[i].range, range) ?
	       &set->buffers[i] : NULL;
}

/* The index of the first piece that ends above `address`. */
static size_t piece_above(const struct kept_buffer *buffer, uint64_t address)
{
	size_t low = 0, high = buffer->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (buffer->pieces[middle].range.end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint64_t kept_name(const struct kept_buffer *buffer, const struct range *range)
{
	size_t i = piece_above(buffer, range->begin);
	const struct kept_piece *piece = &buffer->pieces[i];

	return i < buffer->count && piece->range.begin <= range->begin &&
	       piece->range.end >= range->end ? piece->name : 0;
}

/* Room for two more pieces: what a change can add. */
static int pieces_grow(struct kept_buffer *buffer)
{
	size_t space = buffer->space ? buffer->space * 2 : 16;
	struct kept_piece *grown;

	if (buffer->count + 2 <= buffer->space)
		return 0;
	grown = realloc(buffer->pieces, space * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	buffer->pieces = grown;
	buffer->space = space;
	return 0;
}

/* Pieces [first, last) become these. */
static void pieces_replace(struct kept_buffer *buffer, size_t first, size_t last,
			   const struct kept_piece *pieces, size_t count)
{
	memmove(&buffer->pieces[first + count], &buffer->pieces[last],
		(buffer->count - last) * sizeof(*pieces));
	memcpy(&buffer->pieces[first], pieces, count * sizeof(*pieces));
	buffer->count = buffer->count - (last - first) + count;
}

void kept_set_name(struct kept_buffer *buffer, const struct range *range, uint64_t name)
{
	size_t first, last, count = 0;
	struct kept_piece made[3];

	if (range->begin >= range->end)
		return;
	if (pieces_grow(buffer) < 0) {
		buffer->count = 0;
		return;
	}
	first = piece_above(buffer, range->begin);
	for (last = first; last < buffer->count && buffer->pieces[last].range.begin < range->end;)
		last++;
	/* The parts of the outermost pieces that lie outside. */
	if (first < last && buffer->pieces[first].range.begin < range->begin)
		made[count++] = (struct kept_piece){
			{ buffer->pieces[first].range.begin, range->begin },
			buffer->pieces[first].name,
		};
	if (name)
		made[count++] = (struct kept_piece){ *range, name };
	if (first < last && buffer->pieces[last - 1].range.end > range->end)
		made[count++] = (struct kept_piece){
			{ range->end, buffer->pieces[last - 1].range.end },
			buffer->pieces[last - 1].name,
		};
	pieces_replace(buffer, first, last, made, count);
}
