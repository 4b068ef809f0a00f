// SPDX-License-Identifier: LGPL-2.1-only OR MIT
/*
 * distworker doctor: one line per thing that a hierarchy needs: OK, WARN (it
 * works, but …) or FAIL (it does not work), with a remedy. doctor_host.c has those of other hosts.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <json-c/json.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <linux/distworker.h>
#include "base/text.h"
#include "doctor.h"
#include "drivers.h"
#include "tool.h"

#define DEVICE "/dev/distworker"
#define FILES_WANTED 1024

static char tree_text[512];	/* of the last tree that failed */

void doctor_say(struct visit *visit, enum dw_verdict verdict, const char *subject,
		const char *remedy, const char *format, ...)
{
	static const char *const words[] = { "OK", "WARN", "FAIL" };
	char text[512];
	va_list list;

	va_start(list, format);
	text_vformat(text, sizeof(text), format, list);
	va_end(list);
	if (verdict > visit->worst)
		visit->worst = verdict;
	if (visit->json) {
		struct json_object *line = json_object_new_object();

		json_object_object_add(line, "verdict", json_object_new_string(words[verdict]));
		json_object_object_add(line, "subject", json_object_new_string(subject));
		json_object_object_add(line, "text", json_object_new_string(text));
		json_object_object_add(line, "remedy", json_object_new_string(remedy));
		json_object_array_add(visit->json, line);
		return;
	}
	printf("%-4s  %-10s %s\n", words[verdict], subject, text);
	if (*remedy)
		printf("%17s-> %s\n", "", remedy);
}

/* The first line of a file without its newline, or NULL. */
static const char *first_line(const char *path, char *text, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, bytes - 1);

	if (fd >= 0)
		close(fd);
	if (length < 0)
		return NULL;
	text[length] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static void check_version(struct visit *visit)
{
	if (strcmp(DW_VERSION, dw_version()))
		doctor_say(visit, DW_VERDICT_WARN, "version", "install both from one release",
			   "the program is %s, the library that it found is %s", DW_VERSION,
			   dw_version());
	else
		doctor_say(visit, DW_VERDICT_OK, "version", "", "%s, program and library",
			   DW_VERSION);
}

/* ------------------------------------------------------------------- module */

/* Whether a module file lies where modprobe looks for this kernel. */
static bool module_installed(const char *release)
{
	static const char *const places[] = { "updates/dkms", "extra", "updates",
					      "kernel/drivers/misc" };
	static const char *const endings[] = { "", ".xz", ".zst", ".gz" };
	char path[512];

	for (size_t i = 0; i < COUNT_OF(places); i++)
		for (size_t n = 0; n < COUNT_OF(endings); n++) {
			text_format(path, sizeof(path), "/lib/modules/%s/%s/distworker.ko%s",
				    release, places[i], endings[n]);
			if (!access(path, F_OK))
				return true;
		}
	return false;
}

/* Whether the kernel takes signed modules only: by its own option, or by lockdown. */
static bool signatures_enforced(void)
{
	char text[128];

	if (first_line("/sys/module/module/parameters/sig_enforce", text, sizeof(text)) &&
	    text[0] == 'Y')
		return true;
	return first_line("/sys/kernel/security/lockdown", text, sizeof(text)) &&
	       (strstr(text, "[integrity]") || strstr(text, "[confidentiality]"));
}

