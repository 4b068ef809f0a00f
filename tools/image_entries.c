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
#include "base/text.h"
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

/* The dynamic symbols with their names; false: the section is not one of them, or damaged. */
struct symbols {
	const Elf64_Sym *table;
	uint64_t count;
	const char *names;
	uint64_t name_bytes;
};

static bool symbols_of(const struct file *file, const Elf64_Shdr *home, struct symbols *symbols)
{
	const Elf64_Shdr *names;

	if (!home || home->sh_type != SHT_DYNSYM)
		return false;
	names = section(file, home->sh_link);
	symbols->count = home->sh_size / sizeof(Elf64_Sym);
	symbols->table = at(file, home->sh_offset, symbols->count * sizeof(Elf64_Sym),
			    _Alignof(Elf64_Sym));
	symbols->names = names ? at(file, names->sh_offset, names->sh_size, 1) : NULL;
	symbols->name_bytes = names ? names->sh_size : 0;
	return symbols->table && symbols->names && symbols->name_bytes &&
	       !symbols->names[symbols->name_bytes - 1];
}

static const char *name_of(const struct symbols *symbols, uint64_t i)
{
	return symbols->table[i].st_name < symbols->name_bytes ?
	       symbols->names + symbols->table[i].st_name : "";
}

/* The name of the entry that symbol i describes, or NULL. */
static const char *described(const struct symbols *symbols, uint64_t i)
{
	const char *name = name_of(symbols, i);

	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 &&
	       symbols->table[i].st_shndx != SHN_UNDEF ? name + strlen(PREFIX) : NULL;
}

static bool exports(const struct symbols *symbols, const char *name)
{
	for (uint64_t i = 0; i < symbols->count; i++)
		if (symbols->table[i].st_shndx != SHN_UNDEF &&
		    strcmp(name_of(symbols, i), name) == 0)
			return true;
	return false;
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

/* 0: the file is mapped and begins as a 64-bit ELF object does. */
static int file_open(const char *path, struct file *file)
{
	const Elf64_Ehdr *head;
	struct stat stat;
	int result = 0, fd = open(path, O_RDONLY | O_CLOEXEC);

	file->data = MAP_FAILED;
	if (fd < 0 || fstat(fd, &stat) < 0) {
		result = -errno;
		goto out;
	}
	file->bytes = (uint64_t)stat.st_size;
	file->data = mmap(NULL, file->bytes ? file->bytes : 1, PROT_READ, MAP_PRIVATE, fd, 0);
	if (file->data == MAP_FAILED) {
		result = -errno;
		goto out;
	}
	head = at(file, 0, sizeof(*head), 1);
	if (!head || memcmp(head->e_ident, ELFMAG, SELFMAG) ||
	    head->e_ident[EI_CLASS] != ELFCLASS64) {
		munmap((void *)(uintptr_t)file->data, file->bytes);
		result = -ENOEXEC;
	}
out:
	if (fd >= 0)
		close(fd);
	return result;
}

static unsigned int section_count(const struct file *file)
{
	return ((const Elf64_Ehdr *)file->data)->e_shnum;
}

int image_sim_entries(const char *path)
{
	struct symbols symbols;
	struct file file;
	bool any = false;
	int result = file_open(path, &file);

	if (result < 0)
		return result;
	printf("%s: %llu bytes\n", path, (unsigned long long)file.bytes);
	for (unsigned int i = 0; i < section_count(&file); i++) {
		if (!symbols_of(&file, section(&file, i), &symbols))
			continue;
		for (uint64_t k = 0; k < symbols.count; k++) {
			const char *name = described(&symbols, k);

			if (!name)
				continue;
			print_entry(&file, &symbols.table[k], name);
			any = true;
		}
	}
	if (!any)
		printf("  describes no entry (DW_SIM_KERNEL, DW_SIM_ORCHESTRATION): give a "
		       "signature at registration\n");
	munmap((void *)(uintptr_t)file.data, file.bytes);
	return 0;
}

bool image_sim_lacks(const char *path, char *entry, size_t bytes)
{
	struct symbols symbols;
	struct file file;
	bool lacks = false;

	if (file_open(path, &file) < 0)
		return false;
	for (unsigned int i = 0; i < section_count(&file) && !lacks; i++) {
		if (!symbols_of(&file, section(&file, i), &symbols))
			continue;
		for (uint64_t k = 0; k < symbols.count && !lacks; k++) {
			const char *name = described(&symbols, k);

			lacks = name && !exports(&symbols, name);
			if (lacks)
				text_copy(entry, bytes, name);
		}
	}
	munmap((void *)(uintptr_t)file.data, file.bytes);
	return lacks;
}
