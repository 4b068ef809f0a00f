/* SPDX-License-Identifier: LGPL-2.1-only OR MIT */
/*
 * Nodes that ssh starts (host/ssh.h): with a stand-in for ssh, which runs the command here in a
 * shell, as sshd does there; and with a real ssh, where tests/hosts/ssh has started this program.
 * The node is a stand-in, too: a script that records its input.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "base/clock.h"
#include "host/ssh.h"
#include "task/error.h"
#include "unit.h"

#define MINUTE_NS (60 * NS_PER_S)
#define KEY "0123456789abcdef0123456789abcdef"

/* ------------------------------------------------------------------------ stand-ins */

#define NODE "it's a node" /* a name that a shell would split */

static char folder[] = "/tmp/dw-ssh-XXXXXX";
static bool made;

static const char *in_folder(const char *name)
{
	static char paths[8][PATH_MAX];
	static int next;
	char *path = paths[next++ % 8];

	snprintf(path, PATH_MAX, "%s/%s", folder, name);
	return path;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	if (!CHECK(file != NULL))
		return;
	fputs(text, file);
	CHECK_EQ(fclose(file), 0);
	CHECK_EQ(chmod(path, 0700), 0);
}

static char seen[4096];

static const char *read_seen(void)
{
	FILE *file = fopen(in_folder("seen"), "re");
	size_t got = file ? fread(seen, 1, sizeof(seen) - 1, file) : 0;

	seen[got] = '\0';
	if (file)
		fclose(file);
	return seen;
}

/* "ssh": its words are written down; then it does what the host's name says. */
static const char fake_ssh[] =
	"#!/bin/sh\n"
	"cd \"$(dirname \"$0\")\" && echo \"ssh $1 $2\" >>seen\n"
	"echo \"group $(cut -d' ' -f5 /proc/$$/stat) of $$\" >>seen\n"
	"shift; host=${1#*@}; shift\n"
	"case $host in\n"
	"refused) echo 'ssh: connect to host refused port 22: Connection refused' >&2\n"
	"         exit 255 ;;\n"
	"banner) printf 'Warning: one\\r\\nPermission denied (publickey).\\r\\n' >&2; exit 255 ;;\n"
	"killed) kill -TERM $$ ;;\n"
	"slow) echo 'still connecting' >&2; exec cat ;;\n"
	"six) export SSH_CONNECTION='fe80::1 5 fe80::2 22' ;;\n"
	"none) unset SSH_CONNECTION ;;\n"
	"*) export SSH_CONNECTION='192.0.2.1 5 127.0.0.1 22' ;;\n"
	"esac\n"
	"HOST=$host; export HOST\n"
	"exec sh -c \"$*\"\n";

/* The stand-in for distworker; the stand-in for ssh sets HOST. */
static const char fake_node[] =
	"#!/bin/sh\n"
	"cd \"$(dirname \"$0\")\" && read -r key && echo \"node $* with $key\" >>seen\n"
	"case ${HOST-} in\n"
	"none) echo 0.0.0.0:4711 ;;\n"
	"six) echo '[fe80::2]:4711' ;;\n"
	"greets) echo 'Welcome to this host'; echo; echo 'abc:22 time 12:30'; echo 'motd: 7:7'\n"
	"        echo 10.0.0.7:4712 ;;\n"
	"junk) echo 'distworker 0.1: usage'; exit 0 ;;\n"
	"status) echo 'distworker: node: it may not listen' >&2; exit 3 ;;\n"
	"long) i=0; while [ $i -lt 5000 ]; do echo \"line $i of those\"; i=$((i + 1)); done >&2\n"
	"      exit 3 ;;\n"
	"quiet) cat >/dev/null ;;\n"
	"talks) echo 127.0.0.1:4711; echo 'a callable prints'; echo 'and errs' >&2 ;;\n"
	"*) echo 127.0.0.1:4711 ;;\n"
	"esac\n"
	"cat >/dev/null\n"
	"echo left >>seen\n"
	"[ ! -p pipe ] || : >pipe\n";

static void remove_folder(void)
{
	static const char *const names[] = { "seen", "ssh", NODE, "pipe" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		unlink(in_folder(names[i]));
	rmdir(folder);
}

static bool prepare(void)
{
	if (!made) {
		if (!CHECK(mkdtemp(folder) != NULL))
			return false;
		made = true;
		atexit(remove_folder);
		write_file(in_folder("ssh"), fake_ssh);
		write_file(in_folder(NODE), fake_node);
	}
	unlink(in_folder("seen"));
	return true;
}

static int start(const char *host, struct ssh_node **node)
{
	char command[PATH_MAX + 8];
	const struct ssh_options options = {
		.command = command,
		.program = in_folder(NODE),
		.key = KEY,
	};

	snprintf(command, sizeof(command), "%s  -v", in_folder("ssh"));
	return ssh_start(host, &options, node);
}

static struct ssh_node *started(const char *host, struct address *address)
{
	struct ssh_node *node = NULL;

	if (!prepare() || !CHECK_EQ(start(host, &node), 0))
		return NULL;
	if (CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), address), 0))
		return node;
	printf("# %s\n", error_text());
	ssh_destroy(node);
	return NULL;
}

