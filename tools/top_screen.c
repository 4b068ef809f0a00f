// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Behind top_screen.h. A picture is a function of the rows, of the view and of the terminal's size;
 * a key changes the view.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <distworker/distworker.h>
#include "base/text.h"
#include "screen.h"
#include "tool.h"
#include "top_rows.h"
#include "top_screen.h"

#define NONE		SIZE_MAX
#define FILTER_BYTES	64
#define LINES_AROUND	3		/* the title, the heads of columns, the keys */

/* Columns in their order; those with the highest `rank` go first where there is no room. */
static const struct column {
	const char *head;
	int width;
	int rank;			/* 0: always there */
} columns[TOP_COLUMNS] = {
	[TOP_PATH] = { "TREE", 22, 0 },	       [TOP_STATE] = { "STATE", 7, 0 },
	[TOP_TASK] = { "TASK", 20, 3 },	       [TOP_AGE] = { "AGE", 6, 1 },
	[TOP_QUEUED] = { "QUEUE", 5, 2 },      [TOP_TASKS] = { "TASKS/S", 8, 0 },
	[TOP_CPU] = { "CPU%", 5, 1 },	       [TOP_SLEEPS] = { "SLEEPS/S", 8, 4 },
	[TOP_PAID] = { "SPIN%", 5, 6 },	       [TOP_HEAP] = { "HEAP", 7, 5 },
	[TOP_COPIED] = { "COPIED/S", 8, 7 },
};

static const char keys[] = "q quit  arrows move, fold  < > sort  r reverse  / filter  space freeze";

struct identity {
	int32_t root;
	uint32_t tree;
	char path[96];
};

struct view {
	enum top_column sort;
	bool reverse, frozen, typing;
	char filter[FILTER_BYTES];
	struct identity selected, *folded;
	size_t folded_count;
	size_t first;			/* the first visible row on the screen */
	bool colour;
	double interval;
};

/* -------------------------------------------------------------------- rows */

static bool is_row(const struct identity *identity, const struct top_row *row)
{
	return identity->root == row->root && identity->tree == row->tree &&
	       strcmp(identity->path, row->path) == 0;
}

static struct identity identity_of(const struct top_row *row)
{
	struct identity identity = { .root = row->root, .tree = row->tree };

	text_copy(identity.path, sizeof(identity.path), row->path);
	return identity;
}

static size_t find_folded(const struct view *view, const struct top_row *row)
{
	for (size_t i = 0; i < view->folded_count; i++)
		if (is_row(&view->folded[i], row))
			return i;
	return NONE;
}

static void fold(struct view *view, const struct top_row *row, bool folds)
{
	size_t at = find_folded(view, row);
	struct identity *grown;

	if (!folds && at != NONE)
		view->folded[at] = view->folded[--view->folded_count];
	if (!folds || at != NONE || row->child == NONE)
		return;
	grown = realloc(view->folded, (view->folded_count + 1) * sizeof(*grown));
	if (!grown)
		return;
	view->folded = grown;
	view->folded[view->folded_count++] = identity_of(row);
}

/* What the filter looks at: where it is, what it runs, its state. */
static const char *const states[] = { "idle", "runs", "blocked", "STUCK", "stopped", "dead" };

static bool matches(const struct view *view, const struct top_row *row)
{
	return strstr(row->path, view->filter) || strstr(row->command, view->filter) ||
	       strstr(row->callable, view->filter) || strstr(states[row->state], view->filter);
}

/* A row stays for the sake of one below it. Parents stand before their children. */
static bool *kept_rows(const struct view *view, const struct top_rows *rows)
{
	bool *kept = calloc(rows->count + 1, sizeof(*kept));

	for (size_t i = rows->count; kept && i-- > 0;) {
		kept[i] = kept[i] || matches(view, &rows->rows[i]);
		if (kept[i] && rows->rows[i].parent != NONE)
			kept[rows->rows[i].parent] = true;
	}
	return kept;
}

