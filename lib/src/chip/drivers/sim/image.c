/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Images: ELF shared objects that come as bytes. They are written to a memfd, read
 * with libelf before the dynamic linker sees them, and loaded from /proc/self/fd.
 *
 * The memfd stays open as long as the object is mapped: the dynamic linker knows objects
 * by name, and a reused descriptor number would give it the old object again.
 */
#include <stddef.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <libelf.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "internal.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#define MACHINE_NAME "x86-64"
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#define MACHINE_NAME "aarch64"
#elif defined(__riscv)
#define MACHINE EM_RISCV
#define MACHINE_NAME "riscv"
#elif defined(__powerpc64__)
#define MACHINE EM_PPC64
#define MACHINE_NAME "ppc64"
#elif defined(__s390x__)
#define MACHINE EM_S390
#define MACHINE_NAME "s390x"
#else
#define MACHINE EM_NONE
#define MACHINE_NAME "this machine"
#endif
#define CLASS (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32)
#define DATA (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB)

/*
 * An image's own functions take precedence over functions of the same name in the process (the C
 * library exports a "step"). The sanitizers' run-time libraries do not support this.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(RTLD_DEEPBIND)
#define OWN_FIRST 0
#else
#define OWN_FIRST RTLD_DEEPBIND
#endif

#define ENTRY_PREFIX "dw_sim_entry_"

static const char *image_name(const struct dw_chip_image_spec *spec)
{
	return spec->name && spec->name[0] ? spec->name : "sim image";
}

static int memfd_fill(const struct dw_chip_image_spec *spec, struct dw_chip_error *error)
{
	int fd = fd_move_up(memfd_create("distworker-sim-image", MFD_CLOEXEC));
	int code;

	if (fd < 0) {
		code = -errno;
		return kit_fail(error, code, "%s: no memfd for the image: %s",
				text_short(image_name(spec)), strerror(-code));
	}
	code = file_write(fd, spec->data, spec->bytes, NULL);
	if (code < 0) {
		close(fd);
		return kit_fail(error, code, "%s: cannot keep %zu bytes of image: %s%s",
				text_short(image_name(spec)), spec->bytes, strerror(-code),
				code == -EFBIG ? " (the limit of the size of files: ulimit -f)" :
						 "");
	}
	return fd;
}

static int elf_check(Elf *elf, const struct dw_chip_image_spec *spec, struct dw_chip_error *error)
{
	const char *name = image_name(spec);
	size_t headers = 0;
	GElf_Ehdr header;

	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header))
		return kit_fail(
			error, -ELIBBAD,
			"%s is no ELF object (%zu bytes): compile it with cc -shared -fPIC, or "
			"`distworker image sim`",
			name, spec->bytes);
	if (header.e_ident[EI_CLASS] != CLASS || header.e_ident[EI_DATA] != DATA ||
	    header.e_machine != MACHINE)
		return kit_fail(error, -ELIBBAD,
				"%s is for ELF machine %u, %u-bit: " MACHINE_NAME " (%u) is wanted",
				name, header.e_machine,
				header.e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32, MACHINE);
	if (header.e_type != ET_DYN)
		return kit_fail(error, -ELIBBAD,
				"%s is an ELF %s: a shared object is wanted (cc -shared -fPIC)",
				name,
				header.e_type == ET_REL	 ? "relocatable object" :
				header.e_type == ET_EXEC ? "executable" :
							   "file of another kind");
	if (elf_getphdrnum(elf, &headers) < 0 || headers == 0)
		return kit_fail(
			error, -ELIBBAD,
			"%s has no program headers in its %zu bytes: it is cut short, or not "
			"linked",
			name, spec->bytes);
	for (size_t i = 0; i < headers; i++) {
		GElf_Phdr part;

		if (!gelf_getphdr(elf, (int)i, &part))
			return kit_fail(error, -ELIBBAD,
					"%s: program header %zu cannot be read: %s", name, i,
					elf_errmsg(-1));
		/* A page that the linker maps beyond the end of the file is a SIGBUS later. */
		if (part.p_type == PT_LOAD &&
		    (part.p_filesz > spec->bytes || part.p_offset > spec->bytes - part.p_filesz))
			return kit_fail(
				error, -ELIBBAD,
				"%s is cut short: segment %zu ends at byte %llu, the image has %zu",
				name, i, (unsigned long long)part.p_offset + part.p_filesz,
				spec->bytes);
	}
	return 0;
}

/* Writes as many whole names as fit, and a mark if there are more. */
static void list_add(char *list, size_t bytes, const char *name)
{
	static const char more[] = ", …";
	size_t used = strlen(list);

	if (used >= sizeof(more) - 1 && strcmp(list + used - (sizeof(more) - 1), more) == 0)
		return;
	if (used + 2 + strlen(name) + sizeof(more) <= bytes)
		text_format(list + used, bytes - used, "%s%s", used ? ", " : "", name);
	else
		strcpy(list + used, more);
}

/*
 * Looks for the function `entry` among those that the object exports, and writes
 * them into `list` for the message. True if it is there.
 */