static bool any_child(void)
{
	return waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
}

/* Reads a pipe to its end. */
static const char *read_all(int fd)
{
	static char text[4096];
	size_t used = 0;
	ssize_t got;

	fcntl(fd, F_SETFL, 0);
	while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	return text;
}

/* -------------------------------------------------------------------------- a node */

TEST(a_node_gets_the_key_and_says_its_address)
{
	struct address address;
	struct ssh_node *node = started("user@b", &address);

	REQUIRE(node != NULL);
	CHECK(!strcmp(address.host, "127.0.0.1") && !strcmp(address.port, "4711"));
	CHECK_STR(read_seen(), "ssh -v user@b\n");
	CHECK_STR(seen, "node node --listen 127.0.0.1:0 --key - with " KEY "\n");
	CHECK(!strstr(seen, "left"));
	ssh_destroy(node);
	CHECK_STR(read_seen(), "\nleft\n");
	CHECK(!any_child());
}

TEST(a_node_listens_on_the_address_by_which_ssh_came)
{
	static const struct {
		const char *host, *listen, *address, *port;
	} cases[] = {
		{ "six", "node --listen [fe80::2]:0 --key", "fe80::2", "4711" },
		{ "six:7733", "node --listen [fe80::2]:7733 --key", "fe80::2", "4711" },
		{ "none", "node --listen :0 --key", "none", "4711" },
		{ "user@none:7733", "node --listen :7733 --key", "none", "4711" },
		{ "greets", "node --listen 127.0.0.1:0 --key", "10.0.0.7", "4712" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct address address;
		struct ssh_node *node = started(cases[i].host, &address);

		REQUIRE(node != NULL);
		CHECK_STR(read_seen(), cases[i].listen);
		CHECK(!strstr(seen, "ssh -v six:") && !strstr(seen, "none:"));
		CHECK(!strcmp(address.host, cases[i].address));
		CHECK(!strcmp(address.port, cases[i].port));
		ssh_destroy(node);
	}
}

TEST(what_a_node_prints_later_is_for_the_caller)
{
	struct address address;
	struct ssh_node *node = started("talks", &address);
	char errors[512];

	REQUIRE(node != NULL);
	ssh_end(node);
	CHECK(!strcmp(read_all(ssh_output(node)), "a callable prints\n"));
	snprintf(errors, sizeof(errors), "%s%.99s", ssh_said(node), read_all(ssh_errors(node)));
	CHECK(!strcmp(errors, "and errs\n"));
	CHECK_STR(read_seen(), "\nleft\n");
	ssh_destroy(node);
}

TEST(ssh_has_a_process_group_of_its_own)
{
	struct address address;
	struct ssh_node *node = started("b", &address);
	const char *group;
	int of, self;

	REQUIRE(node != NULL);
	group = strstr(read_seen(), "group ");
	REQUIRE(group && sscanf(group, "group %d of %d", &of, &self) == 2);
	CHECK_EQ(of, self);
	ssh_destroy(node);
}

/* ------------------------------------------------------------------------- failures */

TEST(an_error_has_the_hosts_name_and_what_was_said)
{
	static const struct {
		const char *host;
		int error;
		const char *text;
	} cases[] = {
		{ "refused", -EHOSTUNREACH, "host \"refused\": ssh does not get there: ssh: "
					    "connect to host refused port 22: Connection refused" },
		{ "banner", -EHOSTUNREACH, "host \"banner\": ssh does not get there: Warning: one; "
					   "Permission denied (publickey)." },
		{ "killed", -ECHILD, "host \"killed\": ssh was ended by SIGTERM" },
		{ "junk", -EPROTO, "host \"junk\": a node's address was expected, and not "
				   "\"distworker 0.1: usage\"" },
		{ "status", -ECHILD, "host \"status\": distworker has ended there, with status 3, "
				     "before it listened: distworker: node: it may not listen" },
		{ "long", -ECHILD, "; line 4998 of those; line 4999 of those" },
	};

	REQUIRE(prepare());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ssh_node *node = NULL;
		struct address address;

		REQUIRE(start(cases[i].host, &node) == 0);
		CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), &address), cases[i].error);
		CHECK_STR(error_text(), cases[i].text);
		ssh_destroy(node);
		CHECK(!any_child());
	}
}

