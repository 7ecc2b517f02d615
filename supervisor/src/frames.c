/* What the host asks for, frame by frame. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

#define MAX_REQUEST (4u * 1024u * 1024u)
#define HELLO_BYTES 16u

bool hidden, leaving;
int64_t deadline;
static bool greeted;

static void greet(const struct frame *frame) {
    if (greeted || frame->length < HELLO_BYTES) {
        leaving = true;
        return;
    }
    greeted = true;
    wire_secret(get64(frame->body + 4));
    wire_one_line(get32(frame->body + 12) & 1u);
    struct utsname name;
    uname(&name);
    uint8_t body[512] = {0};
    put32(body, WIRE_VERSION);
    put32(body + 4, (subreaper ? 1u : 0) | (hidden ? 2u : 0) | (alone ? 4u : 0) |
                        (apart_fd >= 0 ? 8u : 0));
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

static void take_request(const struct frame *frame) {
    struct run *run = filling(frame->id);
    if (!run) {
        refuse(frame->id, NO_RESOURCES, EAGAIN);
        return;
    }
    uint8_t *larger = run->text_length + frame->length <= MAX_REQUEST
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

void host_take(const struct frame *frame) {
    if (!greeted && frame->kind != K_HELLO) {
        leaving = true;
        return;
    }
    struct run *run;
    switch (frame->kind) {
        case K_HELLO: greet(frame); break;
        case K_START: take_request(frame); break;
        case K_BLOB: take_blob(frame); break;
        case K_SOURCE: leaving |= !warm_source(frame->body, frame->length, frame->arg); break;
        case K_DEADLINE:
            if (frame->length >= 8) {
                uint64_t ms = get64(frame->body);
                deadline = ms ? now_ms() + (int64_t)ms : 0;
            }
            break;
        case K_COUNTS: take_counts(frame->id); break;
        case K_LISTEN: port_listen(frame); break;
        case K_CONNECT:
            run = frame->length >= 4 ? filling(frame->id) : NULL;
            if (run) port_connect(run, get32(frame->body));
            break;
        case K_QUIT: leaving = true; break;
        default: if ((run = run_find(frame->id))) take_of_run(run, frame);
    }
}
