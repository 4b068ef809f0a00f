// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * Plans of hierarchies, from a JSON file (docs/tools.md describes it). Every mistake is told
 * with the file and the path of the key: tree.json: children[1].chips[0].device: …
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/text.h"
#include "hierarchy.h"
#include "tool.h"

#define FILE_BYTES_MAX (4 << 20)
#define NAME_BYTES_MOST 47	/* the library's own limit */
#define DEPTH_MAX 4		/* levels 6, 5, 4, 3 */

/* Where in the file we are, and where a mistake is written to. */
struct reader {
	const char *file;
	char *text;
	size_t bytes;
	char path[256];
};

__attribute__((format(printf, 3, 4)))
static int fail(struct reader *reader, const char *key, const char *format, ...)
{
	const char *dot = *key && *reader->path ? "." : "";
	size_t used = (size_t)text_format(reader->text, reader->bytes, "%s: %s%s%s%s", reader->file,
				       reader->path, dot, key,
				       *key || *reader->path ? ": " : "");
	va_list list;

	va_start(list, format);
	if (used < reader->bytes)
		text_vformat(reader->text + used, reader->bytes - used, format, list);
	va_end(list);
	return -EINVAL;
}

static const char *describe(struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null: return "null";
	case json_type_boolean: return "true or false";
	case json_type_double: return "a number with a fraction";
	case json_type_int: return "a whole number";
	case json_type_object: return "an object";
	case json_type_array: return "a list";
	case json_type_string: return "a string";
	}
	return "something else";
}

/* Each getter leaves *result alone when the key is not there. */
static int get_count(struct reader *reader, struct json_object *object, const char *key,
		     uint64_t least, uint64_t most, uint64_t *result)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_int))
		return fail(reader, key, "a whole number is wanted, not %s", describe(value));
	if (json_object_get_int64(value) < 0 || json_object_get_uint64(value) < least ||
	    json_object_get_uint64(value) > most)
		return fail(reader, key, "%s is not in %llu … %llu",
			    json_object_get_string(value), (unsigned long long)least,
			    (unsigned long long)most);
	*result = json_object_get_uint64(value);
	return 0;
}

static int get_count32(struct reader *reader, struct json_object *object, const char *key,
		       uint32_t least, uint32_t most, uint32_t *result)
{
	uint64_t value = *result;
	int err = get_count(reader, object, key, least, most, &value);

	*result = (uint32_t)value;
	return err;
}

static int get_text(struct reader *reader, struct json_object *object, const char *key,
		    const char **result)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_string))
		return fail(reader, key, "a string is wanted, not %s", describe(value));
	*result = json_object_get_string(value);
	return 0;
}

static int get_seconds(struct reader *reader, struct json_object *object, const char *key,
		       uint64_t *ns)
{
	struct json_object *value;
	double seconds;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_int) &&
	    !json_object_is_type(value, json_type_double))
		return fail(reader, key, "a number of seconds is wanted, not %s", describe(value));
	seconds = json_object_get_double(value);
	if (!(seconds >= 0 && seconds <= 1e9))
		return fail(reader, key, "%s is not a number of seconds",
			    json_object_get_string(value));
	*ns = (uint64_t)(seconds * 1e9);
	return 0;
}

/* One of `words`; *result becomes its index. */
static int get_word(struct reader *reader, struct json_object *object, const char *key,
		    const char *const *words, size_t count, uint32_t *result)
{
	const char *word = NULL;
	char all[128] = "";
	size_t used = 0;
	int err = get_text(reader, object, key, &word);

	if (err || !word)
		return err;
	for (size_t i = 0; i < count; i++) {
		if (!strcmp(word, words[i])) {
			*result = (uint32_t)i;
			return 0;
		}
		used += (size_t)text_format(all + used, sizeof(all) - used, "%s%s", i ? ", " : "",
					 words[i]);
	}
	return fail(reader, key, "\"%s\" is none of %s", word, all);
}

static int get_bool(struct reader *reader, struct json_object *object, const char *key,
		    uint32_t *result)
{
	struct json_object *value;

	if (!json_object_object_get_ex(object, key, &value))
		return 0;
	if (!json_object_is_type(value, json_type_boolean))
		return fail(reader, key, "true or false is wanted, not %s", describe(value));
	*result = (uint32_t)json_object_get_boolean(value);
	return 0;
}

