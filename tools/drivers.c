// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Asks chip drivers for their devices, each in a child process: the answer comes
 * over a pipe as one struct answer and the properties behind it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/text.h"
#include "drivers.h"
#include "tool.h"

#define PROPERTIES_MAX 4096
#define REMEMBERED 8

struct answer {
	bool loaded;
	int code;
	struct dw_chip_driver_info info;
	size_t devices, known;
	char error[512];
};

static void write_all(int fd, const void *data, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, data, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(1);
		data = (const char *)data + n;
		bytes -= (size_t)n;
	}
}

/* In the child. Does not return: threads that the driver left running end with it. */
static void answer(int fd, const char *name, const char *options)
{
	struct dw_chip_properties *properties = calloc(PROPERTIES_MAX, sizeof(*properties));
	struct answer answer = { .info = DW_OPTIONS(dw_chip_driver_info), .known = PROPERTIES_MAX };
	int result;

	/* Vendors' libraries print where they like: that is no result of ours. */
	tool_print_to_stderr();
	alarm(DRIVER_SECONDS);
	result = properties ? dw_chip_driver_query(name, &answer.info) : -ENOMEM;
	answer.loaded = result == 0;
	answer.devices = PROPERTIES_MAX;
	if (result == 0)
		result = dw_chip_enumerate(name, options, properties, sizeof(*properties),
					   &answer.devices);
	if (result < 0) {
		answer.code = result;
		answer.devices = 0;
		text_copy(answer.error, sizeof(answer.error), dw_strerror_last());
	}
	if (answer.known > answer.devices)
		answer.known = answer.devices;
	write_all(fd, &answer, sizeof(answer));
	write_all(fd, properties, answer.known * sizeof(*properties));
	_exit(0);
}

/* Bytes that were read before the end. */
static size_t read_all(int fd, void *data, size_t bytes)
{
	size_t got = 0;

	while (got < bytes) {
		ssize_t n = read(fd, (char *)data + got, bytes - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	return got;
}

static int fail(struct driver *driver, int code, const char *what)
{
	driver->code = code;
	text_format(driver->error, sizeof(driver->error), "%s: %s", what, strerror(-code));
	return code;
}

static void take_answer(int fd, struct driver *driver)
{
	struct answer answer;

	if (read_all(fd, &answer, sizeof(answer)) != sizeof(answer))
		return;
	driver->properties = calloc(answer.known ? answer.known : 1, sizeof(*driver->properties));
	if (!driver->properties ||
	    read_all(fd, driver->properties, answer.known * sizeof(*driver->properties)) !=
	    answer.known * sizeof(*driver->properties))
		return;
	driver->loaded = answer.loaded;
	driver->devices = answer.devices;
	driver->known = answer.known;
	driver->code = answer.code;
	text_copy(driver->path, sizeof(driver->path), answer.info.path);
	text_copy(driver->version, sizeof(driver->version), answer.info.version);
	text_copy(driver->error, sizeof(driver->error), answer.error);
}

void driver_ask(const char *name, const char *options, struct driver *driver)
{
	int ends[2], status = 0;
	pid_t pid;

	memset(driver, 0, sizeof(*driver));
	text_fit(driver->name, sizeof(driver->name), name);
	if (pipe(ends) < 0) {
		fail(driver, -errno, "cannot make a pipe to ask the driver");
		return;
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		answer(ends[1], name, options);
	}
	close(ends[1]);
	if (pid < 0) {
		fail(driver, -errno, "cannot start a process to ask the driver");
	} else {
		driver->code = -EOWNERDEAD;
		take_answer(ends[0], driver);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(ends[0]);
	if (driver->code != -EOWNERDEAD || driver->error[0])
		return;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(driver->error, sizeof(driver->error), "it did not answer within %d s",
			 DRIVER_SECONDS);
	else if (WIFSIGNALED(status))
		text_format(driver->error, sizeof(driver->error),
			 "it was killed by SIG%s when it was asked",
			 sigabbrev_np(WTERMSIG(status)));
	else
		snprintf(driver->error, sizeof(driver->error),
			 "it ended its process with status %d when it was asked",
			 WEXITSTATUS(status));
}

void driver_release(struct driver *driver)
{
	free(driver->properties);
	driver->properties = NULL;
}

/* "a,b,c" in memory of its own. */
static int list_names(char **names)
{
	size_t bytes = 1024;
	int result = -ERANGE;

	for (*names = NULL; result == -ERANGE; bytes *= 2) {
		free(*names);
		*names = malloc(bytes);
		result = *names ? dw_chip_driver_list(*names, bytes) : -ENOMEM;
	}
	return result;
}

int drivers_find(struct driver **drivers, size_t *count)
{
	char *names, *save = NULL;
	size_t room = 1;
	int result = list_names(&names);

	*count = 0;
	for (const char *at = names; result == 0 && *at; at++)
		room += *at == ',';
	*drivers = result == 0 ? calloc(room, sizeof(**drivers)) : NULL;
	if (result == 0 && !*drivers)
		result = -ENOMEM;
	if (result == 0)
		for (char *name = strtok_r(names, ",", &save); name;
		     name = strtok_r(NULL, ",", &save))
			driver_ask(name, NULL, &(*drivers)[(*count)++]);
	free(names);
	return result;
}

void drivers_release(struct driver *drivers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		driver_release(&drivers[i]);
	free(drivers);
}

size_t driver_devices(const char *name, const char *options)
{
	static struct remembered {
		char name[128], options[512];
		size_t devices;
	} known[REMEMBERED];
	static size_t next;
	struct remembered *slot = &known[next % REMEMBERED];
	struct driver driver;

	if (!options)
		options = "";
	for (size_t i = 0; i < REMEMBERED; i++)
		if (!strcmp(known[i].name, name) && !strcmp(known[i].options, options))
			return known[i].devices;
	driver_ask(name, options[0] ? options : NULL, &driver);
	driver_release(&driver);
	if (strlen(name) < sizeof(slot->name) && strlen(options) < sizeof(slot->options)) {
		strcpy(slot->name, name);
		strcpy(slot->options, options);
		slot->devices = driver.devices;
		next++;
	}
	return driver.devices;
}