/* The numbers of the rows that can be seen, from the top to the bottom. */
static size_t visible_rows(const struct view *view, const struct top_rows *rows, size_t *numbers)
{
	bool *kept = kept_rows(view, rows);
	size_t count = 0, at = rows->count ? 0 : NONE;

	while (kept && at != NONE) {
		const struct top_row *row = &rows->rows[at];
		bool shown = kept[at];

		if (shown)
			numbers[count++] = at;
		if (shown && row->child != NONE && find_folded(view, row) == NONE) {
			at = row->child;
			continue;
		}
		while (at != NONE && rows->rows[at].next == NONE)
			at = rows->rows[at].parent;
		if (at != NONE)
			at = rows->rows[at].next;
	}
	free(kept);
	return count;
}

/* ----------------------------------------------------------------- drawing */

/* "3.4 M" */
static void amount(char *text, size_t space, double value)
{
	static const char units[] = " kMGTP";
	size_t unit = 0;

	for (; value >= 9999.5 && units[unit + 1]; unit++)
		value /= 1024;
	if (unit)
		snprintf(text, space, value < 99.95 ? "%.1f%c" : "%.0f%c", value, units[unit]);
	else
		snprintf(text, space, "%.0f", value);
}

static void duration(char *text, size_t space, double seconds)
{
	if (seconds < 0)
		text[0] = '\0';
	else if (seconds < 99.95)
		snprintf(text, space, "%.1fs", seconds);
	else if (seconds < 6000)
		snprintf(text, space, "%.0fm", seconds / 60);
	else
		snprintf(text, space, "%.0fh", seconds / 3600);
}

static void path_cell(const struct view *view, const struct top_row *row, char *text, size_t space)
{
	const char *slash = strrchr(row->path, '/'), *name = slash ? slash + 1 : row->path;
	const char *mark = row->child == NONE ? "  " : find_folded(view, row) == NONE ? "- " : "+ ";

	if (!slash) {
		snprintf(text, space, "%s%s %s %d", mark, name, row->command, row->root);
		return;
	}
	snprintf(text, space, "%*s%s%s", (int)(2 * row->depth < 40 ? 2 * row->depth : 40), "", mark,
		 name);
}

static void cell(const struct view *view, const struct top_row *row, enum top_column column,
		 char *text, size_t space)
{
	text[0] = '\0';
	switch (column) {
	case TOP_PATH:
		path_cell(view, row, text, space);
		break;
	case TOP_STATE:
		text_copy(text, space, states[row->state]);
		break;
	case TOP_TASK:
		if (row->task)
			snprintf(text, space, "%llu %s", (unsigned long long)row->task,
				 row->callable);
		break;
	case TOP_AGE:
		duration(text, space, row->state == TOP_DEAD ? -1 : row->age);
		break;
	case TOP_QUEUED:
		if (row->parent != NONE)
			snprintf(text, space, "%u", row->queued);
		break;
	case TOP_CPU:
		if (row->cpu >= 0)
			snprintf(text, space, "%.0f", 100 * row->cpu);
		break;
	case TOP_PAID:
		if (row->paid >= 0)
			snprintf(text, space, "%.0f", 100 * row->paid);
		break;
	case TOP_HEAP:
		if (row->heap_bytes)
			amount(text, space, (double)row->heap_used);
		break;
	case TOP_TASKS:
	case TOP_SLEEPS:
	case TOP_COPIED: {
		double value = column == TOP_TASKS ? row->tasks :
			       column == TOP_SLEEPS ? row->sleeping : row->copied;

		if (value >= 0 && (column != TOP_COPIED || row->bytes))
			amount(text, space, value);
		break;
	}
	default:
		break;
	}
}

static bool is_text(enum top_column column)
{
	return column == TOP_PATH || column == TOP_STATE || column == TOP_TASK;
}

/* Widths for this terminal; 0: the column is left out. What is left over goes to the first. */
static void fit(size_t terminal, int widths[TOP_COLUMNS])
{
	int room = (int)(terminal < 500 ? terminal : 500), used = 0;

	for (int rank = 0; rank < 8; rank++)
		for (int i = 0; i < TOP_COLUMNS; i++) {
			if (columns[i].rank != rank)
				continue;
			widths[i] = used + columns[i].width + (i > 0) <= room || !rank ?
				columns[i].width : 0;
			used += widths[i] ? widths[i] + (i > 0) : 0;
		}
	if (room > used)
		widths[TOP_PATH] += room - used < 20 ? room - used : 20;
}

