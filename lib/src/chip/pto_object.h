/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * The dynamic symbols of an ELF object in memory, as the loader of a chip or of its simulator
 * looks them up. Every offset is checked, since objects come from files. Inline, for the image
 * builder and the driver. No state, any thread.
 */
#ifndef DW_CHIP_PTO_OBJECT_H
#define DW_CHIP_PTO_OBJECT_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct pto_symbols {
	const unsigned char *table;	/* Elf64_Sym, perhaps not aligned */
	uint64_t count;
	const char *strings;
	uint64_t string_bytes;
};

static inline bool pto_object_has(uint64_t bytes, uint64_t offset, uint64_t size)
{
	return offset <= bytes && size <= bytes - offset;
}

static inline bool pto_object_is_elf(const void *data, size_t bytes)
{
	return bytes >= SELFMAG && memcmp(data, ELFMAG, SELFMAG) == 0;
}

/* False: it is no 64-bit little-endian ELF object, or has no table of dynamic symbols. */
static inline bool pto_object_symbols(const void *data, size_t bytes, struct pto_symbols *symbols)
{
	const unsigned char *base = data;
	Elf64_Shdr section, strings;
	Elf64_Ehdr header;

	if (bytes < sizeof(header) || !pto_object_is_elf(data, bytes))
		return false;
	memcpy(&header, data, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    header.e_shentsize != sizeof(section) ||
	    !pto_object_has(bytes, header.e_shoff, header.e_shnum * (uint64_t)sizeof(section)))
		return false;
	for (unsigned int i = 0; i < header.e_shnum; i++) {
		memcpy(&section, base + header.e_shoff + i * sizeof(section), sizeof(section));
		if (section.sh_type != SHT_DYNSYM)
			continue;
		if (section.sh_link >= header.e_shnum ||
		    !pto_object_has(bytes, section.sh_offset, section.sh_size))
			return false;
		memcpy(&strings, base + header.e_shoff + section.sh_link * sizeof(strings),
		       sizeof(strings));
		if (!pto_object_has(bytes, strings.sh_offset, strings.sh_size))
			return false;
		symbols->table = base + section.sh_offset;
		symbols->count = section.sh_size / sizeof(Elf64_Sym);
		symbols->strings = (const char *)base + strings.sh_offset;
		symbols->string_bytes = strings.sh_size;
		return true;
	}
	return false;
}

/* Returns the name of symbol i if other objects can use it, else NULL. */
static inline const char *pto_symbol_name(const struct pto_symbols *symbols, uint64_t i)
{
	Elf64_Sym symbol;
	unsigned int bind;

	memcpy(&symbol, symbols->table + i * sizeof(symbol), sizeof(symbol));
	bind = ELF64_ST_BIND(symbol.st_info);
	if (symbol.st_shndx == SHN_UNDEF || (bind != STB_GLOBAL && bind != STB_WEAK) ||
	    symbol.st_name >= symbols->string_bytes ||
	    !memchr(symbols->strings + symbol.st_name, '\0',
		    symbols->string_bytes - symbol.st_name))
		return NULL;
	return symbols->strings + symbol.st_name;
}

static inline bool pto_symbols_have(const struct pto_symbols *symbols, const char *name)
{
	for (uint64_t i = 0; i < symbols->count; i++) {
		const char *have = pto_symbol_name(symbols, i);

		if (have && strcmp(have, name) == 0)
			return true;
	}
	return false;
}

static inline bool pto_object_exports(const void *data, size_t bytes, const char *name)
{
	struct pto_symbols symbols;

	return pto_object_symbols(data, bytes, &symbols) && pto_symbols_have(&symbols, name);
}

/* Writes as many of the exported names as fit, "a, b, c", or "nothing". Returns `to`. */
static inline const char *pto_symbols_list(const struct pto_symbols *symbols, char *to,
					   size_t space)
{
	size_t used = 0;

	snprintf(to, space, "nothing");
	for (uint64_t i = 0; i < symbols->count; i++) {
		const char *name = pto_symbol_name(symbols, i);
		size_t length = name ? strlen(name) : 0;

		if (!length)
			continue;
		if (used + length + sizeof(", …") + 2 > space) {
			snprintf(to + used, space - used, "%s…", used ? ", " : "");
			break;
		}
		used += (size_t)snprintf(to + used, space - used, "%s%s", used ? ", " : "", name);
	}
	return to;
}

#endif