TEST(a_host_without_distworker_is_told_from_one_that_is_not_reached)
{
	struct ssh_node *node = NULL;
	struct address address;

	REQUIRE(prepare());
	unlink(in_folder(NODE));
	REQUIRE(start("b", &node) == 0);
	CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), &address), -ENOENT);
	CHECK_STR(error_text(), "host \"b\": its shell cannot run distworker (is it installed "
				"there, at the same path?): ");
	CHECK_STR(error_text(), "it's a node");
	ssh_destroy(node);
	write_file(in_folder(NODE), fake_node);
}

TEST(an_ssh_that_cannot_be_run_is_an_error_at_once)
{
	const struct ssh_options options = { .command = "/nowhere/ssh -x", .key = KEY };
	struct ssh_node *node = NULL;

	CHECK_EQ(ssh_start("b", &options, &node), -ENOENT);
	CHECK_STR(error_text(), "host \"b\": cannot run \"/nowhere/ssh\": No such file or "
				"directory (Debian: openssh-client; DW_SSH names another command)");
	CHECK(!any_child());
}

static void expect_late(const char *host, const char *text)
{
	struct ssh_node *node = NULL;
	struct address address;

	REQUIRE(start(host, &node) == 0);
	CHECK_EQ(ssh_address(node, deadline_in(NS_PER_S / 2), &address), -ETIMEDOUT);
	CHECK_STR(error_text(), text);
	ssh_destroy(node);
	CHECK(!any_child());
}

TEST(a_node_that_does_not_come_is_waited_for_until_the_deadline)
{
	REQUIRE(prepare());
	expect_late("quiet", "host \"quiet\": ssh has not started a node in time");
	CHECK_STR(read_seen(), "left");
	expect_late("slow", "host \"slow\": ssh has not started a node in time: still connecting");
}

TEST(names_that_are_none_are_refused)
{
	static const struct {
		const char *host, *text;
	} cases[] = {
		{ "-oProxyCommand=x", "host \"-oProxyCommand=x\": ssh needs a name" },
		{ "@b", "host \"@b\": ssh needs a name" },
		{ "user@", "host \"user@\": ssh needs a name" },
		{ "", "host \"\": ssh needs a name" },
		{ "a b", "host \"a b\" is no name of a host" },
		{ "b:port", "host \"b:port\": the port is \"port\"" },
		{ ":7733", "host \":7733\": ssh needs a name" },
	};
	struct ssh_node *node = NULL;

	REQUIRE(prepare());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK_EQ(start(cases[i].host, &node), -EINVAL);
		CHECK_STR(error_text(), cases[i].text);
	}
	CHECK(!*read_seen());
}

TEST(commands_that_are_none_are_refused)
{
	static char many[1100], longest[8000];
	struct ssh_options options = { .command = " ", .key = KEY };
	struct ssh_node *node = NULL;

	CHECK_EQ(ssh_start("b", &options, &node), -EINVAL);
	CHECK_STR(error_text(), "DW_SSH is empty: \"ssh -o BatchMode=yes\" would do");
	for (size_t i = 0; i < 140; i += 2)
		memcpy(many + i, "x ", 2);
	options.command = many;
	CHECK_EQ(ssh_start("b", &options, &node), -EINVAL);
	CHECK_STR(error_text(), "DW_SSH has more than 61 words");
	memset(many, 'x', sizeof(many) - 1);
	CHECK_EQ(ssh_start("b", &options, &node), -EINVAL);
	CHECK_STR(error_text(), "DW_SSH has 1099 bytes");
	options.command = "true";
	memset(longest, '\'', sizeof(longest) - 1);
	options.program = longest;
	CHECK_EQ(ssh_start("b", &options, &node), -EINVAL);
	CHECK_STR(error_text(), "host \"b\": the command there, which begins with \"''");
	options.program = NULL;
	options.key = "two\nlines";
	CHECK_EQ(ssh_start("b", &options, &node), -EINVAL);
	CHECK_STR(error_text(), "host \"b\": its key has 9 bytes");
	CHECK(!any_child());
}

TEST(what_stands_behind_is_not_cut_by_shells)
{
	static const char *const arguments[] = { "a b", "it's", "--", "$HOME \"`x`\"", "", NULL };
	struct ssh_options options = { .verb = "run", .arguments = arguments, .key = KEY };
	struct ssh_node *node = NULL;
	struct address address;

	REQUIRE(prepare());
	options.command = in_folder("ssh -v");
	options.program = in_folder(NODE);
	REQUIRE(ssh_start("b", &options, &node) == 0);
	CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), &address), 0);
	CHECK_STR(read_seen(), "node run --listen 127.0.0.1:0 --key - a b it's -- $HOME \"`x`\"  "
			       "with");
	ssh_destroy(node);
}

