/* Executions kept apart by the kernel: each is in a Landlock domain of its own.
 *
 * From a domain nobody traces, nor opens the memory, descriptors or environment in /proc of, a
 * process that is not in it or below it. Two executions are beside each other, so what is left of
 * one reaches nothing of another (D16). Within one, a debugger and its program, nothing changes. */
#include <fcntl.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"

enum { CREATE_RULESET = 444, ADD_RULE = 445, RESTRICT_SELF = 446 };
enum { VERSION = 1, PATH_BENEATH = 1 };
/* What is refused fills no log of the host's: by this program, and by domains below its own. */
enum { LOG_SAME_EXEC_OFF = 1, LOG_SUBDOMAINS_OFF = 4 };
/* Moving and linking a file into another folder. A set of rules must be about something, and this
 * is refused under any that is about files, unless one allows it; before ABI 2 none can. */
#define REFER (1ull << 13)
#define REFER_ABI 2
#define LOGGING_ABI 7

int apart_fd = -1;
static unsigned flags;

struct path_beneath {
    uint64_t access;
    int32_t parent;
} __attribute__((packed));

/* All that it is about is allowed below the root. Mounts alone are refused, which no program has
 * the right to, either. */
static int ruleset_make(void) {
    uint64_t handled = REFER;
    int made = (int)syscall(CREATE_RULESET, &handled, sizeof handled, 0);
    struct path_beneath rule = {.access = REFER,
                                .parent = open("/", O_PATH | O_CLOEXEC)};
    if (made >= 0 && syscall(ADD_RULE, made, PATH_BENEATH, &rule, 0) < 0) {
        close(made);
        made = -1;
    }
    if (rule.parent >= 0) close(rule.parent);
    return made;
}

/* Before anything is started; what cannot be enforced (a filter, too many domains around this
 * one, rights that a program could gain) is not kept. */
void apart_make(void) {
    long abi = syscall(CREATE_RULESET, NULL, 0, VERSION);
    if (abi < REFER_ABI || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return;
    flags = abi >= LOGGING_ABI ? LOG_SAME_EXEC_OFF | LOG_SUBDOMAINS_OFF : 0;
    int made = ruleset_make();
    if (made < 0) return;
    apart_fd = keep_fd(made);
    int status = -1;
    pid_t pid = vfork();
    if (pid == 0) _exit(!apart_enter());
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status) close_fd(&apart_fd);
}

/* In a domain of its own from here on, this process and all below it. */
bool apart_enter(void) {
    return apart_fd < 0 || syscall(RESTRICT_SELF, apart_fd, flags) == 0;
}
