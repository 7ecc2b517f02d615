/* Interpreters that wait for code: one is forked ahead of its execution, or keeps its state. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

/* What one says: a kind and a value, each four bytes. */
enum { W_READY = 1, W_TAKEN = 2, W_ENDED = 3, W_NOWHERE = 4 };
#define MAX_SOURCE (1024u * 1024u)
/* Standard streams and the code; of a named one what it shows, too. */
#define JOB_FDS 5
/* An execution that has not begun for so long is held up by something. */
#define LOOK_MS 40

struct slot *slots;
static uint8_t *source;  /* a short text that starts it, NUL, and what that reads */
static size_t source_length;
static bool source_whole;

bool warm_source(const uint8_t *data, size_t length, bool more) {
    if (source_whole) {
        source_length = 0;
        source_whole = false;
    }
    if (source_length + length > MAX_SOURCE) return false;
    uint8_t *larger = realloc(source, source_length + length + 1);
    if (!larger) return false;
    source = larger;
    memcpy(source + source_length, data, length);
    source_length += length;
    source[source_length] = 0;
    source_whole = !more;
    return true;
}

const char *warm_boot(void) { return (const char *)source; }

int warm_source_fd(void) {
    if (!source_whole) return -1;
    size_t skip = strlen((const char *)source) + 1;
    size_t left = source_length > skip ? source_length - skip : 0;
    int fd = blob_make();
    if (fd >= 0 && write(fd, source + skip, left) != (ssize_t)left) close_fd(&fd);
    if (fd >= 0) lseek(fd, 0, SEEK_SET);
    return fd;
}

static bool fits(const struct slot *slot, const struct run *run) {
    if (slot->run || slot->closing || strcmp(slot->program, run->request.argv[0])) return false;
    if (run->request.flags & F_NAMED) return slot->name && !strcmp(slot->name, run->request.name);
    return !slot->name;
}

/* One that keeps its state takes one execution at a time. */
static bool must_wait(const struct run *run) {
    for (const struct slot *slot = slots; slot; slot = slot->next)
        if (slot->name && slot->run && !slot->closing && !strcmp(slot->name, run->request.name) &&
            !strcmp(slot->program, run->request.argv[0]))
            return run->request.flags & F_NAMED;
    return false;
}

static void slot_free(struct slot *slot) {
    struct slot **at = &slots;
    while (*at != slot) at = &(*at)->next;
    *at = slot->next;
    close_fd(&slot->socket);
    close_fd(&slot->report);
    if (slot->run) slot->run->slot = NULL;
    free(slot->program);
    free(slot->name);
    free(slot->message);
    free(slot);
}

static struct slot *slot_new(struct run *run) {
    struct slot *slot = calloc(1, sizeof *slot);
    if (!slot) return NULL;
    slot->socket = slot->report = -1;
    slot->next = slots;
    slots = slot;
    bool named = run->request.flags & F_NAMED;
    slot->program = strdup(run->request.argv[0]);
    slot->name = named ? strdup(run->request.name) : NULL;
    int ends[2] = {-1, -1};
    if (slot->program && (slot->name || !named) &&
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0) {
        slot->socket = keep_fd(ends[0]);
        keep_fd(ends[1]);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        slot->keeper = start_interpreter(slot, &run->request, named ? "named" : "fresh", ends[1]);
        if (!subreaper) slot->interpreter = slot->keeper;
    }
    int error = errno;
    close_fd(&ends[1]);
    errno = error;
    if (slot->keeper > 0) return slot;
    slot_free(slot);
    errno = error;
    return NULL;
}

/* The first bytes of the message with its descriptors, which are the interpreter's from then on. */
static bool hand_over(struct slot *slot, const int *fds, size_t count) {
    union {
        struct cmsghdr head;
        uint8_t room[CMSG_SPACE(JOB_FDS * sizeof(int))];
    } control = {0};
    struct iovec piece = {slot->message, slot->message_to};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                                    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
    ssize_t put = sendmsg(slot->socket, &message, MSG_NOSIGNAL);
    if (put <= 0) return false;
    slot->message_from = (size_t)put;
    return true;
}

static bool message_make(struct slot *slot, const struct request *request) {
    slot->message_from = 0;
    slot->message_to = 12 + request->strings_length;
    free(slot->message);
    if (!(slot->message = malloc(slot->message_to))) return false;
    put32(slot->message, (uint32_t)request->strings_length);
    put32(slot->message + 4, request->argc);
    put32(slot->message + 8, request->envc);
    memcpy(slot->message + 12, request->strings, request->strings_length);
    return true;
}

void warm_start(struct run *run) {
    if (must_wait(run)) {
        run->state = WAITING;
        return;
    }
    struct slot *slot = slots;
    while (slot && !fits(slot, run)) slot = slot->next;
    struct plan plan = {.request = &run->request, .in = -1, .out = -1, .err = -1, .shown = -1,
                        .blob = -1, .report = -1, .terminal = -1, .socket = -1,
                        .source = -1};
    if (orphans_due) orphans_look();
    if (!slot) slot = slot_new(run);
    int error = errno;
    bool done = slot && run->blob >= 0 && streams_make(run, &plan) &&
                message_make(slot, &run->request);
    if (done) {
        lseek(run->blob, 0, SEEK_SET);
        const int fds[JOB_FDS] = {plan.in, plan.out, plan.err, run->blob, plan.shown};
        done = hand_over(slot, fds, plan.shown < 0 ? JOB_FDS - 1 : JOB_FDS);
    }
    plan_close(&plan);
    if (!done) {
        run_fail(run, slot ? NO_INTERPRETER : NO_PROCESS, error);
        return;
    }
    close_fd(&run->blob);
    slot->run = run;
    slot->taken = false;
    slot->look_at = now_ms() + LOOK_MS;
    run->slot = slot;
    run->state = RUNNING;
}

