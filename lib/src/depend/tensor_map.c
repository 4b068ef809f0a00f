// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Tensor map: segments, their hash and their order. tensor_map.h has the rules.
 *
 * An access first makes everything that it needs (splits, segments for gaps, room in lists; none of
 * it changes the meaning of the map), then registers and cannot fail. A segment is two cache lines:
 * an access to a known range touches these, one bucket, and the tasks that it names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/slab.h"
#include "depend/tensor_map.h"
#include "depend/tensor_order.h"
#include "task/error.h"

#define READERS_INSIDE 2
#define READERS_KEPT 16		/* an emptied list of up to that many keeps its memory */
#define READERS_COMPARED 64	/* longer lists are not compared for a merge */
#define BUCKETS_AT_FIRST 16
#define SWEEP_AT_LEAST 16384	/* 2 MiB: buffers that are used in turns stay known */
#define SLAB_FIRST 16
#define SLAB_MOST 512

/* Writers that an OUTPUT_EXISTING passed by. */
struct earlier {
	uint32_t count, space;
	struct task_ref writers[];
};

struct segment {
	_Alignas(64) uint64_t begin;
	uint64_t end;
	struct segment *bucket_next;	/* of the hash */
	struct segment *before, *after;	/* neighbours by address, gaps may lie between */
	struct task_ref writer;		/* the last one */
	uint64_t poison;		/* number of the writer if it failed, else 0 */
	/* second cache line */
	struct task_ref *readers;	/* inside or allocated */
	uint32_t reader_count, reader_space;
	struct earlier *earlier;	/* seldom there */
	struct task_ref inside[READERS_INSIDE];
	uint64_t name;			/* of what its bytes hold; 0: unknown */
};

struct tensor_map {
	struct segment **buckets;
	uint32_t bucket_shift;		/* 64 - log2 of their number */
	uint64_t count, sweep_at;
	struct segment *first;
	struct slab segments;
	struct tensor_order order;
	struct segment *few_buckets[BUCKETS_AT_FIRST];
};

static inline bool same_task(struct task_ref a, struct task_ref b)
{
	return a.task == b.task && a.generation == b.generation;
}

/* ------------------------------------------------------------- reader lists */

static uint32_t prune(struct task_ref *refs, uint32_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++)
		if (task_ref_live(refs[i]))
			refs[kept++] = refs[i];
	return kept;
}

static int readers_resize(struct segment *segment, uint32_t space)
{
	struct task_ref *readers;

	if (segment->readers == segment->inside) {
		readers = malloc(space * sizeof(*readers));
		if (readers)
			memcpy(readers, segment->inside, sizeof(segment->inside));
	} else {
		readers = realloc(segment->readers, space * sizeof(*readers));
	}
	if (!readers)
		return -ENOMEM;
	segment->readers = readers;
	segment->reader_space = space;
	return 0;
}

/*
 * The list is full. Dropping the final ones costs its length, and happens
 * only after half of that many were added.
 */
static int readers_make_room(struct segment *segment)
{
	uint32_t space = segment->reader_space;
	uint32_t count = prune(segment->readers, segment->reader_count);

	segment->reader_count = count;
	if (count > space / 2)
		return readers_resize(segment, space < 8 ? 8 : space * 2) && count == space ?
		       -ENOMEM : 0;
	if (space > 64 && count < space / 8)
		readers_resize(segment, space / 4);
	return 0;
}

static void readers_release(struct segment *segment)
{
	if (segment->readers != segment->inside)
		free(segment->readers);
	segment->readers = segment->inside;
	segment->reader_space = READERS_INSIDE;
}

static inline void readers_empty(struct segment *segment)
{
	segment->reader_count = 0;
	if (segment->reader_space > READERS_KEPT)
		readers_release(segment);
}

