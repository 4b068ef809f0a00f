/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/* See ssh.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/deadline.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"
#include "base/variables.h"
#include "host/ssh.h"
#include "task/error.h"

#define WORDS 64 /* of a command */
#define SCRIPT_BYTES 8192
#define LINE_BYTES 1024
#define ERRORS_BYTES 320 /* of standard error that stand in a text */
#define LEAVE_NS (2 * NS_PER_S)

struct ssh_node {
	char name[ADDRESS_BYTES]; /* as the caller has it */
	struct address address; /* the name's; the port is the one to listen on */
	pid_t pid;
	int pidfd; /* -1: it has ended, and `status` is known */
	int status; /* of wait(2); -1: another thread has reaped it */
	int in, out, errors; /* -1: closed */
	char line[LINE_BYTES]; /* of standard output, as far as it has arrived */
	size_t line_bytes;
	char junk[TEXT_SHORT_BYTES]; /* the first line that was no address */
	char tail[ERRORS_BYTES]; /* the end of standard error */
};

extern char **environ;

/* ------------------------------------------------------------------------- command */

/* Appends a word of a shell's command, in single quotes. False: it does not fit. */
static bool quote(char *to, size_t space, const char *word)
{
	size_t used = strlen(to);

	for (const char *at = word; *at || at == word; at++) {
		const char *piece = *at == '\'' ? "'\\''" : NULL;

		if (used + 8 > space)
			return false;
		if (at == word)
			to[used++] = '\'';
		if (piece)
			used += (size_t)text_format(to + used, space - used, "%s", piece);
		else if (*at)
			to[used++] = *at;
		if (!*at)
			break;
	}
	to[used++] = '\'';
	to[used] = '\0';
	return true;
}

/*
 * Makes the command for the remote shell, which may be any shell: it only sees `sh -c` and a word
 * in single quotes.
 */
static int write_script(const struct ssh_node *node, const struct ssh_options *options,
			char script[SCRIPT_BYTES])
{
	static const char *const none[] = { NULL };
	const char *program = options->program ? options->program : "distworker";
	const char *const *arguments = options->arguments ? options->arguments : none;

	char inner[SCRIPT_BYTES / 2] = "set -- $SSH_CONNECTION; "
				       "case ${3-} in *:*) a=\"[$3]\";; *) a=${3-};; esac; "
				       "exec ";
	bool fits = quote(inner, sizeof(inner) - 128, program);

	text_format(inner + strlen(inner), 128, " %.64s --listen \"$a:%s\" --key -",
		    options->verb ? options->verb : "node", node->address.port);
	for (; fits && *arguments; arguments++) {
		fits = strlen(inner) + 1 < sizeof(inner);
		if (fits)
			strcat(inner, " ");
		fits = fits && quote(inner, sizeof(inner), *arguments);
	}
	strcpy(script, "exec sh -c ");
	if (fits && quote(script, SCRIPT_BYTES, inner))
		return 0;
	return error_set(-EINVAL,
			 "host \"%s\": the command there, which begins with \"%s\", does not "
			 "fit into %d bytes",
			 text_short(node->name), text_short(program), SCRIPT_BYTES / 2);
}

