/* The supervisor: one process, one connection, any number of executions.
 *
 *     supervisor serve            frames on the standard streams, until the input ends
 *     supervisor serve TIE        the same, as a child of the keeper that holds the socket TIE
 *     supervisor hold [SECONDS]   the first process of a sandbox that others come to serve
 *     supervisor keep ...         a sandbox's keeper on the host: see hostkeeper.c
 *     supervisor lend             standard streams for a named interpreter: see lend.c
 *     supervisor which NAME...    and other commands of its own: see builtin.c
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

/* How long what is not urgent may wait for something to go along with. */
#define LAZY_MS 3

static void on_child(int number) { (void)number; }

/* -- waiting ------------------------------------------------------------------------------- */

enum source { HOST_IN, HOST_OUT, LISTENER, RUN_OUT, RUN_ERR, RUN_SHOWN, RUN_IN, RUN_REPORT, SLOT };
struct watched {
    enum source source;
    uint32_t id;
    struct slot *slot;
    size_t listener;
};
static struct pollfd *polled;
static struct watched *watched;
static size_t polled_count, polled_room;

static void watch(int fd, short events, struct watched what) {
    if (fd < 0) return;
    if (polled_count == polled_room) {
        size_t more = polled_room ? 2 * polled_room : 64;
        struct pollfd *larger = realloc(polled, more * sizeof *polled);
        if (larger) polled = larger;
        struct watched *beside = realloc(watched, more * sizeof *watched);
        if (beside) watched = beside;
        if (!larger || !beside) return;
        polled_room = more;
    }
    polled[polled_count] = (struct pollfd){.fd = fd, .events = events};
    watched[polled_count++] = what;
}

static bool wants_output(const struct run *run, int stream) {
    if (run->out[stream] < 0 || run->connecting) return false;
    if (run->state == ENDED || run->doomed || run->discard[stream])
        return run->state != EXITED || run->remain[stream] > 0;
    if (run->state == EXITED && run->remain[stream] <= 0) return false;
    return run->credit[stream] > 0 && wire_room() > 0;
}

static void watch_all(void) {
    polled_count = 0;
    watch(0, POLLIN, (struct watched){.source = HOST_IN});
    if (wire_urgent()) watch(1, POLLOUT, (struct watched){.source = HOST_OUT});
    for (size_t i = 0; i < listener_count; i++)
        watch(listeners[i], POLLIN, (struct watched){.source = LISTENER, .listener = i});
    for (struct run *run = runs; run; run = run->next) {
        struct watched what = {.id = run->id};
        for (int stream = 0; stream < STREAMS; stream++) {
            what.source = RUN_OUT + stream;
            if (wants_output(run, stream)) watch(run->out[stream], POLLIN, what);
        }
        what.source = RUN_IN;
        if (run->connecting || run->input_from < run->input_to) watch(run->in, POLLOUT, what);
        what.source = RUN_REPORT;
        watch(run->report, POLLIN, what);
    }
    for (struct slot *slot = slots; slot; slot = slot->next) {
        short events = (short)(POLLIN | (slot->message_from < slot->message_to ? POLLOUT : 0));
        watch(slot->socket, events, (struct watched){.source = SLOT, .slot = slot});
        watch(slot->report, POLLIN, (struct watched){.source = SLOT, .slot = slot});
    }
}

static int patience(void) {
    int64_t wait = -1, now = now_ms();
    if (deadline) wait = deadline > now ? deadline - now : 0;
    if (strays) wait = 1;
    if (wire_pending() && !wire_urgent() && (wait < 0 || wait > LAZY_MS)) wait = LAZY_MS;
    if (orphans_due && (wait < 0 || wait > LAZY_MS)) wait = LAZY_MS;
    int64_t wake = warm_wake();
    if (wake && (wait < 0 || wait > wake - now)) wait = wake > now ? wake - now : 0;
    for (struct run *run = runs; run; run = run->next) {
        bool killing = run->doomed && (run->state == RUNNING || run->state == EXITED);
        if (killing && (wait < 0 || wait > 1)) wait = run->rounds < 2 ? 0 : 1;
        bool waiting = run->state == WAITING || (run->state == EXITED && run->claims_until);
        if (waiting && (wait < 0 || wait > 5)) wait = 5;
    }
    return wait > 1000000 ? 1000000 : (int)wait;
}

static void connected(struct run *run) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(run->in, SOL_SOCKET, SO_ERROR, &error, &size);
    run->connecting = false;
    if (error && port_again(run)) return;
    if (error) run_fail(run, NO_PORT, error);
    else {
        run_started(run, 0);
        stream_push(run);
    }
}

static void serve_run(const struct watched *what) {
    struct run *run = run_find(what->id);
    if (!run) return;
    switch (what->source) {
        case RUN_OUT:
        case RUN_ERR:
        case RUN_SHOWN: stream_pull(run, (int)what->source - RUN_OUT); break;
        case RUN_IN:
            if (run->connecting) connected(run);
            else stream_push(run);
            break;
        default: run_report(run); break;
    }
}

static bool slot_lives(const struct slot *slot) {
    for (struct slot *other = slots; other; other = other->next)
        if (other == slot) return true;
    return false;
}

