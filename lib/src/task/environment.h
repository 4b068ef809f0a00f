/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * environment: what the library takes from its environment, by the rows of base/variables.h. The
 * environment is read at each call; any thread, as long as no other one changes it.
 */
#ifndef DW_TASK_ENVIRONMENT_H
#define DW_TASK_ENVIRONMENT_H

#include "base/variables.h"

/*
 * The number of the word that the variable is, by its row; `standard` when it is not set. -EINVAL
 * with a text that names the words: it is none of them.
 */
int environment_word(enum variable variable, int standard);
/* The same, without a text. */
int environment_number(enum variable variable, int standard);
/* Warns in the log of each variable that begins with DW_ and that nothing reads. */
void environment_check(void);

#endif