/* Exactly so wide. The text is UTF-8. */
static void put_cell(FILE *out, const char *text, int width, bool left)
{
	size_t bytes = tool_columns(text, (size_t)width);
	int shown = 0;

	for (size_t i = 0; i < bytes; i++)
		shown += !text_continues(text[i]);
	fprintf(out, "%*s%.*s%*s", left ? 0 : width - shown, "", (int)bytes, text,
		left ? width - shown : 0, "");
}

static const char *colour_of(const struct top_row *row)
{
	switch (row->state) {
	case TOP_RUNS: return "\033[32m";
	case TOP_BLOCKED:
	case TOP_STOPPED: return "\033[33m";
	case TOP_STUCK:
	case TOP_DEAD: return "\033[31m";
	default: return "";
	}
}

/* One line, cut at the right border; `row` NULL: the heads. */
static void put_row(FILE *out, const struct view *view, const struct top_row *row,
		    const int widths[TOP_COLUMNS], size_t terminal)
{
	size_t used = 0;

	for (int i = 0; i < TOP_COLUMNS; i++) {
		char text[160];
		int width = widths[i];

		if (!width || used + (i > 0) >= terminal)
			continue;
		if (i > 0)
			fputc(' ', out);
		used += i > 0;
		if ((size_t)width > terminal - used)
			width = (int)(terminal - used);
		used += (size_t)width;
		if (row)
			cell(view, row, (enum top_column)i, text, sizeof(text));
		else
			snprintf(text, sizeof(text), "%s%s", columns[i].head,
				 i != (int)view->sort ? "" : view->reverse ? "^" : "v");
		if (row && i == TOP_STATE && view->colour)
			fputs(colour_of(row), out);
		put_cell(out, text, width, is_text((enum top_column)i));
		if (row && i == TOP_STATE && view->colour && *colour_of(row))
			fputs("\033[39m", out);
	}
}

static void put_line(FILE *out, const char *text, size_t terminal)
{
	fprintf(out, "%.*s\n", (int)tool_columns(text, terminal), text);
}

static void put_title(FILE *out, const struct view *view, const struct top_rows *rows,
		      size_t terminal)
{
	char text[256], clock[16];
	time_t now = time(NULL);
	struct tm local;

	strftime(clock, sizeof(clock), "%H:%M:%S", localtime_r(&now, &local));
	snprintf(text, sizeof(text),
		 "distworker top  %s  %zu tree%s, %zu Workers, %zu children%s%s%s", clock,
		 rows->trees, rows->trees == 1 ? "" : "s", rows->workers, rows->count - rows->trees,
		 view->filter[0] ? "  only " : "", view->filter, view->frozen ? "  frozen" : "");
	put_line(out, text, terminal);
}

static void put_foot(FILE *out, const struct view *view, size_t terminal)
{
	char text[FILTER_BYTES + 64];

	if (!view->typing) {
		put_line(out, keys, terminal);
		return;
	}
	snprintf(text, sizeof(text), "only rows with: %s_   (Enter keeps it, Esc takes it away)",
		 view->filter);
	put_line(out, text, terminal);
}

/* Makes the view fit: one of the rows is selected, and on the screen. Its place in `numbers`. */
static size_t place_selected(struct view *view, const struct top_rows *rows, const size_t *numbers,
			     size_t count, size_t lines)
{
	size_t at = 0;

	while (at < count && !is_row(&view->selected, &rows->rows[numbers[at]]))
		at++;
	if (at == count && count) {
		at = 0;
		view->selected = identity_of(&rows->rows[numbers[0]]);
	}
	if (at < view->first)
		view->first = at;
	if (lines && at >= view->first + lines)
		view->first = at + 1 - lines;
	if (view->first + lines > count)
		view->first = count > lines ? count - lines : 0;
	return at;
}

