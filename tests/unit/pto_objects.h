/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Objects for images of the pto driver, made in memory: an ELF head whose dynamic symbols are the
 * given names, and a pattern behind it. The stand-in runtimes make the same ones, to compare.
 */
#ifndef TESTS_UNIT_PTO_OBJECTS_H
#define TESTS_UNIT_PTO_OBJECTS_H

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PTO_OBJECT_HEAD 512	/* no object is smaller */

/*
 * An object of `bytes` bytes; malloc'ed. `names`: "orchestrate configure", at most 128 bytes.
 * Behind the head byte i is (seed + i) mod 251.
 */
static inline unsigned char *pto_object_make(const char *names, size_t bytes, unsigned int seed)
{
	unsigned char *object = calloc(1, bytes < PTO_OBJECT_HEAD ? PTO_OBJECT_HEAD : bytes);
	Elf64_Sym symbols[4] = { { .st_name = 0 } };
	Elf64_Shdr sections[3] = { { .sh_type = SHT_NULL } };
	char strings[132] = "";
	unsigned int count = 1, end = 1;
	Elf64_Ehdr head = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_DYN, .e_machine = EM_X86_64, .e_version = EV_CURRENT,
		.e_ehsize = sizeof(head), .e_shentsize = sizeof(sections[0]), .e_shnum = 3,
		.e_shoff = sizeof(head) + sizeof(symbols),
	};

	while (*names && count < 4) {
		size_t length = strcspn(names, " ");

		memcpy(strings + end, names, length);
		symbols[count].st_name = end;
		symbols[count].st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
		symbols[count++].st_shndx = 1;
		end += (unsigned int)length + 1;
		names += length + (names[length] == ' ');
	}
	sections[1] = (Elf64_Shdr){
		.sh_type = SHT_DYNSYM, .sh_offset = sizeof(head), .sh_link = 2,
		.sh_size = count * sizeof(symbols[0]), .sh_entsize = sizeof(symbols[0]),
	};
	sections[2] = (Elf64_Shdr){
		.sh_type = SHT_STRTAB, .sh_size = end,
		.sh_offset = sizeof(head) + sizeof(symbols) + sizeof(sections),
	};
	memcpy(object, &head, sizeof(head));
	memcpy(object + sizeof(head), symbols, sizeof(symbols));
	memcpy(object + head.e_shoff, sections, sizeof(sections));
	memcpy(object + sections[2].sh_offset, strings, end);
	for (size_t i = PTO_OBJECT_HEAD; i < bytes; i++)
		object[i] = (unsigned char)((seed + i) % 251);
	return object;
}

/* Is this the object of `pto_object_make`? */
static inline int pto_object_is(const void *object, const char *names, size_t bytes,
				unsigned int seed)
{
	unsigned char *wanted = pto_object_make(names, bytes, seed);
	int same = memcmp(object, wanted, bytes) == 0;

	free(wanted);
	return same;
}

#endif