static bool elf_exports(Elf *elf, const char *entry, char *list, size_t bytes)
{
	Elf_Scn *section = NULL;
	bool found = false;

	list[0] = '\0';
	while ((section = elf_nextscn(elf, section))) {
		GElf_Shdr header;
		Elf_Data *data;

		if (!gelf_getshdr(section, &header) || header.sh_type != SHT_DYNSYM ||
		    header.sh_entsize == 0)
			continue;
		data = elf_getdata(section, NULL);
		for (size_t i = 0; data && i < header.sh_size / header.sh_entsize; i++) {
			const char *name;
			GElf_Sym symbol;

			if (!gelf_getsym(data, (int)i, &symbol))
				break;
			if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC ||
			    symbol.st_shndx == SHN_UNDEF ||
			    GELF_ST_BIND(symbol.st_info) == STB_LOCAL)
				continue;
			name = elf_strptr(elf, header.sh_link, symbol.st_name);
			if (!name || name[0] == '_')
				continue;
			found |= strcmp(name, entry) == 0;
			list_add(list, bytes, name);
		}
	}
	return found;
}

static int elf_examine(int fd, const struct dw_chip_image_spec *spec, struct dw_chip_error *error)
{
	char list[320];
	int status;
	Elf *elf;

	elf_version(EV_CURRENT);
	elf = elf_begin(fd, ELF_C_READ, NULL);
	if (!elf) {
		/* libelf does not tell why a read failed. */
		status = pread(fd, list, 1, 0) < 0 ? -errno : -ELIBBAD;
		return kit_fail(error, status, "%s cannot be read as ELF: %s",
				text_short(image_name(spec)),
				status == -ELIBBAD ? elf_errmsg(-1) : strerror(-status));
	}
	status = elf_check(elf, spec, error);
	if (status == 0 && !elf_exports(elf, spec->entry, list, sizeof(list)))
		status = kit_fail(error, -ESRCH, "%s exports no function \"%s\"; it exports %s",
				  text_short(image_name(spec)), text_short(spec->entry),
				  list[0] ? list : "none");
	elf_end(elf);
	return status;
}

static int signature_check(const struct dw_chip_image_spec *spec, const int32_t *signature,
			   size_t count, struct dw_chip_error *error)
{
	bool scalars = false;

	if (count > 4096)
		return kit_fail(
			error, -EINVAL,
			"entry \"%s\" has a signature of %zu arguments: at most 4096 are possible",
			text_short(spec->entry), count);
	for (size_t i = 0; i < count; i++) {
		if (signature[i] < DW_DIR_SCALAR || signature[i] > DW_DIR_INOUT)
			return kit_fail(
				error, -EINVAL,
				"entry \"%s\": direction %d of argument %zu is none of SCALAR 0, "
				"IN 1, OUT 2, INOUT 3",
				text_short(spec->entry), signature[i], i);
		if (signature[i] != DW_DIR_SCALAR && scalars)
			return kit_fail(
				error, -EINVAL,
				"entry \"%s\": argument %zu is a tensor behind a scalar: tensors "
				"come first",
				text_short(spec->entry), i);
		scalars |= signature[i] == DW_DIR_SCALAR;
	}
	return 0;
}

/* The signature from the spec, from the image's description, or from both if they agree. */
static int signature_choose(const struct dw_chip_image_spec *spec, const struct dw_sim_entry *entry,
			    struct dw_chip_image *image, struct dw_chip_error *error)
{
	const int32_t *signature = spec->signature;
	size_t count = spec->signature_count;
	int status;

	if (entry && entry->signature && signature &&
	    (count != entry->signature_count ||
	     memcmp(signature, entry->signature, count * sizeof(*signature)) != 0))
		return kit_fail(
			error, -EINVAL,
			"entry \"%s\": the signature given (%zu arguments) is not the image's own "
			"(%u): give the same, or none",
			text_short(spec->entry), count, entry->signature_count);
	if (!signature && (!entry || !entry->signature))
		return kit_fail(
			error, -EINVAL,
			"entry \"%s\" of %s has no signature: give one at registration, or write "
			"DW_SIM_KERNEL(%s, …) in its source",
			text_short(spec->entry), text_short(image_name(spec)),
			text_short(spec->entry));
	if (!signature) {
		signature = entry->signature;
		count = entry->signature_count;
	}
	status = signature_check(spec, signature, count, error);
	if (status < 0)
		return status;
	image->signature = calloc(count ? count : 1, sizeof(*signature));
	if (!image->signature)
		return kit_fail(error, -ENOMEM, "entry \"%s\": no memory for its signature",
				text_short(spec->entry));
	if (count)
		memcpy(image->signature, signature, count * sizeof(*signature));
	image->signature_count = (uint32_t)count;
	while (image->tensor_count < count && signature[image->tensor_count] != DW_DIR_SCALAR)
		image->tensor_count++;
	return 0;
}

/*
 * Reads it by the rule of chip.h. Its size is a uint32_t, and an entry without the first three
 * fields is useless.
 */
