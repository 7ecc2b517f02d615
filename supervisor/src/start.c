/* From a request to a running program. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

/* How long a request waits while the process limit is reached: programs come and go. */
#define RETRY_MS 500
int nothing_fd = -1;

static int weight_fd = -1;
static char weight_own[16] = "0";
static const char *weight_program = "500";

/* A program weighs more for the out-of-memory killer than the supervisor does, unless that weighs
 * more already, as in a pod. The file is opened while it still may be; children inherit what
 * stands in it. */
void weight_open(void) {
    weight_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (weight_fd < 0) return;
    keep_fd(weight_fd);
    ssize_t got = pread(weight_fd, weight_own, sizeof weight_own - 1, 0);
    if (got <= 0) close_fd(&weight_fd);
    else weight_own[got] = 0;
    if (got > 0 && atoi(weight_own) >= 500) weight_program = weight_own;
}

void child_weight(bool program) {
    static bool now;
    const char *text = program ? weight_program : weight_own;
    if (now == program || weight_program == weight_own) return;
    now = program;
    if (weight_fd >= 0 && pwrite(weight_fd, text, strlen(text), 0) < 0) return;
}

/* A program that runs in an interpreter which could be reached while it waited. */
void weight_again(pid_t pid) {
    char path[64];
    if (weight_fd < 0 || !subreaper) return;
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return; /* it hides: nobody has reached it, either */
    (void)!write(fd, weight_program, strlen(weight_program));
    close(fd);
}

static uint32_t ignored; /* of the signals below 32 */

/* Process 1 hears of none that it has no handler for; another ignores what ends others. What
 * was ignored already when this process started is not for programs, either. */
void ignore_signals(void) {
    static const int usual[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
                                SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU};
    struct sigaction found;
    for (int number = 1; number < 32; number++)
        if (sigaction(number, NULL, &found) == 0 && found.sa_handler == SIG_IGN)
            ignored |= 1u << number;
    ignored |= 1u << SIGPIPE;
    for (size_t i = 0; !alone && i < sizeof usual / sizeof *usual; i++)
        ignored |= 1u << usual[i];
    for (int number = 1; number < 32; number++)
        if (ignored & 1u << number) signal(number, SIG_IGN);
}

/* As a new program expects them; handlers end with its execution, and SIGCHLD is blocked. */
void child_signals(void) {
    struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int number = 1; number < 32; number++)
        if (ignored & 1u << number) sigaction(number, &usual, NULL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void run_fail(struct run *run, uint32_t why, int error) {
    uint8_t body[8];
    put32(body, why);
    put32(body + 4, (uint32_t)error);
    wire_send(K_FAILED, 0, run->id, body, sizeof body);
    run_free(run);
}

static bool pipe_to(int *ours, int *theirs, bool reading) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return false;
    *ours = keep_fd(ends[reading ? 0 : 1]);
    *theirs = keep_fd(ends[reading ? 1 : 0]);
    fcntl(*ours, F_SETFL, O_NONBLOCK);
    return true;
}

static bool terminal_make(struct run *run, struct plan *plan) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0) return false;
    run->out[0] = keep_fd(master);
    char name[64];
    if (grantpt(master) < 0 || unlockpt(master) < 0 || ptsname_r(master, name, sizeof name))
        return false;
    plan->terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (plan->terminal < 0) return false;
    keep_fd(plan->terminal);
    struct winsize size = {.ws_row = (unsigned short)run->request.rows,
                           .ws_col = (unsigned short)run->request.columns};
    ioctl(master, TIOCSWINSZ, &size);
    plan->in = plan->out = plan->err = plan->terminal;
    int copy = fcntl(master, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) return false;
    run->in = keep_fd(copy);
    run->terminal = true;
    return true;
}

/* A program may open its own streams anew (/dev/stdout, /dev/tty): they are its user's. */
static bool streams_give(const struct request *request, const struct plan *plan) {
    const int all[] = {plan->in, plan->out, plan->err};
    if (!(request->flags & F_USER) || geteuid() != 0) return true;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] >= 0 && all[i] != nothing_fd && fchown(all[i], request->uid, request->gid) < 0)
            return false;
    return true;
}

/* No pipe, which other programs could open by its name in /proc. */
static bool shown_make(struct run *run, struct plan *plan) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return false;
    run->out[SHOWN_STREAM] = keep_fd(ends[0]);
    plan->shown = keep_fd(ends[1]);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return true;
}

static bool pipes_make(struct run *run, struct plan *plan) {
    uint32_t flags = run->request.flags;
    if (flags & F_NAMED && !shown_make(run, plan)) return false;
    if (flags & F_INPUT) {
        if (!pipe_to(&run->in, &plan->in, false)) return false;
    } else plan->in = nothing_fd;
    if (!pipe_to(&run->out[0], &plan->out, true)) return false;
    if (flags & F_MERGE) {
        plan->err = plan->out;
        return true;
    }
    return pipe_to(&run->out[1], &plan->err, true);
}

bool streams_make(struct run *run, struct plan *plan) {
    bool made = run->request.flags & F_PTY ? terminal_make(run, plan) : pipes_make(run, plan);
    return made && streams_give(&run->request, plan);
}

void plan_close(struct plan *plan) {
    int terminal = plan->terminal;
    close_fd(&plan->shown);
    if (plan->err != plan->out) close_fd(&plan->err);
    if (plan->out != terminal) close_fd(&plan->out);
    if (plan->in != terminal && plan->in != nothing_fd) close_fd(&plan->in);
    close_fd(&plan->terminal);
    close_fd(&plan->report);
}

