// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind environment.h. */
#include <errno.h>
#include <unistd.h>
#include "base/text.h"
#include "task/environment.h"
#include "task/error.h"

/* "a|b|c" as "a, b or c" */
static void list_words(const char *type, char *text, size_t bytes)
{
	size_t used = 0;

	text[0] = '\0';
	while (*type && used < bytes) {
		size_t length = strcspn(type, "|");
		bool last = !type[length] || !strchr(type + length + 1, '|');

		used += (size_t)snprintf(text + used, bytes - used, "%.*s%s", (int)length, type,
					 !type[length] ? "" : last ? " or " : ", ");
		type += length + (type[length] == '|');
	}
}

int environment_number(enum variable variable, int standard)
{
	const char *value = variable_text(variable), *word = variable_rows[variable].type;

	if (!value)
		return standard;
	for (int number = 0;; number++) {
		size_t length = strcspn(word, "|");

		if (strlen(value) == length && !strncmp(value, word, length))
			return number;
		if (!word[length])
			return -EINVAL;
		word += length + 1;
	}
}

int environment_word(enum variable variable, int standard)
{
	const struct variable_row *row = &variable_rows[variable];
	int number = environment_number(variable, standard);
	char words[128];

	if (number != -EINVAL)
		return number;
	list_words(row->type, words, sizeof(words));
	return error_set(-EINVAL, "%s is \"%s\"; it can be %s", row->name,
			 text_short(variable_text(variable)), words);
}

void environment_check(void)
{
	const struct variable_row *nearest;

	for (char **entry = environ; entry && *entry; entry++) {
		if (!variable_is_unknown(*entry, &nearest))
			continue;
		log_at(LOG_WARN, "the environment variable %.*s is none of distworker's%s%s%s",
		       (int)strcspn(*entry, "="), *entry, nearest ? "; did you mean " : "",
		       nearest ? nearest->name : "", nearest ? "?" : "");
	}
}