static void module_absent(struct visit *visit)
{
	char text[64], remedy[256];
	struct utsname kernel;

	uname(&kernel);
	if (first_line("/sys/module/distworker/version", text, sizeof(text)) ||
	    !access("/sys/module/distworker", F_OK))
		doctor_say(visit, DW_VERDICT_WARN, "module", "load it again, and look into dmesg",
			   "it is loaded, but there is no " DEVICE);
	else if (access("/proc/modules", F_OK))
		doctor_say(
			visit, DW_VERDICT_OK, "module", "",
			"none: this kernel (%s) has no loadable modules; the futex "
			"provider is used",
			kernel.release);
	else if (module_installed(kernel.release) && signatures_enforced())
		doctor_say(visit, DW_VERDICT_WARN, "module",
			   "sign it with a key that this kernel trusts (DKMS: mok_signing_key, "
			   "mokutil --import), then modprobe distworker",
			   "it is installed, but not loaded: this kernel takes signed modules only "
			   "(module.sig_enforce, or Secure Boot)");
	else if (module_installed(kernel.release))
		doctor_say(visit, DW_VERDICT_WARN, "module", "modprobe distworker",
			   "it is installed for this kernel, but not loaded");
	else {
		text_format(remedy, sizeof(remedy),
			 "make install, dkms install distworker/%s, modprobe distworker "
			 "(README: \"Install\")",
			 DW_VERSION);
		doctor_say(visit, DW_VERDICT_WARN, "module", remedy,
			   "it is not installed for this kernel (%s)", kernel.release);
	}
}

static void module_refused(struct visit *visit, int error)
{
	char remedy[256], gid[16], of[64];
	struct group *group;
	struct stat node;

	if ((error != EACCES && error != EPERM) || stat(DEVICE, &node)) {
		doctor_say(visit, DW_VERDICT_WARN, "module",
			   "unload and load the module; dmesg tells more",
			   DEVICE " cannot be opened: %s", strerror(error));
		return;
	}
	snprintf(gid, sizeof(gid), "%u", node.st_gid);
	group = getgrgid(node.st_gid);
	text_copy(of, sizeof(of), group ? group->gr_name : gid);
	if (node.st_gid && (node.st_mode & 060) == 060)
		text_format(remedy, sizeof(remedy),
			 "join the group of " DEVICE ": usermod -aG %s USER, and log in again", of);
	else
		snprintf(remedy, sizeof(remedy),
			 "install the udev rule (99-distworker.rules), then udevadm trigger "
			 "--name-match=distworker: it gives the node to a group");
	doctor_say(visit, DW_VERDICT_WARN, "module", remedy,
		   "no permission to open " DEVICE ", which is group %s's with mode %04o", of,
		   node.st_mode & 0777);
}

static void check_module(struct visit *visit)
{
	struct dw_provider_info info = DW_OPTIONS(dw_provider_info);
	char version[64];
	int fd;

	if (access(DEVICE, F_OK)) {
		module_absent(visit);
	} else {
		fd = open(DEVICE, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			module_refused(visit, errno);
		else
			close(fd);
		if (fd >= 0 && dw_provider_query(&info))
			doctor_say(visit, DW_VERDICT_WARN, "module", "", "%s", dw_strerror_last());
		else if (fd >= 0 && info.module_abi != DISTWORKER_ABI_VERSION)
			doctor_say(
				visit, DW_VERDICT_WARN, "module",
				"install module and library from one release",
				"it speaks ABI version %u, the library version %d: it is not used",
				info.module_abi, DISTWORKER_ABI_VERSION);
		else if (fd >= 0)
			doctor_say(visit, DW_VERDICT_OK, "module", "", "loaded, version %s, ABI %u",
				   first_line("/sys/module/distworker/version", version,
					      sizeof(version)) ?
					   version :
					   "unknown",
				   info.module_abi);
	}
	info = DW_OPTIONS(dw_provider_info);
	if (dw_provider_query(&info))
		doctor_say(visit, DW_VERDICT_FAIL, "provider",
			   "unset DW_PROVIDER, or set it to auto or futex", "%s",
			   dw_strerror_last());
	else
		doctor_say(visit, DW_VERDICT_OK, "provider", "", "%s: %s",
			   info.provider == DW_PROVIDER_KERNEL ? "kernel" : "futex", info.reason);
	if (info.provider != DW_PROVIDER_KERNEL)
		doctor_say(visit, DW_VERDICT_OK, "gain", "",
			   "the module would add: waking many children with one call, waking and "
			   "sleeping in one, and the kernel's own report of a death");
}

/* ------------------------------------------------------------------- kernel */

static void check_calls(struct visit *visit)
{
	uint32_t word = 0;
	struct timespec soon = { 0 };
	int fd;

	if (syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) < 0)
		doctor_say(visit, DW_VERDICT_FAIL, "futex",
			   "allow futex(2) in the sandbox's filter", "futex(2) does not work: %s",
			   strerror(errno));
	else if (syscall(SYS_futex, &word, FUTEX_WAIT, 1, &soon, NULL, 0) < 0 && errno != EAGAIN)
		doctor_say(visit, DW_VERDICT_FAIL, "futex", "", "futex(2) does not wait: %s",
			   strerror(errno));
	else
		doctor_say(visit, DW_VERDICT_OK, "futex", "", "works");
	fd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (fd < 0)
		doctor_say(visit, DW_VERDICT_FAIL, "pidfd",
			   "a kernel from 5.3 on, or another sandbox filter",
			   "pidfd_open(2) does not work: %s", strerror(errno));
	else
		doctor_say(visit, DW_VERDICT_OK, "pidfd", "",
			   "works: deaths of children are seen at once");
	if (fd >= 0)
		close(fd);
}

