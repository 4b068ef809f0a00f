/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Records of a trace, and their lines, which are whole whatever the file has. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "trace/convert.h"
#include "trace/file.h"
#include "trace/text_out.h"
#include "unit.h"

#define WRITERS 3
#define TASKS 4000			/* of each: several chunks */
#define TEARS 20

static char path[64], records_path[96], *text;
static size_t text_bytes;
static struct records writers[WRITERS];

static struct trace_file *begin(void)
{
	struct trace_file *file = NULL;

	strcpy(path, "/tmp/distworker-records-XXXXXX");
	close(mkstemp(path));
	snprintf(records_path, sizeof(records_path), "%s%s", path, TRACE_RECORDS_SUFFIX);
	setenv("DW_TRACE", path, 1);
	CHECK_EQ(trace_file_open(VARIABLE_TRACE, TRACE_FIRST_LINE, TRACE_LAST_LINE, ',', &file), 0);
	unsetenv("DW_TRACE");
	trace_file_keep_records(file);
	CHECK(trace_file_keeps_records(file));
	return file;
}

static struct record_task task_of(unsigned writer, uint64_t number, const char *name)
{
	uint64_t at = 1000000000 + number * 1000;

	return (struct record_task){
		.flags = RECORD_DONE | RECORD_RAN, .task = number, .run = 1, .name = name,
		.callable = "work", .submitted = at, .ready = at + 10, .dispatched = at + 20,
		.started = at + 30, .ended = at + 530 + writer, .completed = at + 900,
	};
}

/* Some of each, in turn, so that their chunks are mixed. */
static void write_tasks(struct trace_file *file)
{
	char name[64];

	for (unsigned i = 0; i < WRITERS; i++) {
		snprintf(name, sizeof(name), "w%u", i);
		CHECK_EQ(records_open(&writers[i], file, name), 0);
		record_writer(&writers[i], 100 + (int32_t)i, 100 + (int32_t)i, true, name);
	}
	for (uint64_t number = 1; number <= TASKS; number++)
		for (unsigned i = 0; i < WRITERS; i++) {
			struct record_task task;

			/* More names than are kept at a time. */
			snprintf(name, sizeof(name), "w%u task %llu", i,
				 (unsigned long long)number);
			task = task_of(i, number, name);
			record_task(&writers[i], &task);
		}
	for (unsigned i = 0; i < WRITERS; i++)
		records_close(&writers[i]);
}

static int keep(void *context, const char *lines, size_t bytes)
{
	(void)context;
	text = realloc(text, text_bytes + bytes + 1);
	memcpy(text + text_bytes, lines, bytes);
	text_bytes += bytes;
	text[text_bytes] = '\0';
	return 0;
}

static const char *lines_of(const char *from)
{
	int fd = open(from, O_RDONLY | O_CLOEXEC);

	text_bytes = 0;
	keep(NULL, "", 0);
	CHECK_EQ(convert_file(fd, keep, NULL), 0);
	close(fd);
	return text;
}

static char *end_of(char *line)
{
	return memchr(line, '\n', (size_t)(text + text_bytes - line));
}

/* Line by line: a sanitizer's strstr() reads the text to its end, each time. */
static unsigned count_tasks(unsigned writer)
{
	unsigned count = 0;
	char owner[32];
	size_t bytes = (size_t)snprintf(owner, sizeof(owner), "\"owner\":\"w%u\"", writer);

	for (char *line = text, *newline; (newline = end_of(line)); line = newline + 1)
		count += memmem(line, (size_t)(newline - line), owner, bytes) != NULL;
	return count;
}

static void check_lines_are_whole(void)
{
	for (char *line = text, *newline; line < text + text_bytes; line = newline + 1) {
		newline = end_of(line);
		REQUIRE(newline);
		if (newline == line)
			continue;
		if (!CHECK(trace_line_is_whole(line, (size_t)(newline - line), ',')))
			printf("# %.*s\n", (int)(newline - line), line);
	}
}

static void end(struct trace_file *file)
{
	trace_file_close(file);
	CHECK(access(records_path, F_OK) < 0);
	unlink(path);
}

