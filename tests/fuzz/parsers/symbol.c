/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * "lib.so:name" and the object that it names: the first line is the symbol, where %s stands for the
 * path of a file with the rest.
 */
#include "input.h"
#include <distworker/distworker.h>
#include "callable/symbol.h"
#include "worker/hierarchy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t head = newline ? (size_t)(newline - data) : size;
	static struct dw_worker *worker;
	char symbol[512], line[256];
	uint8_t identity[32];
	dw_callable callable;
	const char *path, *place;
	int fd;

	if (!worker)
		MUST(dw_worker_create(3, NULL, &worker) == 0);
	path = input_file(newline ? newline + 1 : data, newline ? size - head - 1 : 0, &fd);
	snprintf(line, sizeof(line), "%.*s", (int)(head < 200 ? head : 200), (const char *)data);
	place = strstr(line, "%s");
	if (place)
		snprintf(symbol, sizeof(symbol), "%.*s%s%s", (int)(place - line), line, path,
			 place + 2);
	else
		snprintf(symbol, sizeof(symbol), "%s", line);
	if (dw_callable_register_symbol(worker, symbol, DW_SYMBOL_SUB, &callable) < 0)
		MUST(dw_strerror_last()[0]);
	else
		MUST(dw_callable_unregister(worker, callable) == 0);
	symbol_identify(path, "sub_add", identity);
	close(fd);
	return 0;
}
