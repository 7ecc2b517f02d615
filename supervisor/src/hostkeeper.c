/* A sandbox's keeper on the host, once the sandbox is up: what made it executes this in its own
 * place, since it needs little memory and no cpu where nothing has to be watched.
 *
 *     supervisor keep CONTROL OWNER PROGRAM MILLISECONDS [FOLDER...]
 *
 * CONTROL and OWNER are descriptors: of the owner's questions and of its process (-1: none).
 * PROGRAM is the child that is the sandbox; MILLISECONDS are left of its lifetime (-1: no end);
 * FOLDERs are its control groups. It ends all of that with its owner, at the end of the lifetime,
 * or when it is asked to. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

/* As in toolkit/local/messages.py, but for who was killed, which only a watch knows. */
enum { Q_STATE = 1, Q_EXPIRE = 3, Q_END = 4, Q_EXPECT = 5 };
#define QUESTION_BYTES 12
#define ANSWER_BYTES 16
#define WORDS_BYTES 256
#define END_MS 8000
#define LOOK_NS 2000000

static int control, owner;
static pid_t program;
static int64_t ended = -1; /* the program's wait status */
static int64_t over_at;    /* 0: never */
static char **folders;
static volatile sig_atomic_t asked_to_end;

static void on_signal(int number) { asked_to_end |= number == SIGTERM; }

/* False where no child is left. */
static bool reap_children(void) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR))
        if (pid == program) ended = status;
    return pid == 0;
}

static void kill_listed(const char *path) {
    FILE *file = fopen(path, "re");
    if (!file) return;
    int pid;
    while (fscanf(file, "%d", &pid) == 1)
        if (pid > 0 && pid != getpid()) kill(pid, SIGKILL);
    fclose(file);
}

/* What is frozen does not die (version 1). */
static void thaw(const char *folder) {
    char path[4096];
    snprintf(path, sizeof path, "%s/freezer.state", folder);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    (void)!write(fd, "THAWED", 6);
    close(fd);
}

/* Everything below this process, which adopts what loses its parent, and its groups. Returns 0,
 * or why that was not done in time. */
static int end_all(void) {
    char path[4096];
    int64_t until = now_ms() + END_MS;
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    while (true) {
        int error = 0;
        for (char **folder = folders; *folder; folder++) {
            thaw(*folder);
            snprintf(path, sizeof path, "%s/cgroup.procs", *folder);
            kill_listed(path);
        }
        snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
        kill_listed(path);
        if (reap_children()) error = EBUSY;
        for (char **folder = folders; *folder; folder++)
            if (rmdir(*folder) < 0 && errno != ENOENT) error = errno;
        if (!error) return 0;
        if (now_ms() > until) return error;
        struct timespec pause = {0, LOOK_NS};
        sigtimedwait(&children, NULL, &pause);
    }
}

/* `wrong`: what was not done, and `error` why; NULL where it was. */
static void answer(const char *wrong, int error) {
    uint8_t body[ANSWER_BYTES + WORDS_BYTES] = {0};
    put32(body, wrong ? 0 : 1);
    put64(body + 8, (uint64_t)ended);
    char *words = (char *)body + ANSWER_BYTES;
    if (wrong) snprintf(words, WORDS_BYTES, "%s: %s", wrong, strerror(error));
    (void)!send(control, body, ANSWER_BYTES + strlen(words), MSG_NOSIGNAL);
}

/* False where nobody asks any more, or an end was asked for and is done. */
static bool serve_one(void) {
    uint8_t body[QUESTION_BYTES];
    ssize_t got = recv(control, body, sizeof body, MSG_DONTWAIT);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got < QUESTION_BYTES) return false;
    int64_t value = (int64_t)get64(body + 4);
    int error;
    switch (get32(body)) {
        case Q_EXPECT: return true; /* nothing is watched */
        case Q_EXPIRE: over_at = value < 0 ? 0 : now_ms() + value; break;
        case Q_STATE: break;
        case Q_END:
            error = end_all();
            answer(error ? "the sandbox does not end" : NULL, error);
            return error != 0;
        default:
            answer("this keeper watches nothing, and knows no such question", EINVAL);
            return true;
    }
    answer(NULL, 0);
    return true;
}

int keep_main(int argc, char **argv) {
    if (argc < 5) return 2;
    control = atoi(argv[1]);
    owner = atoi(argv[2]);
    program = atoi(argv[3]);
    int64_t left = strtoll(argv[4], NULL, 10);
    if (left >= 0) over_at = now_ms() + left;
    folders = argv + 5;
    sigset_t heard, usual;
    sigemptyset(&heard);
    sigaddset(&heard, SIGCHLD);
    sigaddset(&heard, SIGTERM);
    sigprocmask(SIG_BLOCK, &heard, &usual);
    sigdelset(&usual, SIGCHLD);
    sigdelset(&usual, SIGTERM);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGCHLD, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    for (int number = 1; number < 32; number++)
        if (number != SIGCHLD && number != SIGTERM) signal(number, SIG_IGN);
    while (!asked_to_end) {
        reap_children();
        int64_t now = now_ms();
        if (over_at && now >= over_at) break;
        struct pollfd watched[2] = {{.fd = control, .events = POLLIN},
                                    {.fd = owner, .events = POLLIN}};
        left = over_at ? over_at - now : 0;
        struct timespec time = {left / 1000, (long)(left % 1000) * 1000000};
        if (ppoll(watched, owner < 0 ? 1 : 2, over_at ? &time : NULL, &usual) <= 0) continue;
        /* A fork of the owner may hold the socket open, so the owner itself is looked at too. */
        if (owner >= 0 && watched[1].revents) break;
        if (watched[0].revents && !serve_one()) break;
    }
    end_all();
    return 0;
}

/* Out of the hands of whoever started this process and into those of the keeper beyond, which
 * ends the one in between and holds the other end of `fd`: what ends with its parent ends with
 * that keeper from now on. Closed ends say that the keeper is gone. */
void tie(int fd) {
    char word;
    prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
    if (write(fd, "t", 1) != 1 || read(fd, &word, 1) != 1) _exit(127);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (recv(fd, &word, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN) _exit(127);
    close(fd);
}