static void serve_slot(struct slot *slot) {
    if (!slot_lives(slot)) return;
    if (slot->message_from < slot->message_to) warm_push(slot);
    warm_hear(slot);
    warm_report(slot);
}

static void hear_host(void) {
    struct frame frame;
    bool broken = false;
    if (!wire_fill(0)) leaving = true;
    while (!leaving && wire_next(&frame, &broken)) host_take(&frame);
    if (broken) leaving = true;
}

static void serve_ready(void) {
    bool host = false;
    for (size_t i = 0; i < polled_count; i++) {
        if (!polled[i].revents) continue;
        switch (watched[i].source) {
            case HOST_IN: host = true; break;
            case HOST_OUT: break;
            case LISTENER: port_accept(watched[i].listener); break;
            case SLOT: serve_slot(watched[i].slot); break;
            default: serve_run(&watched[i]); break;
        }
    }
    if (host) hear_host();
}

static void serve_runs(void) {
    for (struct run *next, *run = runs; run; run = next) {
        next = run->next;
        if (run->state == WAITING) run_start(run);
    }
    for (struct run *next, *run = runs; run; run = next) {
        next = run->next;
        bool there = run->program || run->slot; /* an interpreter may not have begun with it */
        if (run->doomed && (run->state == RUNNING || run->state == EXITED) && there)
            kill_round(run);
    }
    reap();
    for (struct run *next, *run = runs; run; run = next) {
        next = run->next;
        run_finish(run);
    }
}

static void kill_everything(void) {
    if (alone) _exit(0); /* the kernel ends all that is below process 1 */
    for (int round = 0; round < 200; round++) {
        bool left = false;
        for (struct run *run = runs; run; run = run->next) {
            if (run->connection || (run->state != RUNNING && run->state != EXITED)) continue;
            run->doomed = left = true;
            kill_round(run);
        }
        reap();
        for (struct run *next, *run = runs; run; run = next) {
            next = run->next;
            memset(run->remain, 0, sizeof run->remain);
            run_finish(run);
        }
        if (!left) break;
        usleep(1000);
    }
    _exit(0);
}

static _Noreturn void serve(void) {
    sigset_t children, usual;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, &usual);
    struct sigaction heard = {.sa_handler = on_child};
    sigaction(SIGCHLD, &heard, NULL);
    ignore_signals();
    fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
    fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
    while (!leaving) {
        watch_all();
        int wait = patience();
        struct timespec time = {wait / 1000, (long)(wait % 1000) * 1000000};
        int ready = ppoll(polled, polled_count, wait < 0 ? NULL : &time, &usual);
        if (ready > 0) serve_ready();
        if (ready == 0) wire_hurry();
        reap();
        serve_runs();
        strays_end();
        if (wire_urgent() && !wire_flush(1)) leaving = true;
        if (!wire_pending()) {
            warm_look();
            spare_make();
        }
        if (ready == 0 && orphans_due) {
            orphans_look();
            serve_runs();
        }
        if (deadline && now_ms() >= deadline) leaving = true;
    }
    wire_flush(1);
    kill_everything();
    _exit(0);
}

/* -- starting ------------------------------------------------------------------------------ */

static void prepare(void) {
    alone = getpid() == 1;
    /* Low descriptors are the programs': none of this process's own is ever in the way. */
    int low = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (low >= 0 && low <= FIRST_FD) low = fcntl(low, F_DUPFD_CLOEXEC, low + 1);
    if (low >= 0) nothing_fd = keep_fd(low);
    apart_make();
    /* An old gVisor takes it and does nothing; it has no word that says so, either. */
    int adopts = 0;
    subreaper = prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0 &&
                prctl(PR_GET_CHILD_SUBREAPER, &adopts, 0, 0, 0) == 0 && adopts;
    if (subreaper) prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    weight_open();
    memory_open();
    /* Programs of the same user can neither read, trace nor write to it (D16). */
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    hidden = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
}

static _Noreturn void hold(const char *seconds) {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    int64_t until = seconds ? now_ms() + 1000 * strtoll(seconds, NULL, 10) : 0;
    for (int number = 1; number < 32; number++)
        if (number != SIGCHLD && number != SIGTERM) signal(number, SIG_IGN);
    struct sigaction heard = {.sa_handler = on_child};
    sigaction(SIGCHLD, &heard, NULL);
    sigset_t children, usual;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, &usual);
    while (!until || now_ms() < until) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {}
        int64_t left = until ? until - now_ms() : 0;
        struct timespec time = {left / 1000, (long)(left % 1000) * 1000000};
        ppoll(NULL, 0, until ? &time : NULL, &usual);
    }
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc >= 2 && !strcmp(argv[1], "hold")) hold(argc > 2 ? argv[2] : NULL);
    if (argc >= 2 && !strcmp(argv[1], "keep")) return keep_main(argc - 1, argv + 1);
    if ((argc == 2 || argc == 3) && !strcmp(argv[1], "serve")) {
        if (argc == 3) tie(atoi(argv[2]));
        prepare();
        serve();
    }
    if (argc == 2 && !strcmp(argv[1], "lend")) return lend_main();
    if (argc >= 2) return builtin_main(argc - 1, argv + 1);
    fprintf(stderr, "usage: %s serve [TIE] | hold [SECONDS] | lend | keep ... | COMMAND\n",
            argv[0]);
    return 2;
}
