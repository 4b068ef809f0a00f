/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * A job's own options, "--name value" or "--name=value", from a table. A mistake
 * is reported through the environment's `fail`, with the option and its valid values.
 */
#ifndef DISTWORKER_JOBS_OPTIONS_H
#define DISTWORKER_JOBS_OPTIONS_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <distworker/job.h>
#include "../number.h"

enum option_kind { OPTION_COUNT, OPTION_REAL, OPTION_TEXT };

struct option_entry {
	const char *name;		/* without the dashes */
	enum option_kind kind;
	void *value;			/* uint64_t, double, const char *: the default, replaced */
	double least, most;		/* of numbers, inclusive */
};

static int option_set(const struct distworker_job_environment *environment,
		      const struct option_entry *entry, const char *text)
{
	char *end;

	errno = 0;
	if (entry->kind == OPTION_TEXT) {
		*(const char **)entry->value = text;
		return 0;
	}
	if (entry->kind == OPTION_COUNT) {
		unsigned long long value = strtoull(text, &end, 0);

		if (*text >= '0' && *text <= '9' && !*end && !errno &&
		    (double)value >= entry->least && (double)value <= entry->most) {
			*(uint64_t *)entry->value = value;
			return 0;
		}
	} else {
		double value = number_parse(text, &end);

		if (end != text && !*end && !errno && value >= entry->least &&
		    value <= entry->most) {
			*(double *)entry->value = value;
			return 0;
		}
	}
	return environment->fail(environment, EINVAL,
				 "--%s: \"%s\" is not a %s from %.10g to %.10g", entry->name, text,
				 entry->kind == OPTION_COUNT ? "whole number" : "number",
				 entry->least, entry->most);
}

static int options_parse(const struct distworker_job_environment *environment,
			 const struct option_entry *entries, size_t count)
{
	for (int i = 1; i < environment->argc; i++) {
		const char *word = environment->argv[i], *value;
		const struct option_entry *entry = NULL;
		size_t length = strcspn(word, "=");
		int err;

		for (size_t n = 0; n < count && !entry; n++)
			if (length > 2 && !strncmp(word, "--", 2) &&
			    strlen(entries[n].name) == length - 2 &&
			    !strncmp(word + 2, entries[n].name, length - 2))
				entry = &entries[n];
		if (!entry)
			return environment->fail(
				environment, EINVAL,
				"%s has no option \"%.*s\"; `distworker run %s -- --help` lists "
				"them",
				environment->argv[0], (int)length, word, environment->argv[0]);
		value = word[length] ? word + length + 1 :
			i + 1 < environment->argc ? environment->argv[++i] : NULL;
		if (!value)
			return environment->fail(environment, EINVAL, "--%s needs a value",
						 entry->name);
		err = option_set(environment, entry, value);
		if (err)
			return err;
	}
	return 0;
}

#endif
