/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See node_again.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "host/key.h"
#include "host/pack.h"
#include "host/session.h"
#include "host/stream.h"
#include "task/error.h"
#include "worker/node_again.h"

/* Changes with what follows it: the program on disk may be a newer one. */
#define MAGIC 0x64772d616761696eULL
#define FORMAT 1

static struct {
	bool looked;
	int fd; /* the connection */
	uint32_t count, rank, size;
	char peer[ADDRESS_BYTES];
	struct stream *stream;
} own;

void again_set_rank(uint32_t rank, uint32_t size)
{
	own.rank = rank;
	own.size = size;
}

uint32_t again_rank(uint32_t *size)
{
	*size = own.size;
	return own.rank;
}

uint32_t again_count(void)
{
	return own.count;
}

/* ------------------------------------------------------------------ the old program */

static void free_words(char **words)
{
	for (size_t i = 0; words && words[i]; i++)
		free(words[i]);
	free(words);
}

/* The words that this program was started with; NULL: they cannot be read. */
static char **read_words(void)
{
	FILE *file = fd_open_stream("/proc/self/cmdline");
	char **words = NULL, **grown, *word = NULL;
	size_t count = 0, room = 0;

	while (file && getdelim(&word, &room, '\0', file) > 0) {
		grown = realloc(words, (count + 2) * sizeof(*words));
		if (!grown)
			break;
		words = grown;
		words[count++] = word;
		words[count] = NULL;
		word = NULL;
		room = 0;
	}
	free(word);
	if (file && !feof(file)) {
		free_words(words);
		words = NULL;
	}
	if (file)
		fclose(file);
	return words;
}

static int pack_all(const struct session *session, int fd, const char *peer, struct pack *pack)
{
	size_t key_bytes;
	const void *key = key_kept(&key_bytes);

	pack_u64(pack, MAGIC);
	pack_u32(pack, FORMAT);
	pack_u32(pack, (uint32_t)fd);
	pack_u32(pack, (uint32_t)getppid());
	pack_u32(pack, own.count + 1);
	pack_u32(pack, own.rank);
	pack_u32(pack, own.size);
	pack_text(pack, peer);
	pack_u32(pack, (uint32_t)key_bytes);
	pack_bytes(pack, key, key_bytes);
	return session_pack(session, pack);
}

/* A memfd with these bytes, which stays open when a program is executed; or -errno. */
static int make_file(const struct pack *pack)
{
	int fd = fd_move_up(memfd_create("distworker-session", MFD_CLOEXEC)), result;

	if (fd < 0)
		return -errno;
	result = file_write(fd, pack->data, pack->used, NULL);
	if (result == 0 && fcntl(fd, F_SETFD, 0) < 0)
		result = -errno;
	if (result == 0)
		return fd;
	close(fd);
	return result;
}

static int execute(int connection, int file)
{
	char **words = read_words();
	char number[16];

	if (!words)
		return error_set(-ENOENT, "/proc/self/cmdline cannot be read");
	text_format(number, sizeof(number), "%d", file);
	if (setenv(AGAIN_VARIABLE, number, 1) == 0 && fcntl(connection, F_SETFD, 0) == 0)
		execv("/proc/self/exe", words);
	error_set(-errno, "/proc/self/exe: %s", error_name(errno));
	unsetenv(AGAIN_VARIABLE);
	fcntl(connection, F_SETFD, FD_CLOEXEC);
	free_words(words);
	return -ENOEXEC;
}

int again_start(const struct session *session, int fd, const char *peer)
{
	struct pack pack = { .data = NULL };
	int file = -1, result;

	result = pack_all(session, fd, peer, &pack);
	if (result == 0) {
		file = make_file(&pack);
		if (file < 0)
			result = error_set(file, "no memfd of %zu bytes: %s", pack.used,
					   error_name(-file));
	}
	if (pack.data)
		explicit_bzero(pack.data, pack.room);
	pack_release(&pack);
	if (result < 0)
		return result;
	result = execute(fd, file);
	close(file);
	return result;
}

/* ------------------------------------------------------------------ the new program */

static int not_ours(void)
{
	return error_set(-EBADMSG, "%s in the environment names no connection of this program: it "
			 "is for a session that starts itself again, and no user sets it",
			 AGAIN_VARIABLE);
}

static int unpack_all(struct unpack *unpack, pid_t *parent)
{
	const char *peer;
	const void *key;
	uint32_t bytes;

	if (unpack_u64(unpack) != MAGIC || unpack_u32(unpack) != FORMAT)
		return not_ours();
	own.fd = (int)unpack_u32(unpack);
	*parent = (pid_t)unpack_u32(unpack);
	own.count = unpack_u32(unpack);
	own.rank = unpack_u32(unpack);
	own.size = unpack_u32(unpack);
	peer = unpack_text(unpack);
	text_copy(own.peer, sizeof(own.peer), peer ? peer : "");
	bytes = unpack_u32(unpack);
	key = unpack_bytes(unpack, bytes);
	if (unpack->failed || fcntl(own.fd, F_SETFD, FD_CLOEXEC) < 0)
		return not_ours();
	return bytes ? key_keep(key, bytes) : 0;
}

/* As the session was when its node forked it. */
static void be_session(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	syscall(SYS_prctl, PR_SET_NAME, "dw-session");
}

static int read_file(int file)
{
	struct unpack unpack = { .failed = false };
	pid_t parent = 0;
	struct stat status;
	void *bytes = MAP_FAILED;
	int result;

	if (fstat(file, &status) == 0 && status.st_size > 0)
		bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, file, 0);
	if (bytes == MAP_FAILED)
		return not_ours();
	close(file);
	unpack.at = bytes;
	unpack.left = (size_t)status.st_size;
	result = unpack_all(&unpack, &parent);
	if (result == 0) {
		be_session(parent);
		result = stream_unpack(own.fd, &unpack, &own.stream);
	}
	munmap(bytes, (size_t)status.st_size);
	return result < 0 ? result : 1;
}

int again_find(void)
{
	const char *text = own.looked ? NULL : secure_getenv(AGAIN_VARIABLE);
	unsigned long file;
	char *end;

	own.looked = true;
	if (!text)
		return own.stream != NULL;
	file = strtoul(text, &end, 10);
	if (*end || end == text || file > INT_MAX)
		return not_ours();
	unsetenv(AGAIN_VARIABLE);
	return read_file((int)file);
}

int again_take(struct stream **stream, char peer[ADDRESS_BYTES])
{
	if (!own.stream)
		return error_set(-EBUSY, "this session has served its connection");
	*stream = own.stream;
	own.stream = NULL;
	text_copy(peer, ADDRESS_BYTES, own.peer);
	return 0;
}
