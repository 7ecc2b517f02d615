/* The supervisor: one process, one connection, any number of executions.
 *
 *     supervisor serve            frames on the standard streams, until the input ends
 *     supervisor serve TIE        the same, as a child of the keeper that holds the socket TIE
 *     supervisor hold [SECONDS]   the first process of a sandbox that others come to serve
 *     supervisor keep ...         a sandbox's keeper on the host: see hostkeeper.c
 *     supervisor which NAME...    and other commands of its own: see builtin.c
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

#define MAX_ORDER (4u * 1024u * 1024u)
#define HELLO_BYTES 16u
/* How long what is not urgent may wait for something to go along with. */
#define LAZY_MS 3

static bool hidden, greeted;
static int64_t deadline;  /* of the sandbox, in now_ms's time; 0: none */
static bool leaving;

static void on_child(int number) { (void)number; }

/* -- what the host says --------------------------------------------------------------------- */

static void greet(const struct frame *frame) {
    if (greeted || frame->length < HELLO_BYTES) {
        leaving = true;
        return;
    }
    greeted = true;
    wire_secret(get64(frame->body + 4));
    struct utsname name;
    uname(&name);
    uint8_t body[512] = {0};
    put32(body, WIRE_VERSION);
    put32(body + 4, (subreaper ? 1u : 0) | (hidden ? 2u : 0) | (alone ? 4u : 0));
    put32(body + 8, (uint32_t)getpid());
    put32(body + 12, (uint32_t)getuid());
    put32(body + 16, (uint32_t)getgid());
    int words = snprintf((char *)body + 20, sizeof body - 20, "%s\n%s\n%s", name.machine,
                         name.release, name.version);
    wire_send(K_HELLO_BACK, 0, 0, body, 20 + (size_t)words);
    leaving = get32(frame->body) != WIRE_VERSION;
}

static struct run *filling(uint32_t id) {
    struct run *run = run_find(id);
    if (!run && !(id & OWN_IDS)) run = run_new(id);
    return run && run->state == FILLING ? run : NULL;
}

static void refuse(uint32_t id, uint32_t why, int error) {
    uint8_t body[8];
    put32(body, why);
    put32(body + 4, (uint32_t)error);
    wire_send(K_FAILED, 0, id, body, sizeof body);
}

static void take_blob(const struct frame *frame) {
    struct run *run = filling(frame->id);
    if (!run) return;
    if (run->blob < 0) run->blob = blob_make();
    for (size_t at = 0; run->blob >= 0 && at < frame->length;) {
        ssize_t put = write(run->blob, frame->body + at, frame->length - at);
        if (put <= 0) close_fd(&run->blob);
        else at += (size_t)put;
    }
    if (run->blob < 0) run->doomed = true; /* refused with its request */
}

static void take_order(const struct frame *frame) {
    struct run *run = filling(frame->id);
    if (!run) {
        refuse(frame->id, NO_RESOURCES, EAGAIN);
        return;
    }
    uint8_t *larger = run->text_length + frame->length <= MAX_ORDER
                          ? realloc(run->text, run->text_length + frame->length + 1)
                          : NULL;
    if (!larger) {
        run_fail(run, NO_RESOURCES, E2BIG);
        return;
    }
    run->text = larger;
    memcpy(larger + run->text_length, frame->body, frame->length);
    run->text_length += frame->length;
    if (frame->arg) return;
    if (run->doomed) run_fail(run, NO_RESOURCES, ENOSPC);
    else if (!request_parse(run)) run_fail(run, BAD_REQUEST, EINVAL);
    else {
        if (run->blob >= 0) lseek(run->blob, 0, SEEK_SET);
        run_start(run);
    }
}

static void take_signal(struct run *run, const struct frame *frame) {
    if (frame->length < 4 || run->state > RUNNING || run->connection) return;
    run->signal = (int)get32(frame->body);
    run->signals_group = frame->arg;
    run_signal(run);
}

static void take_size(const struct run *run, const struct frame *frame) {
    if (frame->length < 8 || !run->terminal || run->out[0] < 0) return;
    struct winsize size = {.ws_row = (unsigned short)get32(frame->body),
                           .ws_col = (unsigned short)get32(frame->body + 4)};
    ioctl(run->out[0], TIOCSWINSZ, &size);
}

static void take_counts(uint32_t id) {
    struct tree tree = {0};
    tree_read(&tree);
    uint32_t running = 0;
    for (struct run *run = runs; run; run = run->next) running += !run->connection;
    uint8_t body[16];
    put32(body, (uint32_t)tree.count);
    put32(body + 4, running);
    put64(body + 8, memory_kills());
    wire_send(K_ANSWER, 0, id, body, sizeof body);
}

static void take_of_run(struct run *run, const struct frame *frame) {
    int stream = frame->arg < STREAMS ? frame->arg : 0;
    switch (frame->kind) {
        case K_INPUT: stream_input(run, frame->body, frame->length); break;
        case K_INPUT_END: stream_input_end(run); break;
        case K_CREDIT: if (frame->length >= 4) run->credit[stream] += get32(frame->body); break;
        case K_DISCARD: run->discard[stream] = true; break;
        case K_KILL: run_kill(run); break;
        case K_SIGNAL: take_signal(run, frame); break;
        case K_RESIZE: take_size(run, frame); break;
        default: break;
    }
}

static void take(const struct frame *frame) {
    if (!greeted && frame->kind != K_HELLO) {
        leaving = true;
        return;
    }
    struct run *run;
    switch (frame->kind) {
        case K_HELLO: greet(frame); break;
        case K_START: take_order(frame); break;
        case K_BLOB: take_blob(frame); break;
        case K_SOURCE: leaving |= !warm_source(frame->body, frame->length, frame->arg); break;
        case K_DEADLINE:
            if (frame->length >= 8) {
                uint64_t ms = get64(frame->body);
                deadline = ms ? now_ms() + (int64_t)ms : 0;
            }
            break;
        case K_COUNTS: take_counts(frame->id); break;
        case K_LISTEN: port_listen(frame->id); break;
        case K_CONNECT:
            run = frame->length >= 4 ? filling(frame->id) : NULL;
            if (run) port_connect(run, get32(frame->body));
            break;
        case K_QUIT: leaving = true; break;
        default: if ((run = run_find(frame->id))) take_of_run(run, frame);
    }
}

/* -- waiting ------------------------------------------------------------------------------- */

enum source { HOST_IN, HOST_OUT, LISTENER, RUN_OUT, RUN_ERR, RUN_SHOWN, RUN_IN, RUN_REPORT, SLOT };
struct watched {
    enum source source;
    uint32_t id;
    struct slot *slot;
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
    watch(listener, POLLIN, (struct watched){.source = LISTENER});
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
    while (!leaving && wire_next(&frame, &broken)) take(&frame);
    if (broken) leaving = true;
}

static void serve_ready(void) {
    bool host = false;
    for (size_t i = 0; i < polled_count; i++) {
        if (!polled[i].revents) continue;
        switch (watched[i].source) {
            case HOST_IN: host = true; break;
            case HOST_OUT: break;
            case LISTENER: port_accept(listener); break;
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
    fprintf(stderr, "usage: %s serve [TIE] | hold [SECONDS] | lend | keep ... | COMMAND\n", argv[0]);
    return 2;
}