static void check_cpus(struct visit *visit)
{
	cpu_set_t set;
	long online = sysconf(_SC_NPROCESSORS_ONLN);
	int usable = sched_getaffinity(0, sizeof(set), &set) ? (int)online : CPU_COUNT(&set);

	if (usable == 1)
		doctor_say(visit, DW_VERDICT_WARN, "CPUs",
			   online > 1 ? "start it without taskset" : "",
			   "one of %ld is usable: parent and children take turns", online);
	else
		doctor_say(visit, DW_VERDICT_OK, "CPUs", "", "%d of %ld are usable", usable,
			   online);
}

/* ------------------------------------------------------------------- limits */

static void check_limit(struct visit *visit, int resource, const char *subject, rlim_t wanted,
			const char *remedy)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit))
		return;
	if (limit.rlim_cur == RLIM_INFINITY)
		doctor_say(visit, DW_VERDICT_OK, subject, "", "unlimited");
	else if (limit.rlim_cur < wanted)
		doctor_say(visit, DW_VERDICT_WARN, subject, remedy,
			   "the limit is %ju, large trees need %ju", (uintmax_t)limit.rlim_cur,
			   (uintmax_t)wanted);
	else
		doctor_say(visit, DW_VERDICT_OK, subject, "", "the limit is %ju",
			   (uintmax_t)limit.rlim_cur);
}

static void check_pids(struct visit *visit)
{
	char line[512], path[600], value[64];
	FILE *file = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3))
			continue;
		text_format(path, sizeof(path), "/sys/fs/cgroup%s/pids.max", line + 3);
		found = first_line(path, value, sizeof(value));
	}
	if (file)
		fclose(file);
	if (found && strcmp(value, "max") && strtoull(value, NULL, 10) < 256)
		doctor_say(visit, DW_VERDICT_WARN, "pids", "raise pids.max (systemd: TasksMax=)",
			   "the control group allows %s processes and threads", value);
}

/* ---------------------------------------------------------------- hierarchy */

static int do_nothing(const struct dw_args *args, void *context)
{
	(void)args, (void)context;
	return 0;
}

static int submit_nothing(struct dw_orch *orch, const struct dw_args *args,
			  const struct dw_config *config, void *context)
{
	struct dw_args *none = NULL;
	int result = dw_args_create(&none);

	(void)args, (void)config;
	if (!result)
		result = dw_submit(orch, *(dw_callable *)context, none, NULL, NULL);
	dw_args_destroy(none);
	return result;
}

/*
 * A node with one sub worker and the default sizes comes up and runs a task: 0, or -errno with a
 * text.
 */