/* A command of the supervisor's own: the child is the program, and needs no other. */
static _Noreturn void builtin_child(const struct plan *plan) {
    dup2(plan->in, 0);
    dup2(plan->out, 1);
    dup2(plan->err, 2);
    const int keep[] = {0, 1, 2};
    close_all_but(keep, 3);
    child_signals();
    signal(SIGPIPE, SIG_IGN);
    if (!take_user(plan->request)) _exit(1);
    if (chdir(plan->request->cwd) < 0 && chdir("/") < 0) _exit(1);
    _exit(builtin_main((int)plan->request->argc, plan->request->argv));
}

/* With a keeper where the kernel lets one adopt; else the program is this process's child. */
static pid_t child_of(struct run *run, struct plan *plan, int *stage) {
    *stage = 0;
    if (run->request.flags & F_BUILTIN) {
        child_weight(true);
        pid_t pid = fork();
        if (pid == 0) builtin_child(plan);
        *stage = R_NOFORK;
        return pid;
    }
    if (!subreaper) {
        child_weight(true);
        return program_start(plan, stage);
    }
    if (!pipe_to(&run->report, &plan->report, true)) {
        *stage = 0;
        return -1;
    }
    pid_t pid = spare_take(run, plan);
    if (pid) return pid;
    child_weight(true);
    pid = fork();
    if (pid == 0) keeper_main(plan);
    *stage = R_NOFORK;
    return pid;
}

void streams_drop(struct run *run) {
    close_fd(&run->in);
    for (int stream = 0; stream < STREAMS; stream++) close_fd(&run->out[stream]);
    close_fd(&run->report);
    run->terminal = false;
}

static uint32_t why_of(int stage) {
    switch (stage) {
        case R_NOWHERE: return NO_FOLDER;
        case R_NOBODY: return NO_USER;
        case R_NOFORK: return NO_PROCESS;
        default: return NO_RESOURCES;
    }
}

/* A request that finds no process waits a little, since others may end. */
static bool wait_for_process(struct run *run, int stage) {
    if (stage != R_NOFORK || (errno != EAGAIN && errno != ENOMEM)) return false;
    if (!run->retry_until) run->retry_until = now_ms() + RETRY_MS;
    if (now_ms() >= run->retry_until) return false;
    run->state = WAITING;
    return true;
}

void run_start(struct run *run) {
    if (run->request.flags & F_AHEAD) {
        warm_ahead(run);
        return;
    }
    if (run->request.flags & (F_WARM | F_NAMED)) {
        memory_begin(nobody_runs());
        warm_start(run);
        return;
    }
    struct plan plan = {.request = &run->request, .in = -1, .out = -1, .err = -1, .shown = -1,
                        .blob = run->blob, .report = -1, .terminal = -1, .socket = -1,
                        .source = -1};
    bool made = streams_make(run, &plan);
    int stage = 0;
    pid_t pid = -1;
    if (made) {
        if (orphans_due) orphans_look();
        memory_begin(nobody_runs());
        pid = child_of(run, &plan, &stage);
        int error = errno;
        child_weight(false);
        errno = error;
    }
    int error = errno;
    plan_close(&plan);
    errno = error;
    if (pid < 0) {
        streams_drop(run);
        if (!wait_for_process(run, stage)) run_fail(run, why_of(stage), error);
        return;
    }
    close_fd(&run->blob);
    run->state = RUNNING;
    run->keeper = pid;
    if (run->report < 0) run_started(run, pid);
}

void run_started(struct run *run, pid_t pid) {
    uint8_t body[4];
    run->program = pid;
    put32(body, (uint32_t)pid);
    wire_send(K_STARTED, 0, run->id, body, sizeof body);
    run_signal(run);
}

/* Send what the host has asked for, as soon as there is somebody to hear it. */
void run_signal(struct run *run) {
    if (run->program <= 0 || !run->signal) return;
    kill(run->signals_group ? -run->program : run->program, run->signal);
    run->signal = 0;
}

/* A warm interpreter below a keeper, or as this process's child; the child's pid or -1. */
pid_t start_interpreter(struct slot *slot, const struct request *like, const char *mode,
                        int socket) {
    char *argv[] = {like->argv[0], "-c", (char *)warm_boot(), (char *)mode, NULL};
    char *env[] = {NULL};
    struct request request = {.flags = like->flags & F_USER, .uid = like->uid, .gid = like->gid,
                              .argc = 4, .argv = argv, .env = env, .cwd = "/"};
    struct plan plan = {.request = &request, .in = nothing_fd, .out = nothing_fd, .err = nothing_fd,
                        .shown = -1, .blob = -1, .report = -1, .terminal = -1, .warm = true,
                        .socket = socket, .source = warm_source_fd()};
    pid_t pid = -1;
    int stage = 0;
    child_weight(true);
    if (plan.source >= 0) {
        if (!subreaper) pid = program_start(&plan, &stage);
        else if (pipe_to(&slot->report, &plan.report, true)) {
            pid = fork();
            if (pid == 0) keeper_main(&plan);
        }
    }
    int error = errno;
    child_weight(false);
    close_fd(&plan.report);
    close_fd(&plan.source);
    if (pid < 0) close_fd(&slot->report);
    errno = error;
    return pid;
}
