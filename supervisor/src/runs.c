/* The executions there are, from request to end. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

struct run *runs;
int highest_fd = 2;
static unsigned count;

int keep_fd(int fd) {
    if (fd > highest_fd) highest_fd = fd;
    return fd;
}

void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct run *run_find(uint32_t id) {
    struct run *run = runs;
    while (run && run->id != id) run = run->next;
    return run;
}

struct run *run_new(uint32_t id) {
    struct run *run = count < MAX_RUNS ? calloc(1, sizeof *run) : NULL;
    if (!run) return NULL;
    run->id = id;
    run->blob = run->report = run->in = -1;
    for (int stream = 0; stream < STREAMS; stream++) {
        run->out[stream] = -1;
        run->credit[stream] = OUTPUT_WINDOW;
    }
    run->next = runs;
    runs = run;
    count++;
    return run;
}

void run_free(struct run *run) {
    struct run **at = &runs;
    while (*at != run) at = &(*at)->next;
    *at = run->next;
    count--;
    if (run->slot) run->slot->run = NULL;
    streams_drop(run);
    close_fd(&run->blob);
    free(run->input);
    free(run->request.argv);
    free(run->request.env);
    free(run->text);
    free(run);
}

bool nobody_runs(void) {
    for (struct run *run = runs; run; run = run->next)
        if (!run->connection && (run->state == RUNNING || run->state == EXITED)) return false;
    return true;
}

/* How long a program that exits as a shell does after a killed child waits for whose it was. */
#define CLAIM_MS 500

static bool is_killed(int status) { return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL; }

static bool is_as_killed(int status) {
    return WIFEXITED(status) && WEXITSTATUS(status) == 128 + SIGKILL;
}

static bool others_run(const struct run *run) {
    for (struct run *other = runs; other; other = other->next)
        if (other != run && !other->connection && other->state == RUNNING) return true;
    return false;
}

/* A kill for memory is the one's that died of SIGKILL; it is this one's if nobody else's. */
static bool still_claims(struct run *run) {
    if (!run->claims_until) return false;
    if (memory_kills_left() && others_run(run) && now_ms() < run->claims_until) return true;
    run->out_of_memory = memory_claim();
    run->claims_until = 0;
    return false;
}

void run_exited(struct run *run, int status, uint64_t cpu_us, uint64_t peak_kib) {
    if (run->state != RUNNING) return;
    run->state = EXITED;
    run->status = status;
    run->cpu_us = cpu_us;
    run->peak_kib = peak_kib;
    if (!run->doomed && is_killed(status)) run->out_of_memory = memory_claim();
    if (!run->doomed && is_as_killed(status)) run->claims_until = now_ms() + CLAIM_MS;
    orphans_due = !subreaper;
    stream_settle(run);
}

void run_kill(struct run *run) {
    if (run->connection) {
        run_free(run);
        return;
    }
    if (run->state < RUNNING) {
        run->status = SIGKILL;
        run->state = EXITED;
        memset(run->remain, 0, sizeof run->remain);
    }
    run->doomed = true;
    close_fd(&run->in);
}

/* Whether nothing of its tree is left. */
static bool is_gone(const struct run *run) {
    if (run->slot) return false;
    if (run->keeper) return false;
    if (subreaper) return true;
    return run->doomed ? run->rounds && !run->lingers : !orphans_due && !orphans_of(run->id);
}

static void send_end(struct run *run) {
    uint8_t body[40];
    put32(body, (uint32_t)run->status);
    put32(body + 4, run->out_of_memory ? 1 : 0);
    put64(body + 8, run->dropped[0]);
    put64(body + 16, run->dropped[1]);
    put64(body + 24, run->cpu_us);
    put64(body + 32, run->peak_kib);
    wire_send(K_ENDED, 0, run->id, body, sizeof body);
    run->state = ENDED;
    close_fd(&run->in);
}

static bool all_is_read(const struct run *run) {
    for (int stream = 0; stream < STREAMS; stream++)
        if (run->remain[stream] > 0) return false;
    return true;
}

