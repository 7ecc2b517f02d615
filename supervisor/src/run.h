/* One execution, or one connection to a port: what the supervisor knows of it. */
#ifndef STOCKADE_RUN_H
#define STOCKADE_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STDOUT_STREAM 0
#define STDERR_STREAM 1
/* What code in a named interpreter shows beside its streams. */
#define SHOWN_STREAM 2
#define STREAMS 3
/* What a stream may send before the host has granted more, either way. */
#define OUTPUT_WINDOW (1024u * 1024u)
#define INPUT_WINDOW (256u * 1024u)
#define MAX_RUNS 2048
/* Connections have numbers of the supervisor's own. */
#define OWN_IDS 0x80000000u

enum request_flags {
    F_INPUT = 1,    /* standard input comes in frames; else it is empty */
    F_MERGE = 2,    /* standard error goes where standard output goes */
    F_PTY = 4,
    F_BUILTIN = 8,  /* a command of the supervisor's own, such as `files` */
    F_WARM = 16,    /* code for a warm interpreter */
    F_NAMED = 32,   /* code for the interpreter of that name */
    F_USER = 64,    /* uid and gid of the request */
    F_AHEAD = 128,  /* no execution: an interpreter is to wait for code that comes later */
    F_SHOWN = 256,  /* in no domain of its own: opens another's streams in /proc, or lends them */
};

/* Why a request could not be carried out (K_FAILED). */
enum failure {
    BAD_REQUEST = 1,
    NO_FOLDER = 2,       /* the working folder cannot be entered */
    NO_PROCESS = 3,      /* the process limit is reached */
    NO_USER = 4,
    NO_INTERPRETER = 5,  /* a warm one did not start */
    NO_RESOURCES = 6,
    NO_PORT = 7,
};

struct request {
    uint32_t flags, uid, gid, rows, columns, argc, envc;
    char *cwd, *name;  /* name: of an interpreter that keeps its state */
    char **argv, **env;
    const char *strings; /* argv and env as they came, for a warm interpreter */
    size_t strings_length;
};

enum run_state { FILLING, WAITING, RUNNING, EXITED, ENDED };

struct slot;

struct run {
    struct run *next;
    uint32_t id;
    enum run_state state;
    struct request request;
    uint8_t *text;  /* the request as it came */
    size_t text_length;
    int blob;       /* descriptor of the text that it runs, or -1 */

    pid_t keeper;   /* the child that adopts its descendants, 0 once it has ended */
    pid_t program;
    int report;     /* from the keeper */
    struct slot *slot;
    bool doomed, lingers, connection, terminal, connecting;
    uint32_t port;        /* that is still to be tried over IPv6, or 0 */
    unsigned rounds;      /* of killing */
    int signal;           /* for a program that is just being started */
    bool signals_group;
    int64_t retry_until;  /* while no process could be had */
    int64_t claims_until; /* while a kill for memory may be its or another's */

    int in, out[STREAMS];
    uint8_t *input;  /* what the program did not take yet */
    size_t input_from, input_to;
    bool input_ended;
    uint32_t input_owed;  /* credit that the host gets back */
    uint64_t credit[STREAMS];
    uint64_t dropped[STREAMS];
    bool discard[STREAMS];
    int64_t remain[STREAMS]; /* what was in the pipe when the program exited */

    int status;
    bool out_of_memory;
    uint64_t cpu_us, peak_kib;
};

extern struct run *runs;
extern int highest_fd;

/* frames.c */
struct frame;
void host_take(const struct frame *frame);
extern bool hidden;      /* programs can neither read nor trace this process */
extern bool leaving;     /* nobody is to be served any more */
extern int64_t deadline; /* of the sandbox, in now_ms's time; 0: none */

/* runs.c */
struct run *run_find(uint32_t id);
struct run *run_new(uint32_t id);
void run_free(struct run *run);
bool nobody_runs(void);
void run_exited(struct run *run, int status, uint64_t cpu_us, uint64_t peak_kib);
void run_kill(struct run *run);
/* Report the end where everything of it is there; frees what nothing is left of. */
void run_finish(struct run *run);
void run_report(struct run *run);
void reap(void);
/* Descriptors, each closed on exec and known to `highest_fd`. */
int keep_fd(int fd);
void close_fd(int *fd);
int64_t now_ms(void);

/* parse.c */
bool request_parse(struct run *run);
int blob_make(void);