TEST(each_record_is_a_line_with_its_names_and_times)
{
	struct trace_file *file = begin();

	write_tasks(file);
	lines_of(records_path);
	check_lines_are_whole();
	for (unsigned i = 0; i < WRITERS; i++)
		CHECK_EQ(count_tasks(i), TASKS);
	CHECK_STR(text, "{\"ph\":\"X\",\"name\":\"w1 task 3999\",\"cat\":\"done\",\"pid\":101,"
			"\"tid\":101,\"ts\":1003999.030,\"dur\":0.501,\"args\":{\"task\":3999,"
			"\"run\":1,\"state\":\"done\",\"owner\":\"w1\",\"callable\":\"work\","
			"\"submitted\":1003999.000,\"ready\":1003999.010,"
			"\"dispatched\":1003999.020,\"started\":1003999.030,"
			"\"ended\":1003999.531,\"completed\":1003999.900,\"worker\":\"w1\"}},\n");
	end(file);
}

/* A chunk of a writer that was killed in the middle of its write, before those of the others. */
TEST(a_torn_chunk_ends_its_own_lines_and_no_others)
{
	struct trace_file *file = begin();
	static unsigned char bytes[1 << 20];
	uint64_t magic = CHUNK_MAGIC;
	char torn_path[64] = "/tmp/distworker-torn-XXXXXX";
	unsigned char *second;
	ssize_t all;
	int fd;

	write_tasks(file);
	fd = open(records_path, O_RDONLY | O_CLOEXEC);
	all = read(fd, bytes, sizeof(bytes));
	close(fd);
	REQUIRE(all > 0 && (size_t)all < sizeof(bytes));
	second = memmem(bytes + 8, (size_t)all - 8, &magic, sizeof(magic));
	REQUIRE(second);
	for (unsigned tear = 0; tear < TEARS; tear++) {
		size_t kept = tear * (size_t)(second - bytes) / TEARS;

		fd = open(torn_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		CHECK_EQ(write(fd, bytes, kept), (ssize_t)kept);
		CHECK_EQ(write(fd, second, (size_t)(bytes + all - second)), bytes + all - second);
		close(fd);
		lines_of(torn_path);
		check_lines_are_whole();
		/* The first chunk is that of writer 0: the others lose nothing. */
		CHECK(count_tasks(0) < TASKS);
		CHECK_EQ(count_tasks(1), TASKS);
		CHECK_EQ(count_tasks(2), TASKS);
	}
	unlink(torn_path);
	end(file);
}

/* What a corrupt process writes there. */
TEST(lines_are_whole_whatever_the_records_are)
{
	struct trace_file *file = begin();
	static unsigned char bytes[1 << 20];
	uint32_t random = 12345;
	ssize_t all;
	int fd;

	write_tasks(file);
	fd = open(records_path, O_RDWR | O_CLOEXEC);
	all = pread(fd, bytes, sizeof(bytes), 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 200; i++) {
			random = random * 1664525 + 1013904223;
			bytes[random % (uint32_t)all] = (unsigned char)(random >> 24);
		}
		CHECK_EQ(pwrite(fd, bytes, (size_t)all, 0), all);
		lines_of(records_path);
		check_lines_are_whole();
	}
	close(fd);
	end(file);
}

/* A task with two dependencies, as the promise of docs/tracing.md has it. */
TEST(a_task_and_its_arrows_take_at_most_120_bytes)
{
	struct trace_file *file = begin();
	struct stat status;

	CHECK_EQ(records_open(&writers[0], file, "w"), 0);
	record_writer(&writers[0], 4000000, 4000000, true, "w");
	for (uint64_t number = 1; number <= TASKS; number++) {
		struct record_task task = task_of(0, number, NULL);
		struct record_arrow arrow = { .reasons = 1, .at = task.started };

		record_task(&writers[0], &task);
		for (unsigned i = 0; i < 4; i++) {
			arrow.id = (uint32_t)number * 4 + i;
			arrow.from = number;
			arrow.to = i < 2 ? number + i + 1 : 0;
			arrow.run = 1;
			record_arrow(&writers[0], &arrow);
		}
	}
	records_close(&writers[0]);
	CHECK_EQ(stat(records_path, &status), 0);
	CHECK(status.st_size / TASKS <= 120);
	printf("# %ld bytes\n", (long)status.st_size / TASKS);
	end(file);
}