static bool all_closed(const struct run *run) {
    for (int stream = 0; stream < STREAMS; stream++)
        if (run->out[stream] >= 0) return false;
    return true;
}

void run_finish(struct run *run) {
    if (run->connection) {
        if (run->out[0] < 0 && run->in < 0) {
            wire_send(K_GONE, 0, run->id, NULL, 0);
            run_free(run);
        }
        return;
    }
    /* Not every kernel says that a terminal has hung up: what it holds is asked for. */
    if (run->state == EXITED && run->terminal)
        while (stream_pull(run, 0)) {}
    /* Of what was ended, nothing may be left when that is reported (D6). */
    if (run->state == EXITED && all_is_read(run) &&
        (!run->doomed || is_gone(run) || !run->program) && !still_claims(run))
        send_end(run);
    /* What still prints is read and forgotten, so that it does not end of a broken pipe. */
    bool silent = run->doomed || all_closed(run);
    if (run->state == ENDED && silent && is_gone(run)) run_free(run);
}

static void take_report(struct run *run, const struct report *report) {
    switch (report->what) {
        case R_STARTED: run_started(run, report->value); break;
        case R_ENDED: run_exited(run, report->value, report->cpu_us, report->peak_kib); break;
        default: {
            static const uint32_t why[] = {
                [R_NOWHERE] = NO_FOLDER, [R_NOBODY] = NO_USER, [R_NOFORK] = NO_PROCESS,
                [R_NOTAPART] = NO_RESOURCES};
            uint8_t body[8];
            put32(body, report->what <= R_NOTAPART ? why[report->what] : BAD_REQUEST);
            put32(body + 4, (uint32_t)report->value);
            wire_send(K_FAILED, 0, run->id, body, sizeof body);
            run->state = ENDED;
        }
    }
}

/* Each report is one write, smaller than what a pipe splits. */
void run_report(struct run *run) {
    struct report report;
    ssize_t got;
    while (run->report >= 0 && (got = read(run->report, &report, sizeof report)) != -1) {
        if (got != (ssize_t)sizeof report) {
            close_fd(&run->report);
            return;
        }
        take_report(run, &report);
    }
}

static void keeper_ended(struct run *run, int status, const struct rusage *used) {
    run_report(run);
    run->keeper = 0;
    if (run->program && run->state == RUNNING) {
        uint64_t cpu = (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000u +
                       (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
        bool direct = !subreaper || run->request.flags & F_BUILTIN;
        if (!direct) { /* a program has killed its keeper: its tree ends with it */
            strays = true;
            run->doomed = true;
            status = SIGKILL;
        }
        run_exited(run, status, cpu, (uint64_t)used->ru_maxrss);
    } else if (run->state == RUNNING) {
        strays = true;
        run->program = -1;
        run->doomed = true;
        run_exited(run, SIGKILL, 0, 0);
    }
}

static void slot_reaped(struct slot *slot, pid_t pid) {
    bool direct = !subreaper;
    warm_report(slot);
    if (pid == slot->keeper && !direct) {
        if (slot->interpreter) { /* a program has killed the keeper */
            strays = true;
            warm_ended(slot);
        }
        warm_gone(slot);
    } else if (direct && pid == slot->interpreter) {
        warm_ended(slot);
        warm_gone(slot);
    }
}

static void reaped(pid_t pid, int status, const struct rusage *used) {
    if (is_spare(pid)) spare_ended();
    for (struct run *run = runs; run; run = run->next)
        if (run->keeper == pid) {
            keeper_ended(run, status, used);
            return;
        }
    for (struct slot *slot = slots; slot; slot = slot->next)
        if (slot->keeper == pid || slot->interpreter == pid) {
            slot_reaped(slot, pid);
            return;
        }
}

void reap(void) {
    int status;
    struct rusage used;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | WUNTRACED, &used)) > 0) {
        if (WIFSTOPPED(status)) {
            /* What reports is not to be stopped; programs that are this process's own may be. */
            if (subreaper || warm_is(pid)) kill(pid, SIGCONT);
            continue;
        }
        reaped(pid, status, &used);
    }
}
