/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Numbers as C writes them, for the tool and its jobs: a library that they load may have set a
 * locale with a comma.
 */
#ifndef DISTWORKER_NUMBER_H
#define DISTWORKER_NUMBER_H

#include <locale.h>
#include <stdlib.h>

/* strtod() of the C locale. */
static inline double number_parse(const char *text, char **end)
{
	/* All categories of "C": no memory is needed, so this does not fail. */
	locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	double number = strtod_l(text, end, c);

	freelocale(c);
	return number;
}

#endif
