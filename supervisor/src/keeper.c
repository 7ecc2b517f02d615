/* A keeper: the parent of one program, which adopts whatever the program leaves behind.
 *
 * It lives until no descendant is left, so its end is the proof that a tree is gone. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

#define TEXT_FD 9
/* What a next execution needs: a keeper and its program. */
#define PROCESS_ROOM 2u
#define RETRIES 100
#define RETRY_US 5000

extern char **environ;

/* Close all descriptors but these; they must be in order, smallest first. */
void close_all_but(const int *keep, int count) {
    int from = 0;
    for (int i = 0; i <= count; i++) {
        int to = i < count ? keep[i] - 1 : highest_fd;
        if (from <= to && syscall(436 /* close_range */, from,
                                  i < count ? (unsigned)to : ~0u, 0) < 0)
            for (int fd = from; fd <= to; fd++) close(fd);
        if (i < count) from = keep[i] + 1;
    }
}

static const char *value_of(char **env, const char *name) {
    size_t length = strlen(name);
    for (; *env; env++)
        if (!strncmp(*env, name, length) && (*env)[length] == '=') return *env + length + 1;
    return NULL;
}

/* The sandbox's own environment with the request's on top, in memory that is never freed. */
static char **environment(const struct request *request) {
    size_t base = 0, count = 0;
    while (environ[base]) base++;
    char **all = calloc(base + request->envc + 1, sizeof *all);
    if (!all) return environ;
    for (size_t i = 0; i < base; i++) {
        char *equals = strchr(environ[i], '=');
        size_t length = equals ? (size_t)(equals - environ[i]) + 1 : 0;
        bool replaced = false;
        for (uint32_t k = 0; k < request->envc && !replaced; k++)
            replaced = length && !strncmp(request->env[k], environ[i], length);
        if (!replaced) all[count++] = environ[i];
    }
    for (uint32_t k = 0; k < request->envc; k++) all[count++] = request->env[k];
    return all;
}

/* A script without `#!` is a shell's, as every shell and execvp have it. */
static void execute(const char *path, char **argv, char **env) {
    execve(path, argv, env);
    if (errno != ENOEXEC) return;
    size_t count = 0;
    while (argv[count]) count++;
    char **words = calloc(count + 2, sizeof *words);
    if (!words) return;
    words[0] = "sh";
    words[1] = (char *)path;
    for (size_t i = 1; i < count; i++) words[i + 1] = argv[i];
    execve("/bin/sh", words, env);
    errno = ENOEXEC;
}

static void search(char **argv, char **env) {
    if (strchr(argv[0], '/')) {
        execute(argv[0], argv, env);
        return;
    }
    const char *path = value_of(env, "PATH");
    if (!path) path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    static char full[4096 + 256];
    int found = ENOENT;
    while (true) {
        size_t length = strcspn(path, ":");
        if (length < 4096 && strlen(argv[0]) < 256) {
            snprintf(full, sizeof full, "%.*s%s%s", (int)length, path, length ? "/" : "", argv[0]);
            execute(full, argv, env);
            if (errno == EACCES || errno == ENOEXEC) found = EACCES;
            else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) return;
        }
        if (!path[length]) break;
        path += length + 1;
    }
    errno = found;
}

/* What the shells say, in their words and codes (D2). */
static _Noreturn void not_executed(const char *name, int error) {
    const char *why = error == ENOENT ? "not found" : strerror(error);
    dprintf(2, "stockade: %s: %s\n", name, why);
    _exit(error == ENOENT || error == ENOTDIR || error == ELOOP ? 127 : 126);
}

/* Shared with the child, which runs in this process's memory until it executes. */
static volatile int child_stage, child_error;

static _Noreturn void refused(int stage) {
    child_error = errno;
    child_stage = stage;
    _exit(0);
}

/* The group first: without privileges none can be taken. */
bool take_user(const struct request *request) {
    if (!(request->flags & F_USER)) return true;
    if (geteuid() == 0 && setgroups(0, NULL) < 0) return false;
    return setresgid(request->gid, request->gid, request->gid) == 0 &&
           setresuid(request->uid, request->uid, request->uid) == 0;
}

/* At the process limit, which programs can reach and leave behind, the next one must still
 * start: so programs have a little less of it than this process. */
static void leave_room(void) {
    struct rlimit most;
    if (getrlimit(RLIMIT_NPROC, &most) < 0 || most.rlim_cur == RLIM_INFINITY) return;
    if (most.rlim_cur <= 2 * PROCESS_ROOM) return;
    most.rlim_cur -= PROCESS_ROOM;
    most.rlim_max = most.rlim_cur;
    setrlimit(RLIMIT_NPROC, &most);
}

static _Noreturn void child(const struct plan *plan, char **env) {
    const struct request *request = plan->request;
    setsid();
    if (plan->terminal >= 0) ioctl(plan->terminal, TIOCSCTTY, 0);
    dup2(plan->in, 0);
    dup2(plan->out, 1);
    dup2(plan->err, 2);
    if (plan->blob >= 0) dup2(plan->blob, TEXT_FD);
    if (plan->warm) {
        dup2(plan->socket, 3);
        dup2(plan->source, 4);
        if (apart_fd >= 0) dup2(apart_fd, 5);
    }
    leave_room();
    if (!(request->flags & F_SHOWN) && !apart_enter()) refused(R_NOTAPART);
    if (!take_user(request)) refused(R_NOBODY);
    if (chdir(request->cwd) < 0) refused(R_NOWHERE);
    child_signals();
    search(request->argv, env);
    not_executed(request->argv[0], errno);
}

pid_t program_start(const struct plan *plan, int *stage) {
    char **env = environment(plan->request);
    child_stage = child_error = 0;
    pid_t pid = vfork();
    if (pid == 0) child(plan, env);
    if (env != environ) free(env);
    if (pid < 0) {
        *stage = R_NOFORK;
        return -1;
    }
    if (child_stage) {
        waitpid(pid, NULL, 0);
        *stage = child_stage;
        errno = child_error;
        return -1;
    }
    return pid;
}

static void send_report(int fd, int what, int value, const struct rusage *used) {
    struct report report = {.what = what, .value = value};
    if (used) {
        report.cpu_us = (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000u +
                        (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
        report.peak_kib = (uint64_t)used->ru_maxrss;
    }
    if (write(fd, &report, sizeof report) < 0) _exit(1); /* the supervisor has ended */
}

_Noreturn void keeper_main(const struct plan *plan) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    setsid(); /* out of reach of who signals a group */
    int stage = 0;
    pid_t program = program_start(plan, &stage);
    /* At the process limit, what ends just now makes room. */
    for (int i = 0; program < 0 && stage == R_NOFORK && errno == EAGAIN && i < RETRIES; i++) {
        usleep(RETRY_US);
        program = program_start(plan, &stage);
    }
    if (program < 0) {
        send_report(plan->report, stage, errno, NULL);
        _exit(0);
    }
    send_report(plan->report, R_STARTED, program, NULL);
    /* Its ends of the program's streams must not keep them open. */
    close_all_but(&plan->report, 1);
    while (true) {
        int status;
        struct rusage used;
        pid_t ended = wait4(-1, &status, plan->warm ? WUNTRACED : 0, &used);
        if (ended > 0 && WIFSTOPPED(status)) {
            if (ended == program) kill(ended, SIGCONT); /* it reports, and no program stops it */
        } else if (ended == program) send_report(plan->report, R_ENDED, status, &used);
        if (ended < 0 && errno != EINTR) _exit(0);
    }
}