static int earlier_make_room(struct segment *segment)
{
	struct earlier *earlier = segment->earlier, *grown;
	uint32_t space = 2;

	if (earlier) {
		if (earlier->count < earlier->space)
			return 0;
		earlier->count = prune(earlier->writers, earlier->count);
		if (earlier->count <= earlier->space / 2)
			return 0;
		space = earlier->space * 2;
	}
	grown = realloc(earlier, sizeof(*grown) + space * sizeof(grown->writers[0]));
	if (!grown)
		return earlier && earlier->count < earlier->space ? 0 : -ENOMEM;
	if (!earlier)
		grown->count = 0;
	grown->space = space;
	segment->earlier = grown;
	return 0;
}

static inline void earlier_empty(struct segment *segment)
{
	if (segment->earlier) {
		free(segment->earlier);
		segment->earlier = NULL;
	}
}

/* --------------------------------------------------------------------- hash */

static inline struct segment **bucket_of(const struct tensor_map *map, uint64_t begin)
{
	return &map->buckets[(begin * 0x9e3779b97f4a7c15u) >> map->bucket_shift];
}

static inline struct segment *hash_find(const struct tensor_map *map, uint64_t begin)
{
	struct segment *segment = *bucket_of(map, begin);

	while (segment && segment->begin != begin)
		segment = segment->bucket_next;
	return segment;
}

/* Without memory the chains grow longer, that is all. */
static void hash_grow(struct tensor_map *map)
{
	uint64_t buckets = 1ull << (64 - map->bucket_shift);
	struct segment **old = map->buckets;
	struct segment **wide = calloc(buckets * 2, sizeof(*wide));

	if (!wide)
		return;
	map->buckets = wide;
	map->bucket_shift--;
	for (uint64_t i = 0; i < buckets; i++) {
		struct segment *segment = old[i], *next;

		for (; segment; segment = next) {
			struct segment **bucket = bucket_of(map, segment->begin);

			next = segment->bucket_next;
			segment->bucket_next = *bucket;
			*bucket = segment;
		}
	}
	if (old != map->few_buckets)
		free(old);
}

static void hash_remove(struct tensor_map *map, struct segment *segment)
{
	struct segment **at = bucket_of(map, segment->begin);

	while (*at != segment)
		at = &(*at)->bucket_next;
	*at = segment->bucket_next;
}

/* ----------------------------------------------------------------- segments */

/* A segment without information, chained in behind `before` (NULL: as the first). */
static struct segment *segment_add(struct tensor_map *map, uint64_t begin, uint64_t end,
				   struct segment *before)
{
	struct segment *segment = slab_take(&map->segments), **bucket;

	if (!segment)
		return NULL;
	if (order_insert(&map->order, begin, segment)) {
		slab_give(&map->segments, segment);
		return NULL;
	}
	segment->begin = begin;
	segment->end = end;
	segment->writer = (struct task_ref){ 0 };
	segment->poison = 0;
	segment->readers = segment->inside;
	segment->reader_count = 0;
	segment->reader_space = READERS_INSIDE;
	segment->earlier = NULL;
	segment->name = 0;

	segment->before = before;
	segment->after = before ? before->after : map->first;
	if (segment->after)
		segment->after->before = segment;
	if (before)
		before->after = segment;
	else
		map->first = segment;

	if (++map->count > 1ull << (64 - map->bucket_shift))
		hash_grow(map);
	bucket = bucket_of(map, begin);
	segment->bucket_next = *bucket;
	*bucket = segment;
	return segment;
}

static void segment_remove(struct tensor_map *map, struct segment *segment)
{
	hash_remove(map, segment);
	order_remove(&map->order, segment->begin);
	if (segment->after)
		segment->after->before = segment->before;
	if (segment->before)
		segment->before->after = segment->after;
	else
		map->first = segment->after;
	readers_release(segment);
	earlier_empty(segment);
	map->count--;
	slab_give(&map->segments, segment);
}

/* Cuts a segment in two that say the same; returns the upper one. NULL: no memory. */
static struct segment *segment_split(struct tensor_map *map, struct segment *lower, uint64_t at)
{
	struct segment *upper = segment_add(map, at, lower->end, lower);
	struct earlier *earlier = lower->earlier;

