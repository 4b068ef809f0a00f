/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Callables that are symbols of shared objects: checked without loading them
 * (in the parent), loaded on first use (in the child that runs them), refused there
 * when the file is no longer the one that was registered.
 * Identity: the build-id note if there is one, else the CRC-32 and size of the file.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include "base/fd.h"
#include "base/library.h"
#include "base/text.h"
#include "callable/symbol.h"
#include "task/error.h"

#define IDENTITY_BYTES 32

static bool build_id(Elf *elf, uint8_t identity[IDENTITY_BYTES])
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data;
		GElf_Nhdr note;
		size_t offset = 0, name, descriptor;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_NOTE)
			continue;
		data = elf_getdata(section, NULL);
		while (data &&
		       (offset = gelf_getnote(data, offset, &note, &name, &descriptor)) > 0) {
			if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != 4 ||
			    memcmp((char *)data->d_buf + name, "GNU", 4) != 0)
				continue;
			memcpy(identity, (char *)data->d_buf + descriptor,
			       note.n_descsz < IDENTITY_BYTES ? note.n_descsz : IDENTITY_BYTES);
			return true;
		}
	}
	return false;
}

static void content_id(int fd, const struct stat *stat, uint8_t identity[IDENTITY_BYTES])
{
	uint64_t size = (uint64_t)stat->st_size;
	uint32_t crc = (uint32_t)crc32(0, NULL, 0);
	void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (map != MAP_FAILED) {
		crc = (uint32_t)crc32_z(crc, map, size);
		munmap(map, size);
	}
	memcpy(identity, &size, sizeof(size));
	memcpy(identity + sizeof(size), &crc, sizeof(crc));
}

static bool defines(Elf *elf, const char *symbol)
{
	Elf_Scn *section = NULL;
	GElf_Shdr header;

	while ((section = elf_nextscn(elf, section))) {
		Elf_Data *data;
		GElf_Sym entry;
		const char *name;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_DYNSYM)
			continue;
		data = elf_getdata(section, NULL);
		for (int i = 0; data && gelf_getsym(data, i, &entry); i++) {
			name = elf_strptr(elf, header.sh_link, entry.st_name);
			if (name && entry.st_shndx != SHN_UNDEF && strcmp(name, symbol) == 0)
				return true;
		}
	}
	return false;
}

/* Fills `identity`; returns the open file that it belongs to, or -errno. */
static int identify(const char *path, const char *symbol, uint8_t identity[IDENTITY_BYTES])
{
	struct stat stat;
	int result = 0;
	char byte;
	Elf *elf;
	int fd;

	memset(identity, 0, IDENTITY_BYTES);
	fd = fd_move_up(open(path, O_RDONLY | O_CLOEXEC));
	if (fd < 0 || fstat(fd, &stat) < 0) {
		result = error_set(-errno, "shared object %s: %s%s", text_short(path),
				   strerror(errno), error_hint(errno));
		if (fd >= 0)
			close(fd);
		return result;
	}
	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf && pread(fd, &byte, 1, 0) < 0)
		result = error_set(-errno, "shared object %s cannot be read: %s", text_short(path),
				   strerror(errno));
	else if (!elf || elf_kind(elf) != ELF_K_ELF)
		result = error_set(-ELIBBAD, "%s is no ELF shared object", text_short(path));
	else if (symbol && !defines(elf, symbol))
		result = error_set(-ESRCH, "%s defines no symbol \"%s\"", text_short(path),
				   text_short(symbol));
	else if (!build_id(elf, identity))
		content_id(fd, &stat, identity);
	elf_end(elf);
	if (result < 0) {
		close(fd);
		return result;
	}
	return fd;
}

int symbol_identify(const char *path, const char *symbol, uint8_t identity[IDENTITY_BYTES])
{
	int fd = identify(path, symbol, identity);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

struct at_address {
	uintptr_t address;
	uint8_t *identity;
};

static bool has_address(const struct dl_phdr_info *object, uintptr_t address)
{
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &object->dlpi_phdr[i];

		if (part->p_type == PT_LOAD &&
		    address - (object->dlpi_addr + part->p_vaddr) < part->p_memsz)
			return true;
	}
	return false;
}

static void read_notes(const unsigned char *at, size_t left, uint8_t *identity)
{
	while (left >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *note = (const void *)at;
		size_t name = (note->n_namesz + 3u) & ~(size_t)3;
		size_t whole = sizeof(*note) + name + ((note->n_descsz + 3u) & ~(size_t)3);

		if (whole > left)
			return;
		if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
		    memcmp(at + sizeof(*note), "GNU", 4) == 0)
			memcpy(identity, at + sizeof(*note) + name,
			       note->n_descsz < IDENTITY_BYTES ? note->n_descsz : IDENTITY_BYTES);
		at += whole;
		left -= whole;
	}
}