/* The picture; free() it. */
static char *draw(struct view *view, const struct top_rows *rows, size_t terminal, size_t height,
		  bool plain, size_t *bytes)
{
	size_t *numbers = calloc(rows->count + 1, sizeof(*numbers)), count, at;
	size_t lines = height > LINES_AROUND ? height - LINES_AROUND : 1;
	int widths[TOP_COLUMNS];
	char *text = NULL;
	FILE *out = open_memstream(&text, bytes);

	if (!numbers || !out) {
		free(numbers);
		return NULL;
	}
	count = visible_rows(view, rows, numbers);
	at = place_selected(view, rows, numbers, count, lines);
	fit(terminal, widths);
	put_title(out, view, rows, terminal);
	fputs(plain ? "" : "\033[1m", out);
	put_row(out, view, NULL, widths, terminal);
	fputs(plain ? "\n" : "\033[22m\n", out);
	for (size_t i = view->first; i < count && i < view->first + lines; i++) {
		bool marked = i == at && !plain;

		fputs(marked ? "\033[7m" : "", out);
		put_row(out, view, &rows->rows[numbers[i]], widths, terminal);
		fputs(marked ? "\033[27m\n" : "\n", out);
	}
	if (!plain) {
		for (size_t i = count - view->first; i < lines; i++)
			fputc('\n', out);
		put_foot(out, view, terminal);
	}
	free(numbers);
	return fclose(out) == 0 ? text : NULL;
}

/* -------------------------------------------------------------------- keys */

/* By `by` rows; NONE stays in place. */
static void move(struct view *view, const struct top_rows *rows, long by)
{
	size_t *numbers = calloc(rows->count + 1, sizeof(*numbers));
	size_t count = numbers ? visible_rows(view, rows, numbers) : 0;

	for (size_t at = 0; at < count; at++) {
		long to = (long)at + by;

		if (!is_row(&view->selected, &rows->rows[numbers[at]]))
			continue;
		to = to < 0 ? 0 : to >= (long)count ? (long)count - 1 : to;
		view->selected = identity_of(&rows->rows[numbers[to]]);
		break;
	}
	free(numbers);
}

static const struct top_row *selected_row(const struct view *view, const struct top_rows *rows)
{
	for (size_t i = 0; i < rows->count; i++)
		if (is_row(&view->selected, &rows->rows[i]))
			return &rows->rows[i];
	return NULL;
}

/* Left: closes the row, or goes to its parent. Right: opens it. */
static void open_or_close(struct view *view, const struct top_rows *rows, bool opens)
{
	const struct top_row *row = selected_row(view, rows);

	if (!row)
		return;
	if (!opens && row->parent != NONE && (row->child == NONE || find_folded(view, row) != NONE))
		view->selected = identity_of(&rows->rows[row->parent]);
	else
		fold(view, row, !opens);
}

static void type(struct view *view, int key)
{
	size_t length = strlen(view->filter);

	if (key == '\n' || key == '\r' || key == '\033')
		view->typing = false;
	if (key == '\033')
		view->filter[0] = '\0';
	else if ((key == 127 || key == '\b') && length)
		view->filter[length - 1] = '\0';
	else if (key >= ' ' && key < 127 && length + 1 < FILTER_BYTES)
		memcpy(view->filter + length, (char[2]){ (char)key }, 2);
}

