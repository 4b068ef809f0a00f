// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * The last error's text of each thread, names of errors and signals.
 *
 * Any thread, any time; nothing here takes a lock or allocates memory. Setting
 * a text leaves errno as it was.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <distworker/distworker.h>
#include "base/text.h"
#include "task/error.h"

static _Thread_local char last_text[ERROR_TEXT_BYTES];
static _Thread_local char unknown_name[32];

void error_record(const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	int saved = errno;
	va_list list;

	/* By way of a copy: the old text may be among the arguments. */
	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	memcpy(last_text, text, strlen(text) + 1);
	errno = saved;
}

int error_prefix(int error, const char *format, ...)
{
	char text[ERROR_TEXT_BYTES];
	int saved = errno, length;
	size_t used;
	va_list list;

	va_start(list, format);
	length = text_vformat(text, sizeof(text), format, list);
	va_end(list);
	used = length < 0 ? 0 : (size_t)length;
	if (used < sizeof(text))
		text_copy(text + used, sizeof(text) - used, last_text);
	memcpy(last_text, text, strlen(text) + 1);
	errno = saved;
	return error;
}

const char *error_text(void)
{
	return last_text;
}

const char *dw_strerror_last(void)
{
	return last_text;
}

/* The C library has such tables only since glibc 2.32. */
static const char *const error_names[] = {
#define E(name) [name] = #name,
	E(EPERM) E(ENOENT) E(ESRCH) E(EINTR) E(EIO) E(ENXIO) E(E2BIG) E(ENOEXEC) E(EBADF)
	E(ECHILD) E(EAGAIN) E(ENOMEM) E(EACCES) E(EFAULT) E(ENOTBLK) E(EBUSY) E(EEXIST)
	E(EXDEV) E(ENODEV) E(ENOTDIR) E(EISDIR) E(EINVAL) E(ENFILE) E(EMFILE) E(ENOTTY)
	E(ETXTBSY) E(EFBIG) E(ENOSPC) E(ESPIPE) E(EROFS) E(EMLINK) E(EPIPE) E(EDOM) E(ERANGE)
	E(EDEADLK) E(ENAMETOOLONG) E(ENOLCK) E(ENOSYS) E(ENOTEMPTY) E(ELOOP) E(ENOMSG) E(EIDRM)
	E(ECHRNG) E(EL2NSYNC) E(EL3HLT) E(EL3RST) E(ELNRNG) E(EUNATCH) E(ENOCSI) E(EL2HLT)
	E(EBADE) E(EBADR) E(EXFULL) E(ENOANO) E(EBADRQC) E(EBADSLT) E(EBFONT) E(ENOSTR)
	E(ENODATA) E(ETIME) E(ENOSR) E(ENONET) E(ENOPKG) E(EREMOTE) E(ENOLINK) E(EADV)
	E(ESRMNT) E(ECOMM) E(EPROTO) E(EMULTIHOP) E(EDOTDOT) E(EBADMSG) E(EOVERFLOW)
	E(ENOTUNIQ) E(EBADFD) E(EREMCHG) E(ELIBACC) E(ELIBBAD) E(ELIBSCN) E(ELIBMAX)
	E(ELIBEXEC) E(EILSEQ) E(ERESTART) E(ESTRPIPE) E(EUSERS) E(ENOTSOCK) E(EDESTADDRREQ)
	E(EMSGSIZE) E(EPROTOTYPE) E(ENOPROTOOPT) E(EPROTONOSUPPORT) E(ESOCKTNOSUPPORT)
	E(EOPNOTSUPP) E(EPFNOSUPPORT) E(EAFNOSUPPORT) E(EADDRINUSE) E(EADDRNOTAVAIL)
	E(ENETDOWN) E(ENETUNREACH) E(ENETRESET) E(ECONNABORTED) E(ECONNRESET) E(ENOBUFS)
	E(EISCONN) E(ENOTCONN) E(ESHUTDOWN) E(ETOOMANYREFS) E(ETIMEDOUT) E(ECONNREFUSED)
	E(EHOSTDOWN) E(EHOSTUNREACH) E(EALREADY) E(EINPROGRESS) E(ESTALE) E(EUCLEAN) E(ENOTNAM)
	E(ENAVAIL) E(EISNAM) E(EREMOTEIO) E(EDQUOT) E(ENOMEDIUM) E(EMEDIUMTYPE) E(ECANCELED)
	E(ENOKEY) E(EKEYEXPIRED) E(EKEYREVOKED) E(EKEYREJECTED) E(EOWNERDEAD)
	E(ENOTRECOVERABLE) E(ERFKILL) E(EHWPOISON)
#undef E
};

const char *error_name(int error)
{
	unsigned int number = error < 0 ? 0u - (unsigned int)error : (unsigned int)error;

	if (number < sizeof(error_names) / sizeof(error_names[0]) && error_names[number])
		return error_names[number];
	snprintf(unknown_name, sizeof(unknown_name), "errno %u", number);
	return unknown_name;
}

/* pthread_create() gives EAGAIN for a stack that it cannot map, too. */
static bool memory_is_limited(void)
{
	struct rlimit space, data;

	return (!getrlimit(RLIMIT_AS, &space) && space.rlim_cur != RLIM_INFINITY) ||
	       (!getrlimit(RLIMIT_DATA, &data) && data.rlim_cur != RLIM_INFINITY);
}

const char *error_hint(int error)
{
	if (error == EAGAIN && memory_is_limited())
		return " (a limit of processes, threads or memory: ulimit -u, -v, -d, or the "
		       "cgroup's pids.max)";
	if (error == EAGAIN)
		return " (the limit of processes and threads: ulimit -u, or the cgroup's pids.max)";
	if (error == EFBIG)
		return " (the limit of the size of files: ulimit -f)";
	return error == EMFILE ? " (the limit of descriptors: ulimit -n)" : "";
}

static const char *const signal_names[] = {
#define S(name) [name] = #name,
	S(SIGHUP) S(SIGINT) S(SIGQUIT) S(SIGILL) S(SIGTRAP) S(SIGABRT) S(SIGBUS) S(SIGFPE)
	S(SIGKILL) S(SIGUSR1) S(SIGSEGV) S(SIGUSR2) S(SIGPIPE) S(SIGALRM) S(SIGTERM)
	S(SIGSTKFLT) S(SIGCHLD) S(SIGCONT) S(SIGSTOP) S(SIGTSTP) S(SIGTTIN) S(SIGTTOU)
	S(SIGURG) S(SIGXCPU) S(SIGXFSZ) S(SIGVTALRM) S(SIGPROF) S(SIGWINCH) S(SIGIO)
	S(SIGPWR) S(SIGSYS)
#undef S
};

const char *error_signal_name(int signal)
{
	if (signal > 0 && (size_t)signal < sizeof(signal_names) / sizeof(signal_names[0]) &&
	    signal_names[signal])
		return signal_names[signal];
	snprintf(unknown_name, sizeof(unknown_name), "signal %d", signal);
	return unknown_name;
}