struct plan;
/* start.c */
void run_start(struct run *run);
bool streams_make(struct run *run, struct plan *plan);
void streams_drop(struct run *run);
void plan_close(struct plan *plan);
void run_started(struct run *run, pid_t pid);
void run_signal(struct run *run);
void run_fail(struct run *run, uint32_t why, int error);
void ignore_signals(void);
void child_signals(void);
/* Descriptors of the supervisor's own begin here; `nothing_fd` is /dev/null. */
#define FIRST_FD 16
extern int nothing_fd;
void child_weight(bool program);
void weight_open(void);
void weight_again(pid_t pid);
pid_t start_interpreter(struct slot *slot, const struct request *like, const char *mode,
                        int socket);
bool take_user(const struct request *request);

/* keeper.c: what a keeper reports, each a fixed record. */
enum { R_STARTED = 1, R_ENDED = 2, R_NOWHERE = 3, R_NOBODY = 4, R_NOFORK = 5, R_NOTAPART = 6 };
struct report {
    int32_t what, value;
    uint64_t cpu_us, peak_kib;
};
struct plan {
    struct request *request;
    int in, out, err, shown, blob, report, terminal;
    bool warm;  /* descriptors: 3 a socket, 4 the source, 5 what puts its programs apart */
    int socket, source;
};
_Noreturn void keeper_main(const struct plan *plan);
/* Start the program of a plan as a child of this process; its pid, or -1 with errno.
 * `stage` is R_NOWHERE, R_NOBODY, R_NOFORK or R_NOTAPART then. What cannot be executed is a child that
 * ended with 126 or 127. */
pid_t program_start(const struct plan *plan, int *stage);
void close_all_but(const int *keep, int count);

/* apart.c: a ruleset that puts who enters into a domain of its own, or -1. */
extern int apart_fd;
void apart_make(void);
bool apart_enter(void);

/* spare.c */
void spare_make(void);
bool is_spare(pid_t pid);
void spare_ended(void);
pid_t spare_take(const struct run *run, const struct plan *plan);

/* streams.c */
void stream_input(struct run *run, const uint8_t *data, size_t length);
void stream_input_end(struct run *run);
void stream_push(struct run *run);
bool stream_pull(struct run *run, int stream);
void stream_settle(struct run *run);

/* tree.c */
struct process {
    pid_t pid, parent, group, session;
    char state;
};
struct tree {
    struct process *list;
    size_t count;
};
extern bool alone;      /* this is process 1 of a namespace of its own */
extern bool subreaper;  /* the kernel lets a keeper adopt its descendants */
bool tree_read(struct tree *tree);
/* Marks what descends from `root`, itself left out; `mark` has tree->count entries. */
void tree_below(const struct tree *tree, pid_t root, bool *mark);
void kill_round(struct run *run);
void orphans_look(void);
/* Whether a look is due, since an execution has ended. */
extern bool orphans_due;
bool orphans_of(uint32_t id);
void strays_end(void);
extern bool strays;

/* memory.c */
void memory_open(void);
uint64_t memory_kills(void);
void memory_begin(bool first);
bool memory_kills_left(void);
bool memory_claim(void);

/* warm.c: an interpreter that waits for code, below a keeper of its own. */
struct slot {
    struct slot *next;
    char *program, *name;  /* name: of one that keeps its state, or NULL */
    int socket, report;
    pid_t keeper, interpreter;
    bool taken, closing;   /* taken: its execution has begun */
    int64_t look_at;       /* when to see why it has not begun */
    struct run *run;
    uint8_t *message;      /* to the interpreter: what of it the socket did not take yet */
    size_t message_from, message_to;
    uint8_t said[8];
    size_t said_length;
};
extern struct slot *slots;
bool warm_source(const uint8_t *data, size_t length, bool more);
int warm_source_fd(void);
const char *warm_boot(void);
void warm_start(struct run *run);
/* Have an interpreter wait for code as this request has it; frees the request. */
void warm_ahead(struct run *run);
void warm_hear(struct slot *slot);
void warm_push(struct slot *slot);
void warm_report(struct slot *slot);
void warm_ended(struct slot *slot);
void warm_gone(struct slot *slot);
void warm_look(void);
bool warm_is(pid_t pid);
/* See to it that executions begin; when to do so again, in now_ms's time, or 0. */
int64_t warm_wake(void);

/* ports.c */
void port_listen(const struct frame *frame);
/* A program connects to the listener of this number: they are counted as they were made. */
void port_accept(size_t which);
void port_connect(struct run *run, uint32_t port);
/* Whether a connection that failed is tried in another way. */
bool port_again(struct run *run);
enum { LISTENERS = 64 };
extern int listeners[LISTENERS];
extern size_t listener_count;

/* lend.c */
int lend_main(void);
/* hostkeeper.c */
int keep_main(int argc, char **argv);
void tie(int fd);

/* builtin.c */
int builtin_main(int argc, char **argv);
/* reach.c */
int reach_main(int argc, char **argv);

#endif
