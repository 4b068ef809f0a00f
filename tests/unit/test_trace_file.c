/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The file of a trace: torn lines of a writer that was killed, strings, lines that are too long. */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "task/error.h"
#include "trace/file.h"
#include "unit.h"

#define LAST "{\"ph\":\"last\"}\n]\n"

static char path[64];

static struct trace_file *begin(void)
{
	struct trace_file *file = NULL;
	int fd;

	strcpy(path, "/tmp/distworker-lines-XXXXXX");
	fd = mkstemp(path);
	close(fd);
	setenv("DW_TRACE", path, 1);
	CHECK_EQ(trace_file_open(VARIABLE_TRACE, "[\n", LAST, ',', &file), 0);
	unsetenv("DW_TRACE");
	return file;
}

static char content[1 << 20];

static const char *read_content(void)
{
	int fd = open(path, O_RDONLY);
	ssize_t bytes = read(fd, content, sizeof(content) - 1);

	content[bytes > 0 ? bytes : 0] = '\0';
	close(fd);
	return content;
}

static const char *end(struct trace_file *file)
{
	trace_file_close(file);
	read_content();
	unlink(path);
	return content;
}

/* Writes `text` from a child that dies without a clean end of the file. */
static void write_and_die(struct trace_file *file, const char *text)
{
	pid_t child = fork();
	int fd;

	if (child == 0) {
		trace_file_join(file);
		fd = open(path, O_WRONLY | O_APPEND);
		_exit(write(fd, text, strlen(text)) != (ssize_t)strlen(text));
	}
	CHECK_EQ(waitpid(child, NULL, 0), child);
}

static void write_line(struct trace_lines *lines, int number)
{
	lines_begin(lines);
	lines_add(lines, "{\"n\":%d,\"s\":", number);
	lines_add_string(lines, "}\"]");
	lines_end(lines, "},");
}

TEST(torn_lines_of_killed_writers_become_blanks)
{
	static const char *const torn[] = {
		"\n{\"a\":1},\n{\"ph\":\"X\",",
		"\n{\"a\":1},\n{\"na",
		"\n{\"a\":1},\n{\"n\":{\"b\":2},",
		"\n{\"a\":1},\n{\"n\":\"},",
		"\n{\"a\":1},\n{",
		"\n{\"a\":1},\n{\"n\":1}",
	};

	for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++) {
		struct trace_file *file = begin();
		static struct trace_lines lines;
		const char *text;
		unsigned whole = 0;

		lines = (struct trace_lines){ .file = file };
		trace_file_join(file);
		write_line(&lines, 1);
		lines_flush(&lines);
		write_and_die(file, torn[i]);
		write_line(&lines, 2);
		lines_flush(&lines);
		trace_file_leave(file);
		text = end(file);
		CHECK_STR(text, "{\"n\":1,\"s\":\"}\\\"]\"},\n");
		CHECK_STR(text, "\n{\"a\":1},\n");
		CHECK_STR(text, "{\"n\":2,\"s\":\"}\\\"]\"},\n");
		CHECK(strlen(text) > strlen(LAST) &&
		      !strcmp(text + strlen(text) - strlen(LAST), LAST));
		/* Between whole lines there are only blanks. */
		for (const char *at = text + 1; *at; at++)
			whole += *at == '{';
		CHECK_EQ(whole, 4);
	}
}

TEST(lines_that_are_too_long_are_cut_and_do_not_reach_the_next)
{
	struct trace_file *file = begin();
	static struct trace_lines lines;
	char name[300];
	const char *text;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	lines = (struct trace_lines){ .file = file };
	trace_file_join(file);
	for (int i = 0; i < 100; i++) {
		lines_begin(&lines);
		for (int k = 0; k < 100; k++)
			lines_add_string(&lines, name);
		lines_end(&lines, "|");
	}
	lines_flush(&lines);
	trace_file_leave(file);
	text = end(file);
	for (int i = 0; i < 100; i++) {
		text = strchr(text, '|');
		REQUIRE(text && text[1] == '\n');
		text++;
	}
	CHECK(!strchr(text, '|'));
}

TEST(a_disk_that_is_full_ends_the_trace_and_leaves_it_valid)
{
	struct trace_file *file = begin();
	static struct trace_lines lines;
	struct stat status;
	const char *text;
	pid_t child;

	/* A limit on the size of files, for a child: its write is cut there. */
	trace_file_join(file);
	child = fork();
	if (child == 0) {
		struct rlimit limit = { 1000, 1000 };

		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		lines = (struct trace_lines){ .file = file };
		for (int i = 0; i < 100; i++)
			write_line(&lines, i);
		lines_flush(&lines);
		write_line(&lines, 100);
		lines_flush(&lines);
		trace_file_leave(file);
		_exit(0);
	}
	CHECK_EQ(waitpid(child, NULL, 0), child);
	CHECK_EQ(stat(path, &status), 0);
	CHECK_EQ(status.st_size, 1000);
	text = end(file);
	CHECK_STR(text, "{\"n\":10,");
	CHECK(!strstr(text, "{\"n\":100,"));
	CHECK(!strcmp(text + strlen(text) - strlen(LAST), LAST));
	/* The torn line is gone: every line that begins also ends. */
	for (const char *line = strchr(text, '{'); line && line[2] == 'n';
	     line = strchr(line, '{')) {
		const char *stop = strchr(line, '\n');

		REQUIRE(stop);
		CHECK(stop[-1] == ',' && stop[-2] == '}');
		line = stop;
	}
}

/* One warning, with the limit's name; all that was whole is there, and the end. */
TEST(a_limit_of_the_size_of_files_is_named_once)
{
	struct trace_file *file = begin();
	static struct trace_lines lines;
	static char log[4096];
	int status_of = -1, ends[2];
	struct stat status;
	const char *text;
	ssize_t bytes;
	pid_t child;

	CHECK_EQ(pipe(ends), 0);
	trace_file_join(file);
	child = fork();
	if (child == 0) {
		struct rlimit limit = { 1000, 1000 };

		signal(SIGXFSZ, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		log_threshold = LOG_WARN;
		setrlimit(RLIMIT_FSIZE, &limit);
		lines = (struct trace_lines){ .file = file };
		for (int i = 0; i < 100; i++) {
			write_line(&lines, i);
			lines_flush(&lines);
		}
		trace_file_leave(file);
		trace_file_close(file);
		_exit(0);
	}
	close(ends[1]);
	CHECK_EQ(waitpid(child, &status_of, 0), child);
	CHECK_EQ(status_of, 0);
	bytes = read(ends[0], log, sizeof(log) - 1);
	log[bytes > 0 ? bytes : 0] = '\0';
	CHECK_STR(log, "ends here: EFBIG (the limit of the size of files: ulimit -f)");
	CHECK(strchr(log, '\n') && !strchr(log, '\n')[1]);
	CHECK_EQ(stat(path, &status), 0);
	CHECK(status.st_size <= 1000 && status.st_size > 800);
	text = read_content();
	CHECK(!strcmp(text + strlen(text) - strlen(LAST), LAST));
	close(ends[0]);
	end(file);
}
