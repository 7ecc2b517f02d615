/* Connections between the host and ports of the sandbox's loopback, over the host's link. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

int listener = -1;

static struct sockaddr_in loopback(uint32_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int socket_make(int family) {
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -1 : keep_fd(fd);
}

/* Listen on a port of the kernel's choice; the answer says which. */
void port_listen(uint32_t id) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    uint8_t body[8] = {0};
    if (listener < 0) listener = socket_make(AF_INET);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) < 0 ||
        listen(listener, 64) < 0) {
        int error = errno;
        close_fd(&listener);
        put32(body + 4, (uint32_t)error);
    } else if (getsockname(listener, (struct sockaddr *)&address, &size) == 0) {
        put32(body, ntohs(address.sin_port));
    }
    wire_send(K_ANSWER, 0, id, body, sizeof body);
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
void port_accept(int from) {
    static uint32_t last;
    int fd = accept4(from, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    keep_fd(fd);
    struct run *run = run_new(OWN_IDS | ++last);
    if (!run || !attach(run, fd)) {
        if (run) run_free(run);
        else close(fd);
        return;
    }
    wire_send(K_OPENED, 0, run->id, NULL, 0);
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
