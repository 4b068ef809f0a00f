/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * base/text.h: texts that do not fit, cut at every place of every kind of character; lists of
 * strings that grow.
 */
#include "base/strings.h"
#include "base/text.h"
#include "unit.h"

static const char *const characters[] = { "a", "ä", "€", "😀" };

/* Keeps whole characters of one kind, as many as fit, and marks a cut with "…". */
static bool is_cut(const char *text, const char *character, size_t space, size_t longer)
{
	size_t bytes = strlen(character), used = 0;

	while (strncmp(text + used, character, bytes) == 0)
		used += bytes;
	return strcmp(text + used, TEXT_ELLIPSIS) == 0 && used + TEXT_ELLIPSIS_BYTES < space &&
	       used + bytes + TEXT_ELLIPSIS_BYTES >= space && used < longer;
}

TEST(texts_are_cut_between_characters_and_say_so)
{
	char from[400], to[128];

	for (unsigned kind = 0; kind < 4; kind++) {
		size_t bytes = strlen(characters[kind]);

		for (size_t count = 1; count * bytes < 300; count++) {
			from[0] = '\0';
			for (size_t i = 0; i < count; i++)
				strcat(from, characters[kind]);
			for (size_t space = 8; space <= sizeof(to); space++) {
				memset(to, '#', sizeof(to));
				text_copy(to, space, from);
				CHECK(count * bytes < space ? strcmp(to, from) == 0 :
				      is_cut(to, characters[kind], space, count * bytes));
				memset(to, '#', sizeof(to));
				CHECK_EQ(text_format(to, space, "%s", from), count * bytes);
				CHECK(count * bytes < space ? strcmp(to, from) == 0 :
				      is_cut(to, characters[kind], space, count * bytes));
				/* Nothing behind its end. */
				CHECK(space == sizeof(to) || to[space] == '#');
			}
		}
	}
}

TEST(texts_without_room_for_dots_are_cut_between_characters)
{
	char to[8];

	for (size_t space = 1; space <= 3; space++) {
		memset(to, '#', sizeof(to));
		text_copy(to, space, "ää");
		CHECK(strcmp(to, space == 3 ? "ä" : "") == 0);
		CHECK(to[space] == '#');
		text_fit(to, space, "ää");
		CHECK(strcmp(to, space == 3 ? "ä" : "") == 0);
	}
	text_copy(to, 4, "ää");
	CHECK(strcmp(to, "…") == 0);
	CHECK_EQ(text_format(NULL, 0, "%s", "ää"), 4);
}

/* Bytes that are no UTF-8 are cut, too, and nothing before them is lost. */
TEST(texts_that_are_no_characters_are_cut)
{
	static const char *const broken[] = { "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
					      "aaaaaa\xff\xff\xff\xff\xff" };
	char to[10];

	for (unsigned i = 0; i < 2; i++) {
		text_copy(to, sizeof(to), broken[i]);
		CHECK_EQ(strlen(to), sizeof(to) - 1);
		CHECK(memcmp(to, broken[i], 6) == 0);
		CHECK(strcmp(to + 6, TEXT_ELLIPSIS) == 0);
	}
}

TEST(names_are_shortened_in_the_middle)
{
	char name[600], other[600], to[128], room[128];

	for (unsigned kind = 0; kind < 4; kind++) {
		for (size_t count = 1; count < 120; count++) {
			strcpy(name, "n");
			for (size_t i = 0; i < count; i++)
				strcat(name, characters[kind]);
			strcpy(other, name);
			strcat(name, "1");
			strcat(other, "2");
			for (size_t space = 12; space <= sizeof(to); space++) {
				text_fit(to, space, name);
				CHECK(strlen(to) < space);
				CHECK(to[0] == 'n' && to[strlen(to) - 1] == '1');
				CHECK(text_border(to, strlen(to)) == strlen(to));
				CHECK((strlen(name) < space) == (strcmp(to, name) == 0));
				CHECK(strcmp(to, text_fit(room, space, other)) != 0);
			}
			CHECK_EQ(strcmp(text_short(name), text_short(other)) == 0, 0);
			CHECK(strlen(text_short(name)) < TEXT_SHORT_BYTES);
		}
	}
	CHECK(strcmp(text_short(NULL), "") == 0);
	CHECK(strcmp(text_limited("aäb", 4), "aäb") == 0);
	CHECK(strcmp(text_limited("aäbcd", 4), "a…") == 0);
}

TEST(lists_of_strings_have_each_once_and_no_limit)
{
	struct strings list = { 0 };
	char text[16];

	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 1000; i < 2000; i++) {
			snprintf(text, sizeof(text), "s%u", 2999 - i);
			CHECK_EQ(strings_add(&list, text, strlen(text)), 0);
		}
	CHECK_EQ(list.count, 1000);
	/* A prefix of another string is a different string. */
	CHECK_EQ(strings_add(&list, "s1000", 3), 0);
	CHECK_EQ(list.count, 1001);
	strings_sort(&list);
	CHECK(strcmp(list.items[0], "s10") == 0 && strcmp(list.items[1], "s1000") == 0 &&
	      strcmp(list.items[1000], "s1999") == 0);
	strings_release(&list);
	CHECK_EQ(list.count, 0);
}