/* Whether the rows get another order. */
static bool press(struct view *view, const struct top_rows *rows, int key, size_t page)
{
	const struct top_row *row;

	if (view->typing && key < SCREEN_TIME) {
		type(view, key);
		return false;
	}
	switch (key) {
	case '<':
	case ',': view->sort = (view->sort + TOP_COLUMNS - 1) % TOP_COLUMNS; return true;
	case '>':
	case '.': view->sort = (view->sort + 1) % TOP_COLUMNS; return true;
	case 'r': view->reverse = !view->reverse; return true;
	case ' ': view->frozen = !view->frozen; break;
	case '/': view->typing = true; break;
	case '\033': view->filter[0] = '\0'; break;
	case 'k':
	case SCREEN_UP: move(view, rows, -1); break;
	case 'j':
	case SCREEN_DOWN: move(view, rows, 1); break;
	case SCREEN_PAGE_UP: move(view, rows, -(long)page); break;
	case SCREEN_PAGE_DOWN: move(view, rows, (long)page); break;
	case '-':
	case SCREEN_LEFT: open_or_close(view, rows, false); break;
	case '+':
	case SCREEN_RIGHT: open_or_close(view, rows, true); break;
	case '\n':
	case '\r':
		row = selected_row(view, rows);
		if (row)
			fold(view, row, find_folded(view, row) == NONE);
		break;
	default: break;
	}
	return false;
}

/* -------------------------------------------------------------------- loop */

/* Takes the place of `rows`, which stay as they are if there is no tree any more: 0 or -errno. */
static int read_again(struct top_rows *rows, const struct view *view, int32_t pid, double stuck)
{
	struct top_rows now;
	int error;

	top_rows_read(&now, pid, stuck, rows);
	error = now.failed ? -ENOMEM : now.error;
	if (error || (pid && !now.count)) {
		top_rows_release(&now);
		return error ? error : -ENOENT;
	}
	top_rows_sort(&now, view->sort, view->reverse);
	top_rows_release(rows);
	*rows = now;
	return 0;
}

static void show(struct view *view, const struct top_rows *rows)
{
	size_t columns_there, lines, bytes = 0;
	char *text;

	screen_size(&columns_there, &lines);
	text = draw(view, rows, columns_there, lines, false, &bytes);
	if (text)
		screen_show(text, bytes);
	free(text);
}

/* Until it ends: 0, or -errno of a tree that is there no more. */
static int watch(struct view *view, struct top_rows *rows, int32_t pid, double stuck)
{
	/* The first rates come soon. */
	double next = tool_now() + (view->interval < 0.5 ? view->interval : 0.5);
	int error;

	for (;;) {
		double now = tool_now();
		size_t terminal, lines;
		int key;

		if (now >= next) {
			error = view->frozen ? 0 : read_again(rows, view, pid, stuck);
			if (error)
				return error;
			next = now + view->interval;
		}
		show(view, rows);
		key = screen_wait(next - now);
		if (key == SCREEN_END || (key == 'q' && !view->typing))
			return 0;
		screen_size(&terminal, &lines);
		if (press(view, rows, key, lines > LINES_AROUND ? lines - LINES_AROUND : 1))
			top_rows_sort(rows, view->sort, view->reverse);
	}
}

int top_screen(int32_t pid, double interval, double stuck)
{
	struct view view = {
		.sort = TOP_PATH, .interval = interval, .colour = screen_has_colour(),
	};
	struct top_rows rows = { 0 };
	size_t columns_there, lines, bytes = 0;
	char *last = NULL;
	int error = read_again(&rows, &view, pid, stuck);

	if (error || !rows.count) {
		top_rows_release(&rows);
		return error ? tool_fail(TOOL_NOT_SEEN, "%s", dw_strerror_last()) :
			       tool_fail(TOOL_NOT_SEEN, "there is no tree that this user may see");
	}
	error = screen_open();
	if (error)
		return tool_fail(TOOL_SYSTEM, "the terminal cannot be used: %s", strerror(-error));
	error = watch(&view, &rows, pid, stuck);
	screen_close();
	/* A tree that has ended: its last picture stays, with the reason below it. */
	if (error) {
		screen_size(&columns_there, &lines);
		view.colour = false;
		last = draw(&view, &rows, columns_there, lines, true, &bytes);
		fwrite(last ? last : "", 1, last ? bytes : 0, stdout);
		tool_flush(TOOL_OK);
		error = error == -ENOENT ?
			tool_fail(TOOL_NOT_SEEN, "the tree of process %d has ended", pid) :
			tool_fail(TOOL_NOT_SEEN, "%s", dw_strerror_last());
	}
	free(last);
	free(view.folded);
	top_rows_release(&rows);
	return error;
}