/* Cuts `text` into words. Returns their number, or -EINVAL with a text. */
static int cut_words(char *text, const char **words)
{
	int count = 0;
	char *rest;

	for (char *word = strtok_r(text, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
		if (count == WORDS - 3)
			return error_set(-EINVAL, "DW_SSH has more than %d words", WORDS - 3);
		words[count++] = word;
	}
	return count ? count : error_set(-EINVAL, "DW_SSH is empty: \"" SSH_COMMAND "\" would do");
}

static bool has_port(const char *name)
{
	const char *colon = strrchr(name, ':');

	return colon && (*name == '[' ? colon[-1] == ']' : strchr(name, ':') == colon);
}

/* Parses the name, and makes ssh's form of it: without brackets and port. */
static int set_name(struct ssh_node *node, const char *host, char target[2 * ADDRESS_BYTES])
{
	const char *at = strchr(host, '@'), *name = at ? at + 1 : host;
	int result = address_parse("host", name, &node->address);

	if (result < 0)
		return result;
	if (*host == '-' || at == host || !node->address.host[0] ||
	    strlen(host) >= sizeof(node->name))
		return error_set(-EINVAL,
				 "host \"%s\": ssh needs a name, as in \"b\", \"user@b\" or "
				 "\"b:7733\"",
				 text_short(host));
	if (!has_port(name))
		strcpy(node->address.port, "0");
	text_copy(node->name, sizeof(node->name), host);
	text_format(target, (size_t)2 * ADDRESS_BYTES, "%.*s%s", (int)(name - host), host,
		    node->address.host);
	return 0;
}

/* --------------------------------------------------------------------------- start */

struct pipes {
	int in[2], out[2], errors[2];
};

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void close_pipes(struct pipes *pipes)
{
	int *ends[] = { pipes->in, pipes->out, pipes->errors };

	for (int i = 0; i < 3; i++) {
		close_end(&ends[i][0]);
		close_end(&ends[i][1]);
	}
}

static int make_pipes(struct pipes *pipes)
{
	int *ends[] = { pipes->in, pipes->out, pipes->errors };

	*pipes = (struct pipes){ { -1, -1 }, { -1, -1 }, { -1, -1 } };
	for (int i = 0; i < 3; i++)
		if (fd_move_pair_up(pipe2(ends[i], O_CLOEXEC), ends[i]) < 0) {
			ends[i][0] = ends[i][1] = -1;
			return error_set(-errno, "pipe: %s%s", strerror(errno), error_hint(errno));
		}
	fcntl(pipes->out[0], F_SETFL, O_NONBLOCK);
	fcntl(pipes->errors[0], F_SETFL, O_NONBLOCK);
	return 0;
}

/* 0 or an errno. */
static int spawn(struct ssh_node *node, const struct pipes *pipes, const char *const *words)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	error = posix_spawn_file_actions_init(&actions);
	if (error)
		return error;
	error = posix_spawnattr_init(&attributes);
	if (error)
		goto out;
	/* Signals as in a new process: an ignored SIGPIPE would be inherited. */
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
						      POSIX_SPAWN_SETPGROUP);
	error = posix_spawn_file_actions_adddup2(&actions, pipes->in[0], 0);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, pipes->out[1], 1);
	if (!error)
		error = posix_spawn_file_actions_adddup2(&actions, pipes->errors[1], 2);
	/* Closes descriptors of the application that are not closed on exec. */
	if (!error)
		error = posix_spawn_file_actions_addclosefrom_np(&actions, FD_FIRST);
	if (!error)
		error = posix_spawnp(&node->pid, words[0], &actions, &attributes,
				     (char *const *)words, environ);
	posix_spawnattr_destroy(&attributes);
out:
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static int send_key(struct ssh_node *node, const char *key)
{
	size_t bytes = strlen(key);
	char line[LINE_BYTES];
	int result;

	if (bytes + 2 > sizeof(line) || strchr(key, '\n'))
		return error_set(-EINVAL, "host \"%s\": its key has %zu bytes; a line of up to %zu "
					  "would be right",
				 node->name, bytes, sizeof(line) - 2);
	text_format(line, sizeof(line), "%s\n", key);
	/*
	 * The key fits into an empty pipe, so this does not wait. If ssh has ended, its status and
	 * text tell why.
	 */
	result = file_write(node->in, line, bytes + 1, NULL);
	explicit_bzero(line, sizeof(line));
	return result == 0 || result == -EPIPE ? 0 :
	       error_set(result, "host \"%s\": its key: write: %s", node->name, strerror(-result));
}

static int start(struct ssh_node *node, const struct ssh_options *options, const char *target)
{
	const char *wanted = options->command ? options->command : variable_text(VARIABLE_SSH);
	char command[LINE_BYTES], script[SCRIPT_BYTES];
	const char *words[WORDS];
	struct pipes pipes;
	int count, error, result;

	wanted = wanted ? wanted : SSH_COMMAND;
	if (strlen(wanted) >= sizeof(command))
		return error_set(-EINVAL, "DW_SSH has %zu bytes; %zu fit", strlen(wanted),
				 sizeof(command) - 1);
	strcpy(command, wanted);
	count = cut_words(command, words);
	result = count < 0 ? count :
		 write_script(node, options, script);
	if (result < 0)
		return result;
	words[count] = target;
	words[count + 1] = script;
	words[count + 2] = NULL;
	result = make_pipes(&pipes);
	error = result ? 0 : spawn(node, &pipes, words);
	if (error) {
		node->pid = 0;
		result = error_set(-error, "host \"%s\": cannot run \"%s\": %s%s",
				   text_short(node->name), text_short(words[0]), strerror(error),
				   error == ENOENT ? " (Debian: openssh-client; DW_SSH "
						     "names another command)" :
						     error_hint(error));
	}
	if (result == 0) {
		node->in = pipes.in[1];
		node->out = pipes.out[0];
		node->errors = pipes.errors[0];
		pipes.in[1] = pipes.out[0] = pipes.errors[0] = -1;
		node->pidfd = fd_open_pidfd(node->pid);
		if (node->pidfd < 0)
			result = error_set(-errno, "host \"%s\": pidfd_open: %s", node->name,
					   strerror(errno));
	}
	close_pipes(&pipes);
	return result;
}

