/* Connections between the host and ports of the sandbox's loopback, over the host's link. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

int listeners[LISTENERS];
size_t listener_count;

static struct sockaddr_in loopback(uint32_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int socket_make(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -1 : keep_fd(fd);
}

/* A socket of the file system, which every program of the sandbox may connect to. */
static int socket_at(const uint8_t *path, uint32_t length, int *error) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *error = ENAMETOOLONG;
    if (length >= sizeof address.sun_path) return -1;
    memcpy(address.sun_path, path, length);
    int fd = socket_make(AF_UNIX);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        chmod(address.sun_path, 0666) < 0) {
        *error = errno;
        close_fd(&fd);
    }
    return fd;
}

/* A port of loopback; where the one that is wanted is not to be had, one of the kernel's choice. */
static int port_at(uint32_t host, uint32_t port, int *error) {
    struct sockaddr_in address = loopback(port);
    address.sin_addr.s_addr = htonl(host);
    int fd = socket_make(AF_INET);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    address.sin_port = 0;
    if (fd >= 0 && port && bind(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    *error = errno;
    close_fd(&fd);
    return fd;
}

/* Listen where the frame says, else on a port of the kernel's choice; the answer says which. */
void port_listen(const struct frame *frame) {
    int fd, error = EMFILE;
    bool path = frame->arg;
    if (listener_count == LISTENERS) fd = -1;
    else if (path) fd = socket_at(frame->body, frame->length, &error);
    else if (frame->length < 8) fd = port_at(INADDR_LOOPBACK, 0, &error);
    else fd = port_at(get32(frame->body), get32(frame->body + 4), &error);
    uint8_t body[8] = {0};
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    if (fd >= 0 && listen(fd, 64) < 0) {
        error = errno;
        close_fd(&fd);
    }
    if (fd < 0) {
        put32(body + 4, (uint32_t)error);
    } else {
        if (path) put32(body, 1);
        else if (getsockname(fd, (struct sockaddr *)&address, &size) == 0)
            put32(body, ntohs(address.sin_port));
        listeners[listener_count++] = fd;
    }
    wire_send(K_ANSWER, 0, frame->id, body, sizeof body);
}

static bool attach(struct run *run, int fd) {
    run->connection = true;
    run->state = RUNNING;
    run->out[0] = fd;
    run->credit[0] = OUTPUT_WINDOW;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy >= 0) run->in = keep_fd(copy);
    return copy >= 0;
}

/* A program connects: one that finds no room is refused, and the next one is served. */
void port_accept(size_t which) {
    static uint32_t last;
    int fd = accept4(listeners[which], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    keep_fd(fd);
    struct run *run = run_new(OWN_IDS | ++last);
    if (!run || !attach(run, fd)) {
        if (run) run_free(run);
        else close(fd);
        return;
    }
    wire_send(K_OPENED, (uint8_t)which, run->id, NULL, 0);
}

/* Begin to connect; 0, or how it failed. */
static int reach(struct run *run, int family, uint32_t port) {
    struct sockaddr_in four = loopback(port);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port),
                               .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const void *address = family == AF_INET ? (const void *)&four : &six;
    socklen_t size = family == AF_INET ? sizeof four : sizeof six;
    int fd = socket_make(family);
    if (fd < 0 || !attach(run, fd)) return errno;
    if (connect(fd, address, size) < 0 && errno != EINPROGRESS) return errno;
    run->connecting = true;
    return 0;
}

/* Where nobody listens over IPv4 somebody may over IPv6, as servers do that are told
 * "localhost": whether that is tried now. */
bool port_again(struct run *run) {
    uint32_t port = run->port;
    run->port = 0;
    if (!port) return false;
    close_fd(&run->in);
    close_fd(&run->out[0]);
    return reach(run, AF_INET6, port) == 0;
}

void port_connect(struct run *run, uint32_t port) {
    run->port = port;
    int error = reach(run, AF_INET, port);
    if (error && !port_again(run)) run_fail(run, NO_PORT, error);
}
