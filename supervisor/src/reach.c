/* What can be reached from inside, for walls that must know before a session's code runs.
 *
 *     reach MS KIND/ADDRESS/PORT...      KIND: tcp or udp; ADDRESS in numbers
 *
 * All are tried at once, for MS milliseconds. A line for each that answered, by a refusal too:
 * whoever refuses was reached. What the kernel or a filter turns away, and what stays silent, was
 * not.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

#define MOST 64

struct target {
    const char *text;
    bool stream;
    struct sockaddr_storage address;
    socklen_t size;
};

/* A question that every name server answers: who serves the root. */
static const unsigned char question[] = {0x73, 0x6b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1};

static bool read_target(const char *text, struct target *found) {
    char words[128];
    if (strlen(text) >= sizeof words) return false;
    strcpy(words, text);
    char *address = strchr(words, '/');
    char *port = strrchr(words, '/');
    if (!address || port == address) return false;
    *address++ = *port++ = 0;
    *found = (struct target){.text = text, .stream = !strcmp(words, "tcp")};
    if (!found->stream && strcmp(words, "udp")) return false;
    char *end;
    unsigned long number = strtoul(port, &end, 10);
    if (*end || end == port || !number || number > 65535) return false;
    struct sockaddr_in *four = (struct sockaddr_in *)&found->address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&found->address;
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)number);
        found->size = sizeof *four;
    } else if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)number);
        found->size = sizeof *six;
    } else {
        return false;
    }
    return true;
}

static void say(const struct target *target, int error) {
    dprintf(1, "%s %s\n", target->text, error ? "refused" : "answered");
}

/* Begin; -1 where it is decided already. */
static int begin(const struct target *target) {
    int kind = (target->stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(target->address.ss_family, kind, 0);
    if (fd < 0) return -1;
    int failed = connect(fd, (const struct sockaddr *)&target->address, target->size);
    if (!failed && !target->stream)
        failed = send(fd, question, sizeof question, MSG_NOSIGNAL) < 0;
    else if (!failed || errno == ECONNREFUSED)
        say(target, failed ? ECONNREFUSED : 0);
    else if (errno == EINPROGRESS)
        return fd;
    if (!failed && !target->stream) return fd;
    close(fd);
    return -1;
}

/* What came of one that is ready. */
static void judge(const struct target *target, int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    if (target->stream) {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    } else {
        char answer[16];
        error = recv(fd, answer, sizeof answer, MSG_DONTWAIT) < 0 ? errno : 0;
    }
    if (!error || error == ECONNREFUSED) say(target, error);
}

int reach_main(int argc, char **argv) {
    struct target targets[MOST];
    struct pollfd polled[MOST];
    int count = argc - 2, waiting = 0;
    if (count < 1 || count > MOST) return 125;
    for (int i = 0; i < count; i++)
        if (!read_target(argv[i + 2], &targets[i])) {
            dprintf(2, "%s is no KIND/ADDRESS/PORT\n", argv[i + 2]);
            return 125;
        }
    int64_t until = now_ms() + atoi(argv[1]);
    for (int i = 0; i < count; i++) {
        int fd = begin(&targets[i]);
        short events = targets[i].stream ? POLLOUT : POLLIN;
        polled[i] = (struct pollfd){.fd = fd, .events = events};
        waiting += fd >= 0;
    }
    while (waiting) {
        int64_t left = until - now_ms();
        if (left <= 0 || (poll(polled, (nfds_t)count, (int)left) < 0 && errno != EINTR)) break;
        for (int i = 0; i < count; i++) {
            if (polled[i].fd < 0 || !polled[i].revents) continue;
            judge(&targets[i], polled[i].fd);
            close(polled[i].fd);
            polled[i].fd = -1;
            waiting--;
        }
    }
    return 0;
}