int ssh_start(const char *host, const struct ssh_options *options, struct ssh_node **result)
{
	struct ssh_node *node = calloc(1, sizeof(*node));
	char target[2 * ADDRESS_BYTES];
	int error;

	if (!node)
		return error_set(-ENOMEM, "host \"%s\": no memory for its node", text_short(host));
	node->in = node->out = node->errors = node->pidfd = -1;
	error = set_name(node, host, target);
	if (error == 0)
		error = start(node, options, target);
	if (error == 0)
		error = send_key(node, options->key);
	if (error == 0)
		*result = node;
	else
		ssh_destroy(node);
	return error;
}

/* ------------------------------------------------------------------------- address */

/* Keeps the end of standard error, in one line. Closes it at its end. */
static void read_errors(struct ssh_node *node)
{
	char piece[256];
	ssize_t got;

	while (node->errors >= 0 && (got = read(node->errors, piece, sizeof(piece))) != 0) {
		size_t used = strlen(node->tail), bytes = got < 0 ? 0 : (size_t)got, drop;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return;
		drop = used + bytes + 1;
		drop -= drop < sizeof(node->tail) ? drop : sizeof(node->tail);
		memmove(node->tail, node->tail + drop, used - drop + 1);
		used -= drop;
		for (size_t i = 0; i < bytes; i++)
			node->tail[used++] = (char)(piece[i] && piece[i] != '\r' ? piece[i] : ' ');
		node->tail[used] = '\0';
	}
	close_end(&node->errors);
}

/* The text of standard error, in one line. */
static const char *said(struct ssh_node *node, char text[2 * ERRORS_BYTES])
{
	char copy[ERRORS_BYTES], *rest;

	read_errors(node);
	text_copy(copy, sizeof(copy), node->tail);
	text[0] = '\0';
	for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		line[strcspn(line, "\n")] = '\0';
		while (*line && line[strlen(line) - 1] == ' ')
			line[strlen(line) - 1] = '\0';
		if (*line)
			text_format(text + strlen(text),
				    (size_t)2 * ERRORS_BYTES - strlen(text), "%s%s",
				    *text ? "; " : ": ", line);
	}
	return text;
}

/* Is it an IPv4 or IPv6 address? The latter may name an interface. */
static bool is_number(const char *host)
{
	unsigned char bytes[sizeof(struct in6_addr)];
	char number[ADDRESS_BYTES];

	text_copy(number, sizeof(number), host);
	number[strcspn(number, "%")] = '\0';
	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, number, bytes) == 1;
}

/* A line of standard output: 1, the node's address is set; 0, it is something else. */
static int take_line(struct ssh_node *node, const char *line, struct address *address)
{
	char port[sizeof(node->address.port)];

	if (!has_port(line) || address_parse("node", line, address) < 0 ||
	    !strcmp(address->port, "0") || !is_number(address->host)) {
		if (!node->junk[0])
			text_copy(node->junk, sizeof(node->junk), *line ? line : " ");
		return 0;
	}
	if (strcmp(address->host, "0.0.0.0") && strcmp(address->host, "::"))
		return 1;
	/* The node listens on all addresses, and does not know by which one it is reached. */
	strcpy(port, address->port);
	*address = node->address;
	strcpy(address->port, port);
	return 1;
}

/*
 * Reads byte by byte to the end of the line with the address: what follows belongs to other
 * readers. 1, 0.
 */
static int read_lines(struct ssh_node *node, struct address *address)
{
	ssize_t got;
	char byte;

	while (node->out >= 0 && (got = read(node->out, &byte, 1)) != 0) {
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return 0;
		if (byte != '\n') {
			if (node->line_bytes < sizeof(node->line) - 1 && byte && byte != '\r')
				node->line[node->line_bytes++] = byte;
			continue;
		}
		node->line[node->line_bytes] = '\0';
		node->line_bytes = 0;
		if (take_line(node, node->line, address))
			return 1;
	}
	close_end(&node->out);
	return 0;
}

