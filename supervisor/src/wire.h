/* Frames between the host and this supervisor; see ../PROTOCOL.md. */
#ifndef STOCKADE_WIRE_H
#define STOCKADE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION 1u
#define WIRE_HEAD 24u
/* No frame's body is longer, in either direction. */
#define WIRE_BODY (64u * 1024u)

enum wire_kind {
    /* from the host */
    K_HELLO = 1,
    K_START = 2,        /* arg 1: more parts of the same request follow */
    K_BLOB = 3,         /* bytes of the text that a program finds on descriptor 9 */
    K_INPUT = 4,
    K_INPUT_END = 5,
    K_CREDIT = 6,       /* arg: stream */
    K_DISCARD = 7,      /* arg: stream; from now on its bytes are counted, not sent */
    K_KILL = 8,
    K_SIGNAL = 9,       /* arg 1: to the program's whole group */
    K_RESIZE = 10,
    K_DEADLINE = 11,
    K_COUNTS = 12,
    K_SOURCE = 13,      /* arg 1: more follows; what warm interpreters are made of */
    K_LISTEN = 14,
    K_CONNECT = 15,
    K_QUIT = 16,
    /* from the supervisor */
    K_HELLO_BACK = 32,
    K_STARTED = 33,
    K_OUTPUT = 34,      /* arg: stream */
    K_OUTPUT_END = 35,  /* of a stream to or from a port */
    K_INPUT_CREDIT = 36,
    K_ENDED = 37,
    K_GONE = 38,
    K_FAILED = 39,
    K_ANSWER = 40,
    K_OPENED = 41,      /* a program has connected to a port that is listened on */
    K_LOST = 42,        /* a promise cannot be kept any more; the host ends the sandbox */
};

struct frame {
    uint8_t kind, arg;
    uint32_t id, length;
    const uint8_t *body;
};

/* Reading: false when the input has ended or is malformed; then there is nobody to serve. */
bool wire_fill(int fd);
bool wire_next(struct frame *frame, bool *broken);

/* Writing. `wire_room` is what a body may hold now without the queue passing its bound; what is
 * not a program's output is always taken. */
void wire_secret(uint64_t secret);
/* Whether to write no newline: each is two other bytes. */
void wire_one_line(bool yes);
size_t wire_room(void);
uint8_t *wire_body(size_t most);
void wire_commit(uint8_t kind, uint8_t arg, uint32_t id, size_t length);
void wire_send(uint8_t kind, uint8_t arg, uint32_t id, const void *body, size_t length);
bool wire_pending(void);
/* Whether something waits that the host should have at once; a STARTED alone may wait. */
bool wire_urgent(void);
void wire_hurry(void);
/* False when the host is gone. */
bool wire_flush(int fd);

uint32_t get32(const uint8_t *at);
uint64_t get64(const uint8_t *at);
void put32(uint8_t *at, uint32_t value);
void put64(uint8_t *at, uint64_t value);

#endif
