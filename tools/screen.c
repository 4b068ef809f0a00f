// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/* Behind screen.h. The sequences are those that all terminals of today share (ECMA-48, xterm's). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>
#include "screen.h"
#include "tool.h"

#define OTHER_SCREEN	"\033[?1049h\033[?25l"
#define FIRST_SCREEN	"\033[?25h\033[?1049l"

/* A sequence of a key arrives in one piece; ESC alone is a key when nothing follows it so soon. */
#define SEQUENCE_MS	25

static struct {
	struct termios before;
	sigset_t mask;
	int signals;
	bool keys;			/* stdin is a terminal */
	unsigned char typed[64];	/* read, and not taken yet */
	size_t first, count;
} screen = { .signals = -1 };

bool screen_possible(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && term[0] && strcmp(term, "dumb") != 0;
}

bool screen_has_colour(void)
{
	const char *without = getenv("NO_COLOR");

	return !without || !without[0];
}

static void write_all(const char *text, size_t bytes)
{
	while (bytes) {
		ssize_t written = write(STDOUT_FILENO, text, bytes);

		if (written < 0 && errno != EINTR)
			return;
		text += written > 0 ? written : 0;
		bytes -= written > 0 ? (size_t)written : 0;
	}
}

static void enter(void)
{
	struct termios raw = screen.before;

	raw.c_lflag &= (tcflag_t)~(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (screen.keys)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	write_all(OTHER_SCREEN, sizeof(OTHER_SCREEN) - 1);
}

static void leave(void)
{
	write_all(FIRST_SCREEN, sizeof(FIRST_SCREEN) - 1);
	if (screen.keys)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &screen.before);
}

int screen_open(void)
{
	static const int ours[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < COUNT_OF(ours); i++)
		sigaddset(&set, ours[i]);
	sigprocmask(SIG_BLOCK, &set, &screen.mask);
	screen.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (screen.signals < 0) {
		int error = errno;

		sigprocmask(SIG_SETMASK, &screen.mask, NULL);
		return -error;
	}
	screen.keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen.before) == 0;
	enter();
	return 0;
}

void screen_close(void)
{
	leave();
	close(screen.signals);
	screen.signals = -1;
	sigprocmask(SIG_SETMASK, &screen.mask, NULL);
}

void screen_size(size_t *columns, size_t *lines)
{
	struct winsize size;
	bool known = !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col && size.ws_row;

	*columns = known ? size.ws_col : 80;
	*lines = known ? size.ws_row : 24;
}

/* Ctrl-Z: the terminal is the shell's until SIGCONT. */
static void stop_here(void)
{
	leave();
	raise(SIGSTOP);
	enter();
}

static int take_signal(void)
{
	struct signalfd_siginfo info;

	if (read(screen.signals, &info, sizeof(info)) != sizeof(info))
		return SCREEN_TIME;
	if (info.ssi_signo == SIGTSTP)
		stop_here();
	return info.ssi_signo == SIGTSTP || info.ssi_signo == SIGWINCH ? SCREEN_SIZE : SCREEN_END;
}

/* false: nothing came in time, or the terminal has ended. */
static bool read_keys(int milliseconds)
{
	struct pollfd poll_keys = { .fd = STDIN_FILENO, .events = POLLIN };
	ssize_t got;

	if (poll(&poll_keys, 1, milliseconds) <= 0)
		return false;
	got = read(STDIN_FILENO, screen.typed, sizeof(screen.typed));
	screen.first = 0;
	screen.count = got > 0 ? (size_t)got : 0;
	return got > 0;
}

static int next_typed(void)
{
	if (!screen.count && !read_keys(SEQUENCE_MS))
		return -1;
	screen.count--;
	return screen.typed[screen.first++];
}

/* ESC [ and the rest, or ESC O and a letter; the key ESC by itself. */
static int take_sequence(void)
{
	int byte = next_typed(), number = 0;

	if (byte != '[' && byte != 'O')
		return '\033';
	do {
		byte = next_typed();
		if (byte >= '0' && byte <= '9')
			number = number * 10 % 1000 + byte - '0';
	} while (byte == ';' || (byte >= '0' && byte <= '9'));
	switch (byte) {
	case 'A': return SCREEN_UP;
	case 'B': return SCREEN_DOWN;
	case 'C': return SCREEN_RIGHT;
	case 'D': return SCREEN_LEFT;
	case '~':
		return number == 5 ? SCREEN_PAGE_UP : number == 6 ? SCREEN_PAGE_DOWN : SCREEN_TIME;
	default: return SCREEN_TIME;
	}
}

static int take_key(void)
{
	int byte = next_typed();

	return byte < 0 ? SCREEN_END : byte == '\033' ? take_sequence() : byte;
}

int screen_wait(double seconds)
{
	struct pollfd polls[2] = {
		{ .fd = screen.signals, .events = POLLIN },
		{ .fd = screen.keys ? STDIN_FILENO : -1, .events = POLLIN },
	};

	if (screen.count)
		return take_key();
	if (poll(polls, 2, (int)(seconds * 1000 + 0.5)) <= 0)
		return SCREEN_TIME;
	return polls[0].revents ? take_signal() : take_key();
}

void screen_show(const char *text, size_t bytes)
{
	char *picture = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&picture, &length);

	if (!out)
		return;
	fputs("\033[H", out);
	for (const char *end = text + bytes, *next; text < end; text = next) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		next = newline ? newline + 1 : end;
		fwrite(text, 1, (size_t)((newline ? newline : end) - text), out);
		/* The last line is not ended: the terminal would scroll. */
		fputs(newline && next < end ? "\033[K\r\n" : "\033[K", out);
	}
	fputs("\033[J", out);
	if (fclose(out) == 0)
		write_all(picture, length);
	free(picture);
}