static int try_tree(enum dw_provider wanted, uint32_t *used, bool *up)
{
	struct dw_worker_options options = DW_OPTIONS(dw_worker_options);
	struct dw_engine_stats stats = DW_OPTIONS(dw_engine_stats);
	struct dw_worker *node = NULL;
	dw_callable nothing;
	char text[512];
	int result;

	options.subs = 1;
	options.provider = wanted;
	result = dw_worker_create(DW_LEVEL_NODE, &options, &node);
	if (!result)
		result = dw_callable_register_sub(node, "nothing", do_nothing, NULL, &nothing);
	if (!result)
		result = dw_worker_init(node);
	*up = !result;
	if (!result && !dw_worker_engine_stats(node, &stats))
		*used = stats.provider;
	if (!result)
		result = dw_worker_run(node, submit_nothing, NULL, NULL, &nothing);
	text_copy(text, sizeof(text), dw_strerror_last());
	dw_worker_destroy(node);
	if (result)
		text_copy(tree_text, sizeof(tree_text), text);
	return result;
}

/*
 * A tree tries everything that trees need. Address space is not asked for by itself: what the
 * kernel's accounting allows for one kind of mapping it may refuse for another.
 */
static void check_tree(struct visit *visit)
{
	struct dw_provider_info info = DW_OPTIONS(dw_provider_info);
	uint32_t used = DW_PROVIDER_FUTEX;
	char overcommit[32];
	bool up;

	if (try_tree(DW_PROVIDER_AUTO, &used, &up)) {
		doctor_say(
			visit, DW_VERDICT_FAIL, "tree",
			up ? "" :
			first_line("/proc/sys/vm/overcommit_memory", overcommit,
				   sizeof(overcommit)) &&
					*overcommit == '2' ?
			     "if memory is missing: sysctl vm.overcommit_memory=0, or smaller "
			     "heap rings and arena" :
			     "raise the limit that is named, or take smaller heap rings and arena",
			"a node with one sub worker %s: %s",
			up ? "comes up, and cannot run a task" : "does not come up", tree_text);
		return;
	}
	doctor_say(visit, DW_VERDICT_OK, "tree", "",
		   "a node with one sub worker comes up and runs a task (%s provider)",
		   used == DW_PROVIDER_KERNEL ? "kernel" : "futex");
	if (used == DW_PROVIDER_KERNEL || dw_provider_query(&info) ||
	    info.provider != DW_PROVIDER_KERNEL)
		return;
	/* The module is there, and the tree did without it. */
	if (try_tree(DW_PROVIDER_KERNEL, &used, &up))
		doctor_say(visit, DW_VERDICT_WARN, "tree", "",
			   "the module is there, and trees use futexes: %s", tree_text);
}

static void check_shm(struct visit *visit)
{
	struct statvfs fs;
	int fd = memfd_create("distworker-doctor", MFD_CLOEXEC);

	if (fd < 0)
		doctor_say(visit, DW_VERDICT_FAIL, "memfd",
			   "allow memfd_create(2) in the sandbox's filter",
			   "memfd_create(2) does not work: %s", strerror(errno));
	else
		close(fd);
	if (statvfs("/dev/shm", &fs))
		doctor_say(visit, DW_VERDICT_WARN, "/dev/shm", "mount -t tmpfs tmpfs /dev/shm",
			   "it is not there: %s", strerror(errno));
	else if ((uint64_t)fs.f_bavail * fs.f_frsize < 64ull << 20)
		doctor_say(visit, DW_VERDICT_WARN, "/dev/shm",
			   "mount -o remount,size=50% /dev/shm "
			   "(docker: --shm-size)",
			   "only %llu MiB are free",
			   (unsigned long long)fs.f_bavail * fs.f_frsize >> 20);
	else
		doctor_say(visit, DW_VERDICT_OK, "/dev/shm", "", "%llu MiB are free",
			   (unsigned long long)fs.f_bavail * fs.f_frsize >> 20);
}

static void check_drivers(struct visit *visit)
{
	struct driver *drivers;
	bool sim = false;
	size_t count;
	int err = drivers_find(&drivers, &count);

	if (err)
		doctor_say(visit, DW_VERDICT_WARN, "drivers", "",
			   "chip drivers cannot be listed: %s", strerror(-err));
	for (size_t i = 0; i < count; i++) {
		char subject[80];

		text_fit(subject, sizeof(subject), drivers[i].name);
		sim |= !drivers[i].error[0] && !strcmp(drivers[i].name, "sim");
		if (drivers[i].error[0])
			doctor_say(visit, DW_VERDICT_WARN, subject, "", "%s", drivers[i].error);
		else
			doctor_say(visit, DW_VERDICT_OK, subject, "", "chip driver, %zu device%s",
				   drivers[i].devices, drivers[i].devices == 1 ? "" : "s");
	}
	if (!sim)
		doctor_say(visit, DW_VERDICT_WARN, "drivers",
			   "install distworker whole, or set DW_CHIP_PATH",
			   "the driver sim is not found: no simulated chips");
	drivers_release(drivers, count);
}