static int check_keys(struct reader *reader, struct json_object *object, const char *const *keys,
		      size_t count)
{
	json_object_object_foreach(object, key, value) {
		bool known = false;
		const char *near;

		(void)value;
		for (size_t i = 0; i < count && !known; i++)
			known = !strcmp(key, keys[i]);
		if (known)
			continue;
		near = tool_nearest(key, keys, count);
		return fail(reader, key, "there is no such key%s%s%s",
			    near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	return 0;
}

/* ------------------------------------------------------------------- Workers */

/* The settings that a Worker passes on to those below it. */
struct inherited {
	const char *driver, *chip_options;
	uint32_t subs;
	struct dw_worker_options worker;
};

static int read_chip(struct reader *reader, struct json_object *object,
		     const struct inherited *inherited, struct plan *plan)
{
	static const char *const keys[] = { "driver", "device", "options", "count" };
	const char *driver = inherited->driver, *options = inherited->chip_options;
	uint32_t device = PLAN_ANY_DEVICE, count = 1;
	int err;

	if (!json_object_is_type(object, json_type_object))
		return fail(reader, "", "an object is wanted, not %s", describe(object));
	err = check_keys(reader, object, keys, COUNT_OF(keys));
	if (!err)
		err = get_text(reader, object, "driver", &driver);
	if (!err)
		err = get_text(reader, object, "options", &options);
	if (!err)
		err = get_count32(reader, object, "device", 0, 1 << 20, &device);
	if (!err)
		err = get_count32(reader, object, "count", 1, PLAN_CHIPS_MAX, &count);
	if (!err && plan_add_chips(plan, count, driver, device, options))
		return fail(reader, "", "no memory");
	return err;
}

/* "chips": a number, or a list of objects. */
static int read_chips(struct reader *reader, struct json_object *object,
		      const struct inherited *inherited, struct plan *plan)
{
	size_t end = strlen(reader->path);
	struct json_object *chips;
	uint32_t count = 0;
	int err = 0;

	if (!json_object_object_get_ex(object, "chips", &chips))
		return 0;
	if (!json_object_is_type(chips, json_type_array)) {
		if (!json_object_is_type(chips, json_type_int))
			return fail(reader, "chips",
				    "a number or a list of chips is wanted, not %s",
				    describe(chips));
		err = get_count32(reader, object, "chips", 0, PLAN_CHIPS_MAX, &count);
		if (!err && plan_add_chips(plan, count, inherited->driver, PLAN_ANY_DEVICE,
					   inherited->chip_options))
			return fail(reader, "chips", "no memory");
		return err;
	}
	for (size_t i = 0; i < json_object_array_length(chips) && !err; i++) {
		text_format(reader->path + end, sizeof(reader->path) - end, "%schips[%zu]",
			 end ? "." : "", i);
		err = read_chip(reader, json_object_array_get_idx(chips, i), inherited, plan);
	}
	reader->path[end] = '\0';
	return err;
}

static int read_options(struct reader *reader, struct json_object *object,
			struct inherited *inherited)
{
	static const char *const modes[] = { "process", "thread" };
	static const char *const providers[] = { "auto", "kernel", "futex" };
	static const char *const restarts[] = { "never", "on-death" };
	static const char *const placements[] = { "none", "topology" };
	struct dw_worker_options *worker = &inherited->worker;
	uint32_t mode = worker->mode, provider = worker->provider, restart = worker->restart;
	uint32_t placement = worker->placement;
	int err = get_word(reader, object, "mode", modes, COUNT_OF(modes), &mode);

	if (!err)
		err = get_word(reader, object, "provider", providers, COUNT_OF(providers),
			       &provider);
	if (!err)
		err = get_word(reader, object, "restart", restarts, COUNT_OF(restarts), &restart);
	if (!err)
		err = get_word(reader, object, "placement", placements, COUNT_OF(placements),
			       &placement);
	if (!err)
		err = get_count32(reader, object, "restart_limit", 1, 1 << 20,
				  &worker->restart_limit);
	if (!err)
		err = get_count32(reader, object, "mailbox_depth", 2, 1 << 15,
				  &worker->mailbox_depth);
	if (!err)
		err = get_count32(reader, object, "frame_bytes", 128, 1 << 16,
				  &worker->frame_bytes);
	if (!err)
		err = get_count(reader, object, "heap_ring_bytes", 4096, 1ull << 46,
				&worker->heap_ring_bytes);
	if (!err)
		err = get_count(reader, object, "arena_bytes", 4096, 1ull << 46,
				&worker->arena_bytes);
	if (!err)
		err = get_seconds(reader, object, "timeout", &worker->timeout_ns);
	if (!err)
		err = get_seconds(reader, object, "heap_timeout", &worker->heap_timeout_ns);
	if (!err)
		err = get_seconds(reader, object, "init_timeout", &worker->init_timeout_ns);
	if (!err)
		err = get_seconds(reader, object, "close_timeout", &worker->close_timeout_ns);
	if (!err)
		err = get_bool(reader, object, "check_declared", &worker->check_declared);
	if (!err)
		err = get_seconds(reader, object, "host_timeout", &worker->host_timeout_ns);
	if (!err)
		err = get_count(reader, object, "host_window_bytes", 1, UINT64_MAX >> 1,
				&worker->host_window_bytes);
	worker->mode = mode;
	worker->provider = provider;
	worker->restart = restart;
	worker->placement = placement;
	if (!err)
		err = get_count32(reader, object, "subs", 0, PLAN_CHILDREN_MAX, &inherited->subs);
	if (!err)
		err = get_text(reader, object, "driver", &inherited->driver);
	return err ? err : get_text(reader, object, "chip_options", &inherited->chip_options);
}

static int read_worker(struct reader *reader, struct json_object *object, uint32_t depth,
		       const struct inherited *from_above, struct plan *parent, struct plan **plan);

static int read_children(struct reader *reader, struct json_object *object, uint32_t depth,
			 const struct inherited *inherited, struct plan *plan)
{
	size_t end = strlen(reader->path);
	struct json_object *children;
	int err = 0;

	if (!json_object_object_get_ex(object, "children", &children))
		return 0;
	if (!json_object_is_type(children, json_type_array))
		return fail(reader, "children", "a list is wanted, not %s", describe(children));
	for (size_t i = 0; i < json_object_array_length(children) && !err; i++) {
		struct json_object *child = json_object_array_get_idx(children, i);
		struct plan *made = NULL;
		uint32_t count = 1;

		text_format(reader->path + end, sizeof(reader->path) - end, "%schildren[%zu]",
			 end ? "." : "", i);
		err = read_worker(reader, child, depth + 1, inherited, plan, &made);
		if (!err)
			err = get_count32(reader, child, "count", 1, PLAN_CHILDREN_MAX, &count);
		if (!err && count > 1 && made->options.name)
			err = fail(reader, "name", "%u Workers cannot have one name; leave it out",
				   count);
		for (uint32_t n = 0; n < count && !err; n++) {
			struct plan *copy = n + 1 < count ? plan_copy(made) : made;

			if (!copy || plan_add_child(plan, copy))
				err = fail(reader, "", "no memory");
			else if (copy == made)
				made = NULL;
		}
		plan_destroy(made);
	}
	reader->path[end] = '\0';
	return err;
}

static int read_worker(struct reader *reader, struct json_object *object, uint32_t depth,
		       const struct inherited *from_above, struct plan *parent, struct plan **plan)
{
	static const char *const keys[] = {
		"name", "level", "count", "subs", "chips", "driver", "chip_options", "children",
		"mode", "provider", "restart", "restart_limit", "placement", "mailbox_depth",
		"frame_bytes", "heap_ring_bytes", "arena_bytes", "timeout", "heap_timeout",
		"init_timeout",
		"close_timeout", "check_declared", "host", "host_timeout", "host_window_bytes",
	};
	struct inherited inherited = *from_above;
	uint32_t level = parent ? parent->level - 1 : 0;
	const char *name = NULL, *host = NULL;
	struct plan *made;
	int err;

	if (!json_object_is_type(object, json_type_object))
		return fail(reader, "", "an object that describes a Worker is wanted, not %s",
			    describe(object));
	if (depth >= DEPTH_MAX)
		return fail(reader, "", "levels 6 to 3 give %d Workers one below the other at most",
			    DEPTH_MAX);
	err = check_keys(reader, object, keys, COUNT_OF(keys));
	if (!err)
		err = get_count32(reader, object, "level", DW_LEVEL_NODE, DW_LEVEL_CLUSTER, &level);
	if (!err && !parent && json_object_object_get_ex(object, "count", NULL))
		err = fail(reader, "count", "there is one root");
	if (!err && !level)
		err = fail(reader, "level", "the root needs one, 3 … 6");
	if (!err && parent && level >= parent->level)
		err = fail(reader, "level", "%u is not below the %u of the Worker above", level,
			   parent->level);
	if (!err && level < DW_LEVEL_NODE)
		err = fail(reader, "", "there is no Worker below level %d", DW_LEVEL_NODE);
	if (!err)
		err = get_text(reader, object, "name", &name);
	if (!err && name && (!*name || strchr(name, '/') || strlen(name) > NAME_BYTES_MOST))
		err = fail(reader, "name",
			   "\"%s\" is empty, has a slash or is longer than %d bytes",
			   text_short(name), NAME_BYTES_MOST);
	if (!err)
		err = get_text(reader, object, "host", &host);
	if (!err && host && !parent)
		err = fail(reader, "host", "the root is on this host");
	if (!err)
		err = read_options(reader, object, &inherited);
	if (err)
		return err;
	made = plan_create(level, &inherited.worker);
	if (!made)
		return fail(reader, "", "no memory");
	made->options.subs = inherited.subs;
	made->options.name = name ? strdup(name) : NULL;
	made->options.host = host ? strdup(host) : NULL;
	if ((name && !made->options.name) || (host && !made->options.host))
		err = fail(reader, "", "no memory");
	if (!err)
		err = read_chips(reader, object, &inherited, made);
	if (!err)
		err = read_children(reader, object, depth, &inherited, made);
	if (err)
		plan_destroy(made);
	else
		*plan = made;
	return err;
}

/* ---------------------------------------------------------------------- file */

static int read_text(struct reader *reader, char **content, size_t *length)
{
	FILE *file = fopen(reader->file, "re");
	char *text = file ? malloc(FILE_BYTES_MAX + 1) : NULL;
	int err = 0;

	if (!file)
		return fail(reader, "", "%s", strerror(errno));
	errno = 0;
	*length = text ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
	if (!text || ferror(file))
		err = fail(reader, "", "%s", strerror(text ? errno : ENOMEM));
	else if (*length > FILE_BYTES_MAX)
		err = fail(reader, "", "longer than %d bytes", FILE_BYTES_MAX);
	fclose(file);
	if (err)
		free(text);
	else
		*content = text;
	return err;
}

static int parse(struct reader *reader, const char *text, size_t length, struct json_object **root)
{
	struct json_tokener *tokener = json_tokener_new();
	enum json_tokener_error error;
	size_t at;
	int err = 0;

	if (!tokener)
		return fail(reader, "", "no memory");
	if (length >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2))) {
		json_tokener_free(tokener);
		return fail(reader, "", "it is UTF-16; UTF-8 is wanted");
	}
	/* Editors of another system begin a UTF-8 file with a byte order mark. */
	if (length >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		text += 3;
		length -= 3;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	*root = json_tokener_parse_ex(tokener, text, (int)length);
	error = json_tokener_get_error(tokener);
	at = json_tokener_get_parse_end(tokener);
	if (error == json_tokener_success)
		at += strspn(text + at, " \t\r\n");
	if (error != json_tokener_success || at < length) {
		unsigned int line = 1, column = 1;

		for (size_t i = 0; i < at && i < length; i++) {
			column = text[i] == '\n' ? 1 : column + 1;
			line += text[i] == '\n';
		}
		err = fail(reader, "", "line %u, column %u: %s", line, column,
			   error == json_tokener_continue ? "the file ends too early" :
			   error == json_tokener_success ? "something stands behind the end" :
			   json_tokener_error_desc(error));
		json_object_put(*root);
	}
	json_tokener_free(tokener);
	return err;
}

int plan_from_file(const char *path, const struct plan_options *defaults, struct plan **plan,
		   char *text, size_t bytes)
{
	struct reader reader = { .file = path, .text = text, .bytes = bytes };
	struct inherited inherited = {
		.driver = defaults->driver, .chip_options = defaults->chip_options,
		.worker = defaults->worker, .subs = 0,
	};
	struct json_object *root = NULL;
	char *content = NULL;
	size_t length = 0;
	int err = read_text(&reader, &content, &length);

	if (err)
		return err;
	content[length] = '\0';
	err = parse(&reader, content, length, &root);
	free(content);
	if (err)
		return err;
	err = read_worker(&reader, root, 0, &inherited, NULL, plan);
	json_object_put(root);
	if (!err && plan_name(*plan, 0)) {
		plan_destroy(*plan);
		err = fail(&reader, "", "no memory");
	}
	return err;
}