static int entry_take(struct dw_sim_entry *to, const struct dw_sim_entry *from,
		      const struct dw_chip_image *image, struct dw_chip_error *error)
{
	const char *bytes = (const char *)from;

	if (from->size < offsetof(struct dw_sim_entry, signature_count))
		return kit_fail(
			error, -EPROTO,
			"entry \"%s\": its description has %u bytes, at least %zu are wanted: "
			"write DW_SIM_KERNEL(%s, …)",
			text_short(image->entry), from->size,
			offsetof(struct dw_sim_entry, signature_count), text_short(image->entry));
	for (size_t i = sizeof(*to); i < from->size; i++)
		if (bytes[i])
			return kit_fail(
				error, -EPROTO,
				"entry \"%s\": byte %zu of its description is not 0, and this "
				"driver knows %zu bytes: the image is for a newer one",
				text_short(image->entry), i, sizeof(*to));
	memset(to, 0, sizeof(*to));
	memcpy(to, from, from->size < sizeof(*to) ? from->size : sizeof(*to));
	return 0;
}

static int entry_resolve(const struct dw_chip_image_spec *spec, struct dw_chip_image *image,
			 struct dw_chip_error *error)
{
	char symbol[sizeof(ENTRY_PREFIX) + sizeof(image->entry)];
	const struct dw_sim_entry *entry;
	struct dw_sim_entry room;
	void *function;
	int status;

	text_format(symbol, sizeof(symbol), ENTRY_PREFIX "%s", image->entry);
	entry = dlsym(image->handle, symbol);
	function = dlsym(image->handle, image->entry);
	if (!function)
		return kit_fail(error, -ESRCH, "%s: entry \"%s\": %s", text_short(image_name(spec)),
				text_short(image->entry), dlerror());
	if (entry) {
		status = entry_take(&room, entry, image, error);
		if (status < 0)
			return status;
		entry = &room;
	}
	if (entry && entry->abi != DW_SIM_ABI)
		return kit_fail(
			error, -EPROTO,
			"%s: entry \"%s\" is described for sim images of version %u, this driver "
			"takes %u: compile it against this distworker/sim.h",
			text_short(image_name(spec)), text_short(image->entry), entry->abi,
			DW_SIM_ABI);
	image->kind = entry ? (enum dw_sim_entry_kind)entry->kind : DW_SIM_ENTRY_KERNEL;
	/* POSIX's way from a data to a function pointer. */
	if (image->kind == DW_SIM_ENTRY_KERNEL)
		memcpy(&image->kernel, &function, sizeof(function));
	else if (image->kind == DW_SIM_ENTRY_ORCHESTRATION)
		memcpy(&image->orchestration, &function, sizeof(function));
	else
		return kit_fail(
			error, -EPROTO,
			"%s: entry \"%s\" is of kind %d: kernel 1 or orchestration 2 is possible",
			text_short(image_name(spec)), text_short(image->entry), image->kind);
	return signature_choose(spec, entry, image, error);
}

int image_load(const struct dw_chip_image_spec *spec, struct dw_chip_image **result,
	       struct dw_chip_error *error)
{
	struct dw_chip_image *image;
	char path[64];
	int status;

	if (!spec->entry || !spec->entry[0])
		return kit_fail(error, -EINVAL,
				"%s: no entry is named: give the kernel or orchestration to run",
				text_short(image_name(spec)));
	if (strlen(spec->entry) >= sizeof(image->entry))
		return kit_fail(error, -EINVAL,
				"%s: the entry's name has %zu bytes: at most %zu are possible",
				text_short(image_name(spec)), strlen(spec->entry),
				sizeof(image->entry) - 1);
	image = calloc(1, sizeof(*image));
	if (!image)
		return kit_fail(error, -ENOMEM, "%s: no memory", text_short(image_name(spec)));
	strcpy(image->entry, spec->entry);
	image->fd = memfd_fill(spec, error);
	if (image->fd < 0) {
		status = image->fd;
		free(image);
		return status;
	}
	status = elf_examine(image->fd, spec, error);
	if (status < 0)
		goto fail;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	image->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | OWN_FIRST);
	if (!image->handle) {
		const char *text = dlerror();

		if (access(path, F_OK) < 0) {
			status = kit_fail(error, -errno,
					  "%s cannot be loaded, which needs /proc: %s: %s",
					  text_short(image_name(spec)), text_short(path),
					  strerror(errno));
			goto fail;
		}
		/* Skips the descriptor's path, with which the linker's text begins. */
		if (strncmp(text, path, strlen(path)) == 0)
			text += strlen(path);
		status = kit_fail(error, -ELIBBAD, "%s cannot be loaded%s%s",
				  text_short(image_name(spec)), text[0] == ':' ? "" : ": ", text);
		goto fail;
	}
	status = entry_resolve(spec, image, error);
	if (status < 0)
		goto fail;
	*result = image;
	return 0;
fail:
	image_unload(image);
	return status;
}

void image_unload(struct dw_chip_image *image)
{
	char path[64];
	void *still = NULL;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", image->fd);
	if (image->handle) {
		dlclose(image->handle);
		still = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	}
	if (still)
		dlclose(still);
	else
		close(image->fd);
	free(image->signature);
	free(image);
}