static int visit_object(struct dl_phdr_info *object, size_t bytes, void *context)
{
	struct at_address *wanted = context;

	(void)bytes;
	if (!has_address(object, wanted->address))
		return 0;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &object->dlpi_phdr[i];

		if (part->p_type == PT_NOTE)
			read_notes((const void *)(object->dlpi_addr + part->p_vaddr),
				   part->p_memsz, wanted->identity);
	}
	return 1;
}

void symbol_identify_address(const void *address, uint8_t identity[IDENTITY_BYTES])
{
	struct at_address wanted = { (uintptr_t)address, identity };

	memset(identity, 0, IDENTITY_BYTES);
	dl_iterate_phdr(visit_object, &wanted);
}

/* Objects that this process has loaded; they stay. */
struct loaded {
	struct loaded *next;
	uint8_t identity[IDENTITY_BYTES];
	void *handle;
};
static struct loaded *loaded_objects;
static pthread_mutex_t loaded_lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_loaded(const void *handle)
{
	const struct loaded *object = loaded_objects;

	while (object && object->handle != handle)
		object = object->next;
	return object;
}

/*
 * The dynamic linker knows objects by name: under the path of a file that was replaced it gives the
 * old object again. Then the name is that of the descriptor, which is never closed, so that the
 * name never refers to another file.
 */
static int open_object(const char *path, int *fd, void **handle)
{
	char name[32], why[LIBRARY_WHY_BYTES];

	*handle = library_open(path, RTLD_NOW | RTLD_LOCAL, why);
	if (!*handle)
		return error_set(-ELIBACC, "cannot load %s: %s", text_short(path), why);
	if (!is_loaded(*handle))
		return 0;
	dlclose(*handle);
	snprintf(name, sizeof(name), "/proc/self/fd/%d", *fd);
	*handle = library_open(name, RTLD_NOW | RTLD_LOCAL, why);
	if (!*handle)
		return error_set(-ELIBACC, "cannot load %s again, as %s%s: %s", text_short(path),
				 name, access(name, F_OK) < 0 ? " (is /proc mounted?)" : "", why);
	*fd = -1;
	return 0;
}

static int load_object(const struct callable *callable, struct loaded *object)
{
	int result = 0, fd = identify(callable->path, NULL, object->identity);

	if (fd < 0)
		return fd;
	if (memcmp(object->identity, callable->identity, IDENTITY_BYTES) != 0) {
		result = error_set(-ESTALE,
				   "%s has changed since \"%s\" was registered; "
				   "unregister that, and register it again",
				   text_short(callable->path), text_short(callable->symbol));
	} else {
		result = open_object(callable->path, &fd, &object->handle);
	}
	if (fd >= 0)
		close(fd);
	return result;
}

static int load(const struct callable *callable, void **handle)
{
	struct loaded *object = loaded_objects;
	int result;

	while (object && memcmp(object->identity, callable->identity, IDENTITY_BYTES) != 0)
		object = object->next;
	if (!object) {
		object = calloc(1, sizeof(*object));
		if (!object)
			return error_set(-ENOMEM, "no memory to load %s",
					 text_short(callable->path));
		result = load_object(callable, object);
		if (result < 0) {
			free(object);
			return result;
		}
		object->next = loaded_objects;
		loaded_objects = object;
	}
	*handle = object->handle;
	return 0;
}

void symbol_lock(void)
{
	pthread_mutex_lock(&loaded_lock);
}

void symbol_unlock(void)
{
	pthread_mutex_unlock(&loaded_lock);
}

int symbol_resolve(struct callable *callable, void **address)
{
	void *handle = NULL;
	int result;

	/* Pairs with the release below: the object's relocations are visible to this thread too. */
	*address = atomic_load_explicit(&callable->resolved, memory_order_acquire);
	if (*address)
		return 0;
	pthread_mutex_lock(&loaded_lock);
	result = load(callable, &handle);
	if (result == 0) {
		*address = dlsym(handle, callable->symbol);
		if (!*address)
			result =
				error_set(-ESRCH, "%s defines no symbol \"%s\"",
					  text_short(callable->path), text_short(callable->symbol));
		atomic_store_explicit(&callable->resolved, *address, memory_order_release);
	}
	pthread_mutex_unlock(&loaded_lock);
	return result;
}
