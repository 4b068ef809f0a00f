// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * See name.h.
 */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "base/text.h"
#include "task/error.h"
#include "task/name.h"

int name_check(const char *what, const char *name, size_t most)
{
	size_t length = strlen(name);

	return length <= most ? 0 :
	       error_set(-ENAMETOOLONG, "%s \"%s\" has %zu bytes; at most %zu are possible", what,
			 text_short(name), length, most);
}

int name_check_driver(const char *where, const char *driver)
{
	if (!driver || !driver[0])
		return error_set(
			-EINVAL,
			"%s is empty; it should be a driver's name, such as \"sim\", or a path",
			where);
	if (strchr(driver, '/'))
		return name_check(where, driver, NAME_PATH_MOST);
	for (const char *at = driver; *at; at++)
		if (!isalnum((unsigned char)*at) && *at != '_' && *at != '-')
			return error_set(
				-EINVAL,
				"%s \"%s\" is neither a name (1 to %d letters, digits, - "
				"and _) nor a path with a slash",
				where, text_short(driver), NAME_DRIVER_MOST);
	return name_check(where, driver, NAME_DRIVER_MOST);
}