	if (!upper)
		return NULL;
	lower->reader_count = prune(lower->readers, lower->reader_count);
	if (lower->reader_count > READERS_INSIDE && readers_resize(upper, lower->reader_space))
		goto failed;
	memcpy(upper->readers, lower->readers, lower->reader_count * sizeof(upper->readers[0]));
	upper->reader_count = lower->reader_count;
	if (earlier) {
		size_t bytes = sizeof(*earlier) + earlier->space * sizeof(earlier->writers[0]);

		upper->earlier = malloc(bytes);
		if (!upper->earlier)
			goto failed;
		memcpy(upper->earlier, earlier,
		       sizeof(*earlier) + earlier->count * sizeof(earlier->writers[0]));
	}
	upper->writer = lower->writer;
	upper->poison = lower->poison;
	upper->name = lower->name;
	lower->end = at;
	return upper;

failed:
	segment_remove(map, upper);
	return NULL;
}

/* The last segment that begins at or below `address`, or NULL. */
static struct segment *segment_below(struct tensor_map *map, uint64_t address)
{
	struct segment *segment = order_near(&map->order, address);

	return segment && segment->begin > address ? segment->before : segment;
}

/* The first segment with a byte at or above `address`, or NULL. */
static struct segment *segment_from(struct tensor_map *map, uint64_t address)
{
	struct segment *segment = hash_find(map, address);

	if (segment)
		return segment;
	segment = segment_below(map, address);
	if (!segment)
		return map->first;
	return segment->end > address ? segment : segment->after;
}

static bool segment_clean(struct segment *segment)
{
	if (segment->poison || task_ref_live(segment->writer))
		return false;
	segment->reader_count = prune(segment->readers, segment->reader_count);
	if (segment->reader_count)
		return false;
	if (segment->earlier) {
		segment->earlier->count = prune(segment->earlier->writers,
						segment->earlier->count);
		if (segment->earlier->count)
			return false;
		earlier_empty(segment);
	}
	return true;
}

/* Looks at all of them, but only when their number has doubled since the last time. */
static void sweep(struct tensor_map *map)
{
	struct segment *segment = map->first, *after;

	for (; segment; segment = after) {
		after = segment->after;
		if (segment_clean(segment))
			segment_remove(map, segment);
	}
	map->sweep_at = map->count * 2 > SWEEP_AT_LEAST ? map->count * 2 : SWEEP_AT_LEAST;
}

/* ------------------------------------------------------------------- access */

struct access {
	struct task_ref task;
	enum dw_tag tag;
	tensor_map_edge *edge;
	void *context;
	uint64_t *poison;
};

/* Makes room for the entries that note() will add to the lists of a segment. */
static inline int prepare(struct segment *segment, enum dw_tag tag, struct task_ref task)
{
	if (tag == DW_INPUT && segment->reader_count == segment->reader_space)
		return readers_make_room(segment);
	if (tag == DW_OUTPUT_EXISTING && task_ref_live(segment->writer) &&
	    !same_task(segment->writer, task))
		return earlier_make_room(segment);
	return 0;
}

static void wait_for(const struct access *access, const struct task_ref *refs, uint32_t count,
		     enum edge_reason reason)
{
	for (uint32_t i = 0; i < count; i++)
		if (task_ref_live(refs[i]) && !same_task(refs[i], access->task))
			access->edge(refs[i].task, reason, access->context);
}

/* Registers one access to the whole of one segment. Cannot fail after prepare(). */
static inline void note(struct segment *segment, const struct access *access)
{
	struct task_ref task = access->task;
	bool live = task_ref_live(segment->writer);
	bool own = same_task(segment->writer, task);

	switch (access->tag) {
	case DW_INPUT:
		if (own)
			return;
		if (live)
			access->edge(segment->writer.task, EDGE_RAW, access->context);
		if (segment->poison)
			*access->poison = segment->poison;
		/* The accesses of one task come in a row: if it is a reader, it is the last. */
		if (!segment->reader_count ||
		    !same_task(segment->readers[segment->reader_count - 1], task))
			segment->readers[segment->reader_count++] = task;
		return;
	case DW_INOUT:
		if (live && !own)
			access->edge(segment->writer.task, EDGE_RAW, access->context);
		if (segment->poison)
			*access->poison = segment->poison;
		/* fallthrough */
	case DW_OUTPUT:
		if (live && !own)
			access->edge(segment->writer.task, EDGE_WAW, access->context);
		wait_for(access, segment->readers, segment->reader_count, EDGE_WAR);
		if (segment->earlier)
			wait_for(access, segment->earlier->writers, segment->earlier->count,
				 EDGE_WAW);
		readers_empty(segment);
		earlier_empty(segment);
		break;
	case DW_OUTPUT_EXISTING:
		if (live && !own)
			segment->earlier->writers[segment->earlier->count++] = segment->writer;
		break;
	case DW_NO_DEP:
		return;
	}
	segment->writer = task;
	segment->poison = 0;
	segment->name = 0;
}