/* ---------------------------------------------------------------------------- ends */

/* A process that starts a node, and is then killed. */
static void expect_node_to_leave(int (*start_node)(const char *, struct ssh_node **),
				 const char *host)
{
	int ends[2];
	pid_t pid;
	char byte;

	REQUIRE(mkfifo(in_folder("pipe"), 0600) == 0);
	REQUIRE(pipe(ends) == 0);
	pid = fork();
	if (pid == 0) {
		struct ssh_node *node = NULL;
		struct address address;

		unit_bound(UNIT_SECONDS);
		close(ends[0]);
		if (start_node(host, &node) < 0 ||
		    ssh_address(node, deadline_in(MINUTE_NS), &address) < 0)
			_exit(1);
		if (write(ends[1], "x", 1) != 1)
			_exit(2);
		pause();
	}
	close(ends[1]);
	CHECK_EQ(read(ends[0], &byte, 1), 1);
	CHECK(!strstr(read_seen(), "left"));
	kill(pid, SIGKILL);
	CHECK_EQ(waitpid(pid, NULL, 0), pid);
	/* The node opens the pipe when it exits. */
	close(open(in_folder("pipe"), O_RDONLY | O_CLOEXEC));
	CHECK_STR(read_seen(), "left");
	close(ends[0]);
	unlink(in_folder("pipe"));
}

/* With the real ssh of tests/hosts/ssh: DW_SSH is its command, and host b its other host. */
static int start_really(const char *host, struct ssh_node **node)
{
	const struct ssh_options options = { .program = in_folder(NODE), .key = KEY };

	return ssh_start(host, &options, node);
}

static bool real(void)
{
	return getenv("DW_TEST_SSH") != NULL;
}

#define NOT_REAL "there is no other host: tests/hosts/ssh makes one"

TEST(a_real_ssh_starts_a_node_on_its_own_address)
{
	struct ssh_node *node = NULL;
	struct address address;

	if (!real())
		SKIP(NOT_REAL);
	REQUIRE(prepare());
	/* The node reports an address of its own choice. */
	write_file(in_folder(NODE), "#!/bin/sh\ncd \"$(dirname \"$0\")\" && read -r key\n"
				    "echo \"node $* with $key on $(hostname)\" >>seen\n"
				    "echo \"${3%:0}:4711\"; cat >/dev/null; echo left >>seen\n");
	REQUIRE(start_really("10.77.0.2", &node) == 0);
	if (!CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), &address), 0))
		printf("# %s\n", error_text());
	CHECK(!strcmp(address.host, "10.77.0.2") && !strcmp(address.port, "4711"));
	CHECK_STR(read_seen(), "node node --listen 10.77.0.2:0 --key - with " KEY " on b\n");
	ssh_destroy(node);
	CHECK_STR(read_seen(), "\nleft\n");
	write_file(in_folder(NODE), fake_node);
}

TEST(a_real_ssh_says_why_it_does_not_get_there)
{
	static const struct {
		const char *host, *options, *text;
	} cases[] = {
		{ "10.77.0.2", "-p 23", "host \"10.77.0.2\": ssh does not get there: ssh: connect "
					"to host 10.77.0.2 port 23: Connection refused" },
		{ "10.77.0.2", "-o PubkeyAuthentication=no", "Permission denied (publickey" },
		{ "nosuchuser@10.77.0.2", "", "Permission denied (publickey" },
		{ "nowhere.invalid", "", "Could not resolve hostname nowhere.invalid" },
	};

	if (!real())
		SKIP(NOT_REAL);
	REQUIRE(prepare());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char command[1024];
		const struct ssh_options options = { .command = command,
						     .program = in_folder(NODE),
						     .key = KEY };
		struct ssh_node *node = NULL;
		struct address address;

		snprintf(command, sizeof(command), "%s %s", getenv("DW_SSH"), cases[i].options);
		REQUIRE(ssh_start(cases[i].host, &options, &node) == 0);
		CHECK_EQ(ssh_address(node, deadline_in(MINUTE_NS), &address), -EHOSTUNREACH);
		CHECK_STR(error_text(), cases[i].text);
		ssh_destroy(node);
		CHECK(!any_child());
	}
	CHECK(!*read_seen());
}

TEST(a_node_leaves_when_its_real_starter_is_killed)
{
	if (!real())
		SKIP(NOT_REAL);
	REQUIRE(prepare());
	expect_node_to_leave(start_really, "10.77.0.2");
}

TEST(a_node_leaves_when_its_starter_is_killed)
{
	REQUIRE(prepare());
	expect_node_to_leave(start, "b");
}
