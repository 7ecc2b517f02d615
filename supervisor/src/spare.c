/* A keeper that waits for its program: forked in a pause, so that no start waits for a fork, and
 * so that one can be had when programs have used the process limit up. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

#define PLAN_FDS 6
#define HEAD 8u

static pid_t spare;
static int spare_socket = -1;

static bool read_whole(int fd, uint8_t *to, size_t length) {
    while (length) {
        ssize_t got = read(fd, to, length);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        length -= (size_t)got;
    }
    return true;
}

/* The descriptors come with the head: its bits say which there are. */
static bool take_head(int fd, uint8_t *head, int *fds) {
    union {
        struct cmsghdr head;
        uint8_t room[CMSG_SPACE(PLAN_FDS * sizeof(int))];
    } control;
    struct iovec piece = {head, HEAD};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got;
    do got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    if (got <= 0 || !first) return false;
    int came[PLAN_FDS];
    size_t count = (first->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(came, CMSG_DATA(first), count * sizeof(int));
    if (!read_whole(fd, head + got, HEAD - (size_t)got)) return false;
    uint32_t there = get32(head + 4);
    for (size_t i = 0, next = 0; i < PLAN_FDS; i++) {
        fds[i] = there & 1u << i && next < count ? keep_fd(came[next++]) : -1;
    }
    return true;
}

static _Noreturn void wait_for_plan(int fd) {
    /* The low ones stay taken, so that none that comes is in a program's place. */
    int keep[FIRST_FD + 3], count = FIRST_FD;
    for (int low = 0; low < FIRST_FD; low++) keep[low] = low;
    for (int low = 0; low < 3; low++) dup2(nothing_fd, low);
    keep[count++] = nothing_fd;
    if (apart_fd >= 0) keep[count++] = apart_fd; /* taken right behind the one before */
    keep[count++] = fd;
    close_all_but(keep, count);
    uint8_t head[HEAD];
    int fds[PLAN_FDS];
    struct run run = {.blob = -1};
    if (!take_head(fd, head, fds)) _exit(0);
    run.text_length = get32(head);
    run.text = malloc(run.text_length + 1);
    if (!run.text || !read_whole(fd, run.text, run.text_length) || !request_parse(&run)) _exit(1);
    close(fd);
    struct plan plan = {.request = &run.request, .in = fds[0], .out = fds[1], .err = fds[2],
                        .shown = -1, .blob = fds[3], .report = fds[4], .terminal = fds[5],
                        .socket = -1, .source = -1};
    if (plan.in < 0) plan.in = nothing_fd;
    if (plan.err < 0) plan.err = plan.out;
    keeper_main(&plan);
}

/* A program that is just being started must find the process that it needs. */
static bool one_starts(void) {
    for (struct run *run = runs; run; run = run->next)
        if (run->state == WAITING || (run->state == RUNNING && run->keeper && !run->program))
            return true;
    return false;
}

/* Called when nothing else is to be done. What fails is tried again with the next pause. */
void spare_make(void) {
    int ends[2];
    if (spare || !subreaper || one_starts()) return;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) return;
    child_weight(true);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        wait_for_plan(ends[1]);
    }
    child_weight(false);
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return;
    }
    spare = pid;
    spare_socket = keep_fd(ends[0]);
}

bool is_spare(pid_t pid) { return spare && spare == pid; }

void spare_ended(void) {
    spare = 0;
    close_fd(&spare_socket);
}

static bool send_whole(const uint8_t *data, size_t length) {
    while (length) {
        ssize_t put = send(spare_socket, data, length, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        data += put;
        length -= (size_t)put;
    }
    return true;
}

/* Give the plan to the keeper that waits; its pid, or 0 where none can take it. */
pid_t spare_take(const struct run *run, const struct plan *plan) {
    if (!spare) return 0;
    const int all[PLAN_FDS] = {plan->in == nothing_fd ? -1 : plan->in, plan->out,
                               plan->err == plan->out ? -1 : plan->err, plan->blob,
                               plan->report, plan->terminal};
    int fds[PLAN_FDS];
    size_t count = 0;
    uint32_t there = 0;
    for (size_t i = 0; i < PLAN_FDS; i++) {
        if (all[i] < 0) continue;
        fds[count++] = all[i];
        there |= 1u << i;
    }
    uint8_t head[HEAD];
    put32(head, (uint32_t)run->text_length);
    put32(head + 4, there);
    union {
        struct cmsghdr head;
        uint8_t room[CMSG_SPACE(PLAN_FDS * sizeof(int))];
    } control = {0};
    /* Together, so that the keeper is woken once. */
    struct iovec pieces[] = {{head, HEAD}, {run->text, run->text_length}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2, .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                                    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
    ssize_t put = sendmsg(spare_socket, &message, MSG_NOSIGNAL);
    bool sent = put >= (ssize_t)HEAD &&
                send_whole(run->text + (put - (ssize_t)HEAD),
                           run->text_length - (size_t)(put - (ssize_t)HEAD));
    pid_t pid = sent ? spare : 0;
    spare_ended(); /* it is this execution's keeper now, or dead */
    return pid;
}
