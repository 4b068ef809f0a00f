/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* Records of a trace: any chunk of one, between two that are whole. Its lines are whole. */
#include "input.h"
#include "trace/convert.h"
#include "trace/record.h"
#include "trace/text_out.h"

static int check(void *context, const char *text, size_t bytes)
{
	const char *end = text + bytes, *newline;

	(void)context;
	for (; text < end; text = newline + 1) {
		newline = memchr(text, '\n', (size_t)(end - text));
		MUST(newline);
		MUST(newline == text || trace_line_is_whole(text, (size_t)(newline - text), ','));
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned char writer[] = {
		RECORD_WRITER, 7, 7, 1, 2, 'w', '0', RECORD_NAME, 1, 'n',
		RECORD_LANE,   8, 8, 1, 1, 'l',
	};
	struct chunk_head head = { .magic = CHUNK_MAGIC, .bytes = sizeof(writer) };
	unsigned char file[3 * sizeof(head) + 2 * sizeof(writer) + 65536];
	size_t used = 0;
	int fd;

	if (size > 65536)
		return 0;
	for (int i = 0; i < 3; i++) {
		const void *part = i == 1 ? (const void *)data : writer;
		size_t bytes = i == 1 ? size : sizeof(writer);

		head.bytes = (uint32_t)bytes;
		memcpy(file + used, &head, sizeof(head));
		memcpy(file + used + sizeof(head), part, bytes);
		used += sizeof(head) + bytes;
	}
	input_file(file, used, &fd);
	MUST(convert_file(fd, check, NULL) == 0);
	close(fd);
	return 0;
}