/* Whether two neighbours say the same, so that one segment can stand for both. */
static bool segments_equal(const struct segment *a, const struct segment *b)
{
	if (a->end != b->begin || a->poison != b->poison || a->name != b->name || a->earlier ||
	    b->earlier || a->reader_count != b->reader_count || a->reader_count > READERS_COMPARED)
		return false;
	if (!same_task(a->writer, b->writer) &&
	    (task_ref_live(a->writer) || task_ref_live(b->writer)))
		return false;
	for (uint32_t i = 0; i < a->reader_count; i++)
		if (!same_task(a->readers[i], b->readers[i]))
			return false;
	return true;
}

/*
 * Makes the segments cover [begin, end) exactly, with room in their lists; returns the first of
 * them. NULL: no memory, and the meaning of the map is unchanged.
 */
static struct segment *cover(struct tensor_map *map, uint64_t begin, uint64_t end,
			     enum dw_tag tag, struct task_ref task)
{
	struct segment *segment = segment_from(map, begin), *before, *first = NULL;

	if (segment && segment->begin < begin) {
		segment = segment_split(map, segment, begin);
		if (!segment)
			return NULL;
	}
	/* Above all segments, segment_from() finds none. */
	before = segment ? segment->before : segment_below(map, begin);
	while (begin < end) {
		if (!segment || segment->begin > begin) {
			uint64_t gap_end = segment && segment->begin < end ? segment->begin : end;

			before = segment_add(map, begin, gap_end, before);
		} else {
			if (segment->end > end && !segment_split(map, segment, end))
				return NULL;
			before = segment;
			segment = segment->after;
		}
		if (!before || prepare(before, tag, task))
			return NULL;
		if (!first)
			first = before;
		begin = before->end;
	}
	return first;
}

static int no_memory(const struct tensor_map *map)
{
	return error_set(-ENOMEM, "no memory for the tensor map, which has %llu segments",
			 (unsigned long long)map->count);
}

static int access_range(struct tensor_map *map, uint64_t begin, uint64_t end,
			const struct access *access)
{
	struct segment *first = cover(map, begin, end, access->tag, access->task);
	struct segment *segment, *after, *last = NULL;

	if (!first)
		return no_memory(map);
	for (segment = first; segment && segment->begin < end; segment = after) {
		after = segment->after;
		note(segment, access);
		/*
		 * A whole write makes its segments equal. Equal ones with one reader are left
		 * alone: a program that writes the pieces and reads the whole would cut them again.
		 */
		if (last && (access->tag != DW_INPUT || segment->reader_count > 1) &&
		    segments_equal(last, segment)) {
			last->end = segment->end;
			segment_remove(map, segment);
		} else {
			last = segment;
		}
	}
	if (map->count > map->sweep_at)
		sweep(map);
	return 0;
}

int tensor_map_access(struct tensor_map *map, uint64_t begin, uint64_t end, enum dw_tag tag,
		      struct task_ref task, tensor_map_edge *edge, void *context,
		      uint64_t *poison)
{
	struct access access = {
		.task = task, .tag = tag, .edge = edge, .context = context, .poison = poison,
	};
	struct segment *segment;

	if (begin >= end || tag == DW_NO_DEP)
		return 0;
	segment = hash_find(map, begin);
	if (!segment || segment->end != end)
		return access_range(map, begin, end, &access);
	if (prepare(segment, tag, task))
		return no_memory(map);
	note(segment, &access);
	return 0;
}

