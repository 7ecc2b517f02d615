/* Records, and the bytes below them.
 *
 * A record is the length of its content (4 bytes), its kind (1 byte), and its content; all
 * numbers have their low byte first.
 *
 *     E  an entry: kind 1, shared 1, mode 2, uid 4, gid 4, size 8, seconds 8, nanoseconds 4,
 *        length of the name 2, length of the target 2, then name and target
 *     P  a piece of the file whose entry came last: its offset 8, then the bytes
 *     M  what could not be brought: why 4, then the path
 *     W  what has changed (files_watch.c)
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "files_in.h"

#define HEAD 5u
#define ENTRY_HEAD 36u
#define PIECE_HEAD 8u
#define MOST_RECORD (PIECE_HEAD + PIECE)

static unsigned char sent[HEAD + MOST_RECORD];
static size_t sent_length;
static uint64_t sent_total, missed_total;

/* What is to be undone first, where anything is. */
void (*before_failing)(void);

_Noreturn void fail(int why, const char *path) {
    void (*undo)(void) = before_failing;
    before_failing = NULL;
    if (undo) undo();
    out_flush();
    ssize_t written = path ? write(2, path, strlen(path)) : 0;
    (void)written; /* nobody is left to hear of it */
    _exit(why > 0 && why < 256 ? why : EIO);
}

_Noreturn void fail_here(int why) {
    fail(why, NULL);
}

/* As read, without the interruptions. */
ssize_t read_some(int fd, void *data, size_t length) {
    ssize_t got;
    do got = read(fd, data, length);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Write it all, at an offset or (-1) where the descriptor stands; 0 or the error. */
int write_all(int fd, const unsigned char *data, size_t length, int64_t offset) {
    while (length) {
        ssize_t done = offset < 0 ? write(fd, data, length) : pwrite(fd, data, length, offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return done ? errno : EIO;
        data += done;
        length -= (size_t)done;
        if (offset >= 0) offset += done;
    }
    return 0;
}

void out_flush(void) {
    size_t length = sent_length;
    sent_length = 0; /* first: what fails here must not come back to it */
    if (write_all(1, sent, length, -1)) _exit(EPIPE);
}

void out(const void *data, size_t length) {
    const unsigned char *from = data;
    sent_total += length;
    while (length) {
        size_t room = sizeof sent - sent_length, part = length < room ? length : room;
        memcpy(sent + sent_length, from, part);
        sent_length += part;
        from += part;
        length -= part;
        if (sent_length == sizeof sent) out_flush();
    }
}

uint64_t out_count(void) {
    return sent_total;
}

/* Up to `most` bytes from fd 0: fewer only at its end. */
size_t in(void *data, size_t most) {
    static unsigned char held[PIECE];
    static size_t from, to;
    size_t have = 0;
    while (have < most) {
        if (from == to) {
            ssize_t got = read_some(0, held, sizeof held);
            if (got < 0) fail_here(errno);
            if (!got) break;
            from = 0;
            to = (size_t)got;
        }
        size_t part = to - from < most - have ? to - from : most - have;
        memcpy((char *)data + have, held + from, part);
        have += part;
        from += part;
    }
    return have;
}

static unsigned char *number(unsigned char *at, uint64_t value, int bytes) {
    while (bytes--) {
        *at++ = (unsigned char)value;
        value >>= 8;
    }
    return at;
}

static uint64_t numbered(const unsigned char **at, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value |= (uint64_t)(*at)[i] << (8 * i);
    *at += bytes;
    return value;
}

static void head(size_t length, char kind) {
    unsigned char text[HEAD];
    *number(text, length, 4) = (unsigned char)kind;
    out(text, HEAD);
}

void record_entry(const struct entry *entry) {
    size_t name = strlen(entry->name), target = entry->target ? strlen(entry->target) : 0;
    unsigned char text[ENTRY_HEAD], *at = text;
    *at++ = (unsigned char)entry->kind;
    *at++ = entry->shared;
    at = number(at, entry->mode & 07777, 2);
    at = number(at, entry->uid, 4);
    at = number(at, entry->gid, 4);
    at = number(at, entry->size, 8);
    at = number(at, (uint64_t)entry->modified.tv_sec, 8);
    at = number(at, (uint64_t)entry->modified.tv_nsec, 4);
    at = number(at, name, 2);
    number(at, target, 2);
    head(ENTRY_HEAD + name + target, 'E');
    out(text, ENTRY_HEAD);
    out(entry->name, name);
    out(entry->target, target);
}

void record_piece(uint64_t offset, const unsigned char *data, size_t length) {
    unsigned char text[PIECE_HEAD];
    number(text, offset, 8);
    head(PIECE_HEAD + length, 'P');
    out(text, PIECE_HEAD);
    out(data, length);
}

void record_missed(int why, const char *path) {
    unsigned char text[4];
    missed_total++;
    number(text, (uint64_t)why, 4);
    head(4 + strlen(path), 'M');
    out(text, 4);
    out(path, strlen(path));
}

void record_change(char what, bool folder, const char *path, const char *old) {
    size_t length = strlen(path), before = strlen(old);
    unsigned char text[6], *at = text;
    *at++ = (unsigned char)what;
    *at++ = folder;
    at = number(at, length, 2);
    number(at, before, 2);
    head(sizeof text + length + before, 'W');
    out(text, sizeof text);
    out(path, length);
    out(old, before);
}

uint64_t missed_count(void) {
    return missed_total;
}

const struct sink records = {record_entry, record_piece, record_missed};

/* One text of an entry, into a place that ends with NUL. */
static void text(char place[MOST_PATH], const unsigned char **at, size_t length) {
    if (length >= MOST_PATH || memchr(*at, 0, length)) fail_here(BAD_RECORD);
    memcpy(place, *at, length);
    place[length] = 0;
    *at += length;
}

static void entry_came(const unsigned char *at, size_t length, const struct sink *sink) {
    static char name[MOST_PATH], target[MOST_PATH];
    if (length < ENTRY_HEAD) fail_here(BAD_RECORD);
    struct entry entry = {.kind = (char)at[0], .shared = at[1] & 1, .name = name, .target = target};
    at += 2;
    entry.mode = (uint32_t)numbered(&at, 2) & 07777;
    entry.uid = (uint32_t)numbered(&at, 4);
    entry.gid = (uint32_t)numbered(&at, 4);
    entry.size = numbered(&at, 8);
    entry.modified.tv_sec = (time_t)numbered(&at, 8);
    entry.modified.tv_nsec = (long)numbered(&at, 4);
    size_t named = numbered(&at, 2), targeted = numbered(&at, 2);
    if (named + targeted != length - ENTRY_HEAD) fail_here(BAD_RECORD);
    text(name, &at, named);
    text(target, &at, targeted);
    sink->entry(&entry);
}

/* Entries and pieces from fd 0 until it ends. */
void records_read(const struct sink *sink) {
    static unsigned char came[MOST_RECORD];
    unsigned char start[HEAD];
    size_t got;
    while ((got = in(start, HEAD))) {
        const unsigned char *at = start;
        size_t length = numbered(&at, 4);
        /* A length that is too large is refused, so nothing grows with it. */
        if (got < HEAD || length > MOST_RECORD || in(came, length) < length)
            fail_here(BAD_RECORD);
        at = came;
        if (*(start + 4) == 'E') {
            entry_came(came, length, sink);
        } else if (*(start + 4) == 'P' && length >= PIECE_HEAD) {
            uint64_t offset = numbered(&at, 8);
            sink->piece(offset, at, length - PIECE_HEAD);
        } else {
            fail_here(BAD_RECORD);
        }
    }
}
