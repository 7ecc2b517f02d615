#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Two frames of the host's fit, so that a whole one can always be completed. */
static uint8_t in[2 * (WIRE_HEAD + WIRE_BODY)];
static size_t in_from, in_to;
static uint32_t in_sequence;

/* A program's output is read only while less than this waits for the host. */
#define OUT_BOUND (256u * 1024u)
/* Beside it: reports, each small, of at most as many executions as there can be. */
static uint8_t out[OUT_BOUND + 1024u * 1024u];
static size_t out_from, out_to;
static uint32_t out_sequence;
static uint64_t out_secret;
static bool urgent;

uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint64_t get64(const uint8_t *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }

void put32(uint8_t *at, uint32_t value) {
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> (8 * i));
}

void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)value);
    put32(at + 4, (uint32_t)(value >> 32));
}

bool wire_fill(int fd) {
    if (in_from) {
        memmove(in, in + in_from, in_to - in_from);
        in_to -= in_from;
        in_from = 0;
    }
    ssize_t got = read(fd, in + in_to, sizeof in - in_to);
    if (got > 0) in_to += (size_t)got;
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

bool wire_next(struct frame *frame, bool *broken) {
    if (in_to - in_from < WIRE_HEAD) return false;
    const uint8_t *head = in + in_from;
    frame->length = get32(head);
    frame->kind = head[4];
    frame->arg = head[5];
    frame->id = get32(head + 8);
    /* A frame that somebody took out of the pipe leaves a gap. */
    if (frame->length > WIRE_BODY || get32(head + 12) != in_sequence) {
        *broken = true;
        return false;
    }
    if (in_to - in_from < WIRE_HEAD + frame->length) return false;
    in_sequence++;
    frame->body = head + WIRE_HEAD;
    in_from += WIRE_HEAD + frame->length;
    return true;
}

void wire_secret(uint64_t secret) { out_secret = secret; }

static void compact(void) {
    if (!out_from) return;
    memmove(out, out + out_from, out_to - out_from);
    out_to -= out_from;
    out_from = 0;
}

size_t wire_room(void) {
    size_t waiting = out_to - out_from;
    if (waiting + WIRE_HEAD >= OUT_BOUND) return 0;
    size_t room = OUT_BOUND - waiting - WIRE_HEAD;
    return room < WIRE_BODY ? room : WIRE_BODY;
}

/* Where the body of the frame that `wire_commit` sends may be written. */
uint8_t *wire_body(size_t most) {
    if (sizeof out - out_to < WIRE_HEAD + most) compact();
    /* The host reads nothing while it asks without an end: it breaks its own rules. */
    if (sizeof out - out_to < WIRE_HEAD + most) _exit(3);
    return out + out_to + WIRE_HEAD;
}

void wire_commit(uint8_t kind, uint8_t arg, uint32_t id, size_t length) {
    uint8_t *head = out + out_to;
    memset(head, 0, WIRE_HEAD);
    put32(head, (uint32_t)length);
    head[4] = kind;
    head[5] = arg;
    put32(head + 8, id);
    put32(head + 12, out_sequence++);
    put64(head + 16, out_secret);
    out_to += WIRE_HEAD + length;
    urgent |= kind != K_STARTED;
}

void wire_send(uint8_t kind, uint8_t arg, uint32_t id, const void *body, size_t length) {
    uint8_t *to = wire_body(length);
    if (length) memcpy(to, body, length);
    wire_commit(kind, arg, id, length);
}

/* What is written with every newline as two bytes, where the host wants that: what carries the
 * output takes lines apart, and takes as long for each as for all the rest (a pod's log). */
#define NEWLINE 0x0a
#define ESCAPE 0x0b
#define PLAIN_BYTES 32768u
static bool one_line;
static uint8_t escaped[2 * PLAIN_BYTES];
static size_t escaped_from, escaped_to;

void wire_one_line(bool yes) { one_line = yes; }

static void escape(void) {
    size_t end = out_to - out_from < PLAIN_BYTES ? out_to : out_from + PLAIN_BYTES;
    escaped_from = escaped_to = 0;
    for (; out_from < end; out_from++) {
        uint8_t byte = out[out_from];
        if (byte == NEWLINE || byte == ESCAPE) {
            escaped[escaped_to++] = ESCAPE;
            byte = byte == NEWLINE ? 1 : 2;
        }
        escaped[escaped_to++] = byte;
    }
}

bool wire_pending(void) { return out_to > out_from || escaped_to > escaped_from; }

bool wire_urgent(void) { return urgent; }

void wire_hurry(void) { urgent = true; }

static bool flush_escaped(int fd) {
    while (wire_pending()) {
        if (escaped_from == escaped_to) escape();
        ssize_t put = write(fd, escaped + escaped_from, escaped_to - escaped_from);
        if (put < 0) return errno == EAGAIN || errno == EINTR;
        escaped_from += (size_t)put;
    }
    out_from = out_to = 0;
    urgent = false;
    return true;
}

bool wire_flush(int fd) {
    if (one_line) return flush_escaped(fd);
    while (out_to > out_from) {
        ssize_t put = write(fd, out + out_from, out_to - out_from);
        if (put < 0) return errno == EAGAIN || errno == EINTR;
        out_from += (size_t)put;
    }
    out_from = out_to = 0;
    urgent = false;
    return true;
}
