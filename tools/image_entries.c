// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The entries that a sim image describes (DW_SIM_KERNEL, DW_SIM_ORCHESTRATION): read from the
 * file, since loading it would run code of it here. 64-bit ELF of this machine's byte order.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <distworker/sim.h>
#include "image.h"

#define PREFIX "dw_sim_entry_"

struct file {
	const char *data;
	uint64_t bytes;
};

/* NULL: not in the file, or not where something of this alignment can lie. */
static const void *at(const struct file *file, uint64_t offset, uint64_t bytes, size_t alignment)
{
	return offset <= file->bytes && bytes <= file->bytes - offset && offset % alignment == 0 ?
	       file->data + offset : NULL;
}

static const Elf64_Shdr *section(const struct file *file, unsigned int index)
{
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)file->data;

	if (index >= head->e_shnum || head->e_shentsize != sizeof(Elf64_Shdr))
		return NULL;
	return at(file, head->e_shoff + (uint64_t)index * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr),
		  _Alignof(Elf64_Shdr));
}

static void print_entry(const struct file *file, const Elf64_Sym *symbol, const char *name)
{
	const Elf64_Shdr *home = section(file, symbol->st_shndx);
	const struct dw_sim_entry *entry;

	if (!home || symbol->st_value < home->sh_addr)
		return;
	entry = at(file, home->sh_offset + (symbol->st_value - home->sh_addr), sizeof(*entry),
		   _Alignof(struct dw_sim_entry));
	if (!entry)
		return;
	printf("  %-13s %s, %u argument%s\n",
	       entry->kind == DW_SIM_ENTRY_ORCHESTRATION ? "orchestration" : "kernel", name,
	       entry->signature_count, entry->signature_count == 1 ? "" : "s");
}

/* Whether there was one. */
static bool print_entries(const struct file *file, const Elf64_Shdr *symbols)
{
	const Elf64_Shdr *names = section(file, symbols->sh_link);
	uint64_t count = symbols->sh_size / sizeof(Elf64_Sym);
	const Elf64_Sym *table = at(file, symbols->sh_offset, count * sizeof(*table),
				    _Alignof(Elf64_Sym));
	const char *text = names ? at(file, names->sh_offset, names->sh_size, 1) : NULL;
	bool any = false;

	if (!table || !text || !names->sh_size || text[names->sh_size - 1])
		return false;
	for (uint64_t i = 0; i < count; i++) {
		const char *name = table[i].st_name < names->sh_size ? text + table[i].st_name : "";

		if (strncmp(name, PREFIX, strlen(PREFIX)) || table[i].st_shndx == SHN_UNDEF)
			continue;
		print_entry(file, &table[i], name + strlen(PREFIX));
		any = true;
	}
	return any;
}

int image_sim_entries(const char *path)
{
	struct file file = { 0 };
	const Elf64_Ehdr *head;
	struct stat stat;
	bool any = false;
	int result = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &stat) < 0) {
		result = -errno;
		goto out;
	}
	file.bytes = (uint64_t)stat.st_size;
	file.data = mmap(NULL, file.bytes ? file.bytes : 1, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file.data == MAP_FAILED) {
		result = -errno;
		goto out;
	}
	head = at(&file, 0, sizeof(*head), 1);
	if (head && !memcmp(head->e_ident, ELFMAG, SELFMAG) &&
	    head->e_ident[EI_CLASS] == ELFCLASS64) {
		printf("%s: %llu bytes\n", path, (unsigned long long)file.bytes);
		for (unsigned int i = 0; i < head->e_shnum; i++) {
			const Elf64_Shdr *symbols = section(&file, i);

			if (symbols && symbols->sh_type == SHT_DYNSYM)
				any = print_entries(&file, symbols) || any;
		}
		if (!any)
			printf("  describes no entry (DW_SIM_KERNEL, DW_SIM_ORCHESTRATION): give a "
			       "signature at registration\n");
	} else {
		result = -ENOEXEC;
	}
	munmap((void *)(uintptr_t)file.data, file.bytes);
out:
	if (fd >= 0)
		close(fd);
	return result;
}