static void reap(struct ssh_node *node)
{
	siginfo_t info = { 0 };
	int result;

	while ((result = waitid(P_PIDFD, (id_t)node->pidfd, &info, WEXITED)) < 0 && errno == EINTR)
		;
	node->status = result < 0 ? -1 : info.si_code == CLD_EXITED ? info.si_status << 8 :
								      info.si_status;
	close_end(&node->pidfd);
	node->pid = 0;
}

/* Sets the error when ssh has ended without a node. */
static int ended(struct ssh_node *node)
{
	char text[2 * ERRORS_BYTES];
	const char *why = said(node, text), *name = text_short(node->name);
	int status = node->status;

	if (status == -1)
		return error_set(-ECHILD, "host \"%s\": ssh has ended%s", name, why);
	if (WIFSIGNALED(status))
		return error_set(-ECHILD, "host \"%s\": ssh was ended by %s%s", name,
				 error_signal_name(WTERMSIG(status)), why);
	if (WEXITSTATUS(status) == 255)
		return error_set(-EHOSTUNREACH, "host \"%s\": ssh does not get there%s", name, why);
	if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
		return error_set(-ENOENT,
				 "host \"%s\": its shell cannot run distworker (is it installed "
				 "there, at the same path?)%s",
				 name, why);
	if (WEXITSTATUS(status) == 0 && node->junk[0])
		return error_set(-EPROTO,
				 "host \"%s\": a node's address was expected, and not \"%s\"%s",
				 name, text_short(node->junk), why);
	return error_set(-ECHILD,
			 "host \"%s\": distworker has ended there, with status %d, before it "
			 "listened%s",
			 name, WEXITSTATUS(status), why);
}

static int late(struct ssh_node *node)
{
	char text[2 * ERRORS_BYTES];

	return error_set(-ETIMEDOUT, "host \"%s\": ssh has not started a node in time%s",
			 text_short(node->name), said(node, text));
}

int ssh_address(struct ssh_node *node, uint64_t deadline_ns, struct address *address)
{
	struct deadline deadline = deadline_at(deadline_ns);
	struct timespec rest;
	uint64_t now, until;
	int count;

	for (;;) {
		struct pollfd polls[] = {
			{ .fd = node->out, .events = POLLIN },
			{ .fd = node->errors, .events = POLLIN },
			{ .fd = node->pidfd, .events = POLLIN },
		};

		now = now_ns();
		until = deadline_sleep(&deadline, now);
		rest = clock_timespec(until - now);
		count = ppoll(polls, 3, until == NEVER ? NULL : &rest, NULL);
		read_errors(node);
		if (read_lines(node, address))
			return 0;
		if (polls[2].revents && count > 0) {
			reap(node);
			return read_lines(node, address) ? 0 : ended(node);
		}
		if (count == 0 && deadline_passed(&deadline, now_ns()))
			return late(node);
	}
}

/* ----------------------------------------------------------------------------- end */

int ssh_output(const struct ssh_node *node)
{
	return node->out;
}

int ssh_errors(const struct ssh_node *node)
{
	return node->errors;
}

const char *ssh_said(const struct ssh_node *node)
{
	return node->tail;
}

void ssh_end(struct ssh_node *node)
{
	close_end(&node->in);
}

/* Did ssh end within that time? */
static bool wait_end(const struct ssh_node *node, uint64_t ns)
{
	struct pollfd end = { .fd = node->pidfd, .events = POLLIN };
	struct deadline deadline = deadline_at(deadline_in(ns));
	struct timespec rest;
	uint64_t now;
	int result;

	do {
		now = now_ns();
		rest = clock_timespec(deadline_sleep(&deadline, now) - now);
		result = ppoll(&end, 1, &rest, NULL);
	} while (result <= 0 && !(result == 0 && deadline_passed(&deadline, now_ns())));
	return result > 0;
}

void ssh_destroy(struct ssh_node *node)
{
	if (!node)
		return;
	ssh_end(node);
	/* A full pipe must not keep a printing node from ending. */
	close_end(&node->out);
	close_end(&node->errors);
	if (node->pidfd >= 0) {
		if (!wait_end(node, LEAVE_NS))
			syscall(SYS_pidfd_send_signal, node->pidfd, SIGKILL, NULL, 0);
		reap(node);
	} else if (node->pid > 0) {
		kill(node->pid, SIGKILL);
		waitpid(node->pid, NULL, 0);
	}
	free(node);
}