void tensor_map_poison(struct tensor_map *map, uint64_t begin, uint64_t end,
		       struct task_ref task, uint64_t number)
{
	struct segment *segment;

	if (begin >= end)
		return;
	for (segment = segment_from(map, begin); segment && segment->begin < end;
	     segment = segment->after) {
		if (!same_task(segment->writer, task))
			continue;
		/* Without memory for the cut, more bytes that the same task wrote are poisoned. */
		if (segment->begin < begin) {
			struct segment *upper = segment_split(map, segment, begin);

			segment = upper ? upper : segment;
		}
		if (segment->end > end)
			segment_split(map, segment, end);
		segment->poison = number;
	}
}

void tensor_map_forget(struct tensor_map *map, uint64_t begin, uint64_t end)
{
	struct segment *segment, *after;

	if (begin >= end)
		return;
	for (segment = segment_from(map, begin); segment && segment->begin < end; segment = after) {
		after = segment->after;
		/* Tensors lie in one block each; only one that reaches over it needs a cut. */
		if (segment->begin < begin) {
			if (segment->end > end && !segment_split(map, segment, end))
				return;
			segment->end = begin;
			continue;
		}
		if (segment->end > end && !segment_split(map, segment, end))
			return;
		segment_remove(map, segment);
	}
}

bool tensor_map_in_use(struct tensor_map *map, uint64_t begin, uint64_t end, bool reads)
{
	struct segment *segment = begin < end ? segment_from(map, begin) : NULL;

	for (; segment && segment->begin < end; segment = segment->after) {
		const struct earlier *earlier = segment->earlier;

		if (task_ref_live(segment->writer))
			return true;
		for (uint32_t i = 0; earlier && i < earlier->count; i++)
			if (task_ref_live(earlier->writers[i]))
				return true;
		for (uint32_t i = 0; reads && i < segment->reader_count; i++)
			if (task_ref_live(segment->readers[i]))
				return true;
	}
	return false;
}

/* -------------------------------------------------------------------- names */

uint64_t tensor_map_name(struct tensor_map *map, uint64_t begin, uint64_t end, uint64_t after)
{
	struct segment *segment = begin < end ? segment_from(map, begin) : NULL;
	uint64_t name = segment ? segment->name : 0;

	if (name <= after)
		return 0;
	for (; segment && segment->begin <= begin && segment->name == name;
	     segment = segment->after) {
		begin = segment->end;
		if (begin >= end)
			return name;
	}
	return 0;
}

void tensor_map_set_name(struct tensor_map *map, uint64_t begin, uint64_t end, uint64_t name)
{
	struct segment *segment;

	if (begin >= end)
		return;
	for (segment = segment_from(map, begin); segment && segment->begin < end;
	     segment = segment->after)
		segment->name = name;
}

/* ----------------------------------------------------------------- lifetime */

int tensor_map_create(struct tensor_map **map)
{
	struct tensor_map *made = calloc(1, sizeof(*made));

	if (!made)
		return error_set(-ENOMEM, "no memory for a tensor map");
	made->buckets = made->few_buckets;
	made->bucket_shift = 64 - __builtin_ctz(BUCKETS_AT_FIRST);
	made->sweep_at = SWEEP_AT_LEAST;
	order_init(&made->order);
	made->segments = (struct slab)SLAB_INIT(struct segment, SLAB_FIRST, SLAB_MOST);
	*map = made;
	return 0;
}

void tensor_map_destroy(struct tensor_map *map)
{
	struct segment *segment;

	if (!map)
		return;
	for (segment = map->first; segment; segment = segment->after) {
		readers_release(segment);
		earlier_empty(segment);
	}
	slab_release(&map->segments);
	order_release(&map->order);
	if (map->buckets != map->few_buckets)
		free(map->buckets);
	free(map);
}

uint64_t tensor_map_segments(const struct tensor_map *map)
{
	return map->count;
}
