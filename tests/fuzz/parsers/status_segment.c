/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* The segment in which another process shows its tree: `distworker top` trusts none of it. */
#include "input.h"
#include <distworker/distworker.h>
#include "worker/status_segment.h"

#define SEGMENT_BYTES 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char content[SEGMENT_BYTES], text[4096];
	struct status_segment *segment = (struct status_segment *)content;
	struct dw_tree *tree = NULL;
	size_t bytes = sizeof(text);
	int fd;

	memset(content, 'x', sizeof(content));
	memcpy(content, data, size < sizeof(content) ? size : sizeof(content));
	/* With other values the segment would be refused at once. */
	segment->magic = SEGMENT_MAGIC;
	segment->layout = SEGMENT_LAYOUT;
	segment->bytes = SEGMENT_BYTES;
	segment->pid = getpid();
	segment->worker_count %= 16;
	segment->child_count %= 32;
	fd = memfd_create(SEGMENT_NAME, MFD_ALLOW_SEALING);
	MUST(fd >= 0 && write(fd, content, sizeof(content)) == (ssize_t)sizeof(content));
	MUST(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	if (dw_tree_open(getpid(), 0, &tree) == 0) {
		MUST(dw_tree_report(tree, 1, text, &bytes) == 0 && memchr(text, 0, sizeof(text)));
		dw_tree_close(tree);
	}
	close(fd);
	return 0;
}