static void check_machine(struct visit *visit)
{
	check_version(visit);
	check_module(visit);
	check_calls(visit);
	check_cpus(visit);
	check_limit(visit, RLIMIT_NOFILE, "open files", FILES_WANTED, "ulimit -n 4096");
	check_limit(visit, RLIMIT_NPROC, "processes", 512, "ulimit -u 4096");
	check_pids(visit);
	check_shm(visit);
	check_tree(visit);
	check_drivers(visit);
}

static error_t parse(int key, char *text, struct argp_state *state)
{
	struct doctor_options *options = state->input;

	switch (key) {
	case 'j':
		options->json = true;
		break;
	case 'h':
		options->host = text;
		break;
	case 'k':
		options->key = text;
		break;
	case 'u':
		options->user = text;
		break;
	case 's':
		options->ssh = true;
		break;
	case 't':
		if (tool_seconds(text, &options->timeout) || options->timeout < 0.1 ||
		    options->timeout > 1e9)
			argp_error(state, "--timeout is \"%s\"; it should be 0.1 seconds or more",
				   text);
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "doctor takes no argument, \"%s\" is one", text);
		break;
	case ARGP_KEY_END:
		if (!options->host &&
		    (options->key || options->user || options->ssh || options->timeout > 0))
			argp_error(state, "--key, --user, --ssh and --timeout are for --host");
		if (options->ssh && options->key)
			argp_error(state, "--ssh and --key exclude each other: the node that ssh "
					  "starts gets a key of its own");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp_option doctor_options[] = {
	{ "json", 'j', NULL, 0, "as one JSON list", 0 },
	{ "host", 'h', "ADDRESS[:PORT]", 0,
	  "the way to a node on another host, and the node, instead of this machine", 1 },
	{ "key", 'k', "FILE", 0, "the key of that node (DW_HOST_KEY names it)", 1 },
	{ "user", 'u', "NAME", 0, "the user that the node should serve as", 1 },
	{ "ssh", 's', NULL, 0,
	  "start a node there first, as `run --hosts` does (--host USER@ADDRESS is fine "
	  "then)",
	  1 },
	{ "timeout", 't', "SECONDS", 0, "for each answer (5)", 1 },
	{ 0 },
};

const struct argp doctor_argp = {
	.options = doctor_options,
	.parser = parse,
	.doc = "Check this machine for everything that a hierarchy needs, or with --host "
	       "the way to another one, and suggest a remedy for each problem.\vOK: fine. "
	       "WARN: it works, but less well. FAIL: hierarchies will not work.\n\n"
	       "Exit status: 0 nothing failed, 6 a line says FAIL, 2 usage.\n\n"
	       "Example:\n  distworker doctor\n  "
	       "distworker doctor --host b --key ~/.distworker-key\n",
};

int verb_doctor(int argc, char **argv)
{
	struct doctor_options given = { 0 };
	struct visit visit = { 0 };
	int status = TOOL_OK;

	argp_parse(&doctor_argp, argc, argv, 0, NULL, &given);
	if (given.json && tool_json_only())
		return TOOL_SYSTEM;
	if (given.json)
		visit.json = json_object_new_array();
	if (given.host)
		status = doctor_host(&visit, &given);
	else
		check_machine(&visit);
	if (visit.json) {
		fprintf(tool_results(), "%s\n",
			json_object_to_json_string_ext(visit.json, JSON_STYLE));
		json_object_put(visit.json);
	}
	if (status)
		return status;
	return visit.worst == DW_VERDICT_FAIL ? TOOL_UNHEALTHY : TOOL_OK;
}