void warm_ahead(struct run *run) {
    struct slot *slot = slots;
    while (slot && !fits(slot, run)) slot = slot->next;
    if (!slot) slot_new(run);
    run_free(run);
}

void warm_push(struct slot *slot) {
    while (slot->message_from < slot->message_to) {
        ssize_t put = send(slot->socket, slot->message + slot->message_from,
                           slot->message_to - slot->message_from, MSG_NOSIGNAL);
        if (put <= 0) return;
        slot->message_from += (size_t)put;
    }
    free(slot->message);
    slot->message = NULL;
    slot->message_from = slot->message_to = 0;
}

static void leave(struct slot *slot) {
    if (slot->run) slot->run->slot = NULL;
    slot->run = NULL;
}

/* No more executions: it leaves by itself, at the end of its input. */
static void retire(struct slot *slot) {
    slot->closing = true;
    close_fd(&slot->socket);
}

static void said(struct slot *slot, uint32_t kind, uint32_t value) {
    struct run *run = slot->run;
    if (!run) return;
    switch (kind) {
        case W_TAKEN:
            slot->taken = true;
            weight_again((pid_t)value);
            run_started(run, (pid_t)value);
            break;
        case W_NOWHERE:
            leave(slot);
            run_fail(run, NO_FOLDER, (int)value);
            break;
        case W_ENDED:
            if (!run->doomed) leave(slot);
            run_exited(run, (int)value, 0, 0);
            break;
        default: break;
    }
}

void warm_hear(struct slot *slot) {
    while (slot->socket >= 0) {
        ssize_t got = read(slot->socket, slot->said + slot->said_length,
                           sizeof slot->said - slot->said_length);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (got <= 0) {
            retire(slot);
            return;
        }
        slot->said_length += (size_t)got;
        if (slot->said_length < sizeof slot->said) continue;
        slot->said_length = 0;
        said(slot, get32(slot->said), get32(slot->said + 4));
    }
}

/* The interpreter itself has ended. */
void warm_ended(struct slot *slot) {
    warm_hear(slot);
    struct run *run = slot->run;
    slot->interpreter = 0;
    slot->closing = true;
    if (!run || run->doomed) return;
    if (!slot->taken) {
        leave(slot);
        run_fail(run, NO_INTERPRETER, 0);
    } else {
        /* Its code is on its own now, and nobody reports on it. It ends as the interpreter did,
         * which may have been ended for what the code has in memory. */
        run_exited(run, SIGKILL, 0, 0);
        run->doomed = true;
    }
}

void warm_report(struct slot *slot) {
    struct report report;
    while (slot->report >= 0 && read(slot->report, &report, sizeof report) > 0) {
        if (report.what == R_STARTED) slot->interpreter = report.value;
        else warm_ended(slot);
    }
}

/* Nothing is left of it and of what ran in it. */
void warm_gone(struct slot *slot) {
    struct run *run = slot->run;
    if (run && run->state == RUNNING) {
        run_exited(run, SIGKILL, 0, 0);
        run->doomed = true;
    }
    slot_free(slot);
}

/* What code has left behind is its keeper's, so that one takes no further code. And one
 * interpreter that waits is enough. */
void warm_look(void) {
    struct tree tree = {0};
    bool read = false;
    unsigned idle = 0;
    for (struct slot *slot = slots; slot; slot = slot->next) {
        if (slot->run || slot->closing || slot->name) continue;
        if (slot->taken) {
            slot->taken = false;
            if (!subreaper || (!read && !(read = tree_read(&tree)))) continue;
            for (size_t i = 0; i < tree.count; i++)
                if (tree.list[i].parent == slot->keeper && tree.list[i].state != 'Z' &&
                    tree.list[i].pid != slot->interpreter)
                    retire(slot);
        }
        if (!slot->closing && ++idle > 1) retire(slot);
    }
}

bool warm_is(pid_t pid) {
    for (struct slot *slot = slots; slot; slot = slot->next)
        if (slot->interpreter == pid) return true;
    return false;
}

/* What waits for an execution is no program yet, and a program may have stopped it (D16). */
static void go_on(const struct slot *slot) {
    struct tree tree;
    if (!tree_read(&tree)) return;
    for (size_t i = 0; i < tree.count; i++) {
        const struct process *process = &tree.list[i];
        bool serves = process->pid == slot->interpreter || process->parent == slot->interpreter;
        if (serves && process->state == 'T') kill(process->pid, SIGCONT);
    }
}

int64_t warm_wake(void) {
    int64_t next = 0;
    for (struct slot *slot = slots; slot; slot = slot->next) {
        if (!slot->run || slot->taken || !slot->interpreter) continue;
        if (now_ms() >= slot->look_at) {
            go_on(slot);
            slot->look_at = now_ms() + LOOK_MS;
        }
        if (!next || slot->look_at < next) next = slot->look_at;
    }
    return next;
}
