/* Lend its standard streams: an interpreter that has none of its own for each piece of code opens
 * these by their names in /proc. It runs as a program of its own, so that nothing of the
 * supervisor is in its memory, which other programs of its user may read. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "run.h"

/* Is there once the streams may be opened. */
#define READY_FD 7

static void close_streams(int writer, int nothing) {
    for (int fd = 0; fd < 3; fd++) dup2(nothing, fd);
    if (writer >= 0) close(writer);
}

int lend_main(void) {
    sigset_t heard;
    sigemptyset(&heard);
    sigaddset(&heard, SIGUSR1);
    sigaddset(&heard, SIGTERM);
    sigprocmask(SIG_BLOCK, &heard, NULL);
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Who opens the reading end of a pipe that nobody writes to any more waits for ever. */
    int writer = open("/proc/self/fd/0", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    dup2(nothing, READY_FD);
    while (true) {
        int number = 0;
        if (sigwait(&heard, &number)) continue;
        if (number == SIGTERM) return 0;
        close_streams(writer, nothing); /* they were opened: their ends are its own now */
        writer = -1;
    }
}
