/* What programs read and print, each held back alone by its own credit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

static uint8_t scratch[WIRE_BODY];

static void owe_input(struct run *run, size_t taken) {
    run->input_owed += (uint32_t)taken;
    if (run->input_owed < INPUT_WINDOW / 4) return;
    uint8_t body[4];
    put32(body, run->input_owed);
    wire_send(K_INPUT_CREDIT, 0, run->id, body, sizeof body);
    run->input_owed = 0;
}

static ssize_t put(struct run *run, const uint8_t *data, size_t length) {
    ssize_t done = run->connection ? send(run->in, data, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                                   : write(run->in, data, length);
    return done < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : done;
}

static void input_close(struct run *run) {
    if (run->connection) shutdown(run->in, SHUT_WR);
    close_fd(&run->in);
    free(run->input);
    run->input = NULL;
    run->input_from = run->input_to = 0;
}

void stream_push(struct run *run) {
    while (run->in >= 0 && run->input_from < run->input_to) {
        ssize_t done = put(run, run->input + run->input_from, run->input_to - run->input_from);
        if (done == 0) return;
        if (done < 0) { /* nobody reads it any more */
            owe_input(run, run->input_to - run->input_from);
            input_close(run);
            return;
        }
        run->input_from += (size_t)done;
        owe_input(run, (size_t)done);
    }
    run->input_from = run->input_to = 0;
    if (run->input_ended && run->in >= 0) {
        static const uint8_t end_of_file = 4;
        if (run->terminal) (void)!write(run->in, &end_of_file, 1);
        else input_close(run);
        run->input_ended = false;
    }
}

/* The host keeps to its credit, so what waits here fits; who breaks that loses the rest. */
void stream_input(struct run *run, const uint8_t *data, size_t length) {
    if (run->in < 0) {
        owe_input(run, length);
        return;
    }
    if (run->input_from == run->input_to && !run->connecting) {
        ssize_t done = put(run, data, length);
        if (done < 0) {
            owe_input(run, length);
            input_close(run);
            return;
        }
        owe_input(run, (size_t)done);
        data += done;
        length -= (size_t)done;
    }
    if (!length) return;
    if (!run->input && !(run->input = malloc(INPUT_WINDOW))) return;
    if (run->input_to + length > INPUT_WINDOW) {
        memmove(run->input, run->input + run->input_from, run->input_to - run->input_from);
        run->input_to -= run->input_from;
        run->input_from = 0;
    }
    if (length > INPUT_WINDOW - run->input_to) length = INPUT_WINDOW - run->input_to;
    memcpy(run->input + run->input_to, data, length);
    run->input_to += length;
}

void stream_input_end(struct run *run) {
    run->input_ended = true;
    if (!run->connecting) stream_push(run);
}

static bool only_counted(const struct run *run, int stream) {
    return run->state == ENDED || run->doomed || run->discard[stream];
}

/* How much may be read now; 0: nothing, for want of room, credit, or since it is all there. */
static size_t allowance(const struct run *run, int stream) {
    size_t most = only_counted(run, stream) ? sizeof scratch : wire_room();
    if (!only_counted(run, stream) && run->credit[stream] < most)
        most = (size_t)run->credit[stream];
    if (run->state == EXITED && run->remain[stream] < (int64_t)most)
        most = (size_t)run->remain[stream];
    return most;
}

/* Read a piece; whether there may be more to read. */
bool stream_pull(struct run *run, int stream) {
    size_t most = run->out[stream] < 0 ? 0 : allowance(run, stream);
    if (!most) return false;
    bool counted = only_counted(run, stream);
    uint8_t *to = counted ? scratch : wire_body(most);
    ssize_t got = read(run->out[stream], to, most);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (run->terminal && run->state == EXITED) run->remain[stream] = 0;
        return false;
    }
    if (got <= 0) { /* a terminal without a program is an error, no end */
        close_fd(&run->out[stream]);
        run->remain[stream] = 0;
        if (run->connection) wire_send(K_OUTPUT_END, 0, run->id, NULL, 0);
        return false;
    }
    if (run->state == EXITED) run->remain[stream] -= got;
    if (counted) {
        if (run->state != ENDED) run->dropped[stream] += (uint64_t)got;
        return true;
    }
    run->credit[stream] -= (uint64_t)got;
    wire_commit(K_OUTPUT, (uint8_t)stream, run->id, (size_t)got);
    return true;
}

/* The program has exited: what its pipes hold now is its own, what comes later is not (D7). */
void stream_settle(struct run *run) {
    for (int stream = 0; stream < STREAMS; stream++) {
        int waiting = 0;
        run->remain[stream] = 0;
        if (run->out[stream] < 0) continue;
        if (run->terminal) run->remain[stream] = INT64_MAX;
        else if (ioctl(run->out[stream], FIONREAD, &waiting) == 0) run->remain[stream] = waiting;
    }
}
