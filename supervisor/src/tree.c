/* Trees of processes: found by parentage, ended in rounds until nothing is left. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

/* So often a tree is killed as it stands; what still forks then is stopped first. */
#define QUICK_ROUNDS 2
#define STOP_ROUNDS 60
#define MAX_CANDIDATES 16

bool alone, subreaper;

static bool stat_read(int proc, const char *name, struct process *process) {
    char path[300], text[512];
    snprintf(path, sizeof path, "%s/stat", name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    if (got <= 0) return false;
    text[got] = 0;
    char *rest = strrchr(text, ')'); /* a program chooses its name, brackets included */
    process->pid = atoi(name);
    return rest && sscanf(rest + 1, " %c %d %d %d", &process->state, &process->parent,
                          &process->group, &process->session) == 4;
}

static int by_pid(const void *a, const void *b) {
    return ((const struct process *)a)->pid - ((const struct process *)b)->pid;
}

bool tree_read(struct tree *tree) {
    static struct process *list;
    static size_t room;
    tree->count = 0;
    DIR *folder = opendir("/proc");
    if (!folder) return false;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
        if (tree->count == room) {
            size_t more = room ? 2 * room : 256;
            struct process *larger = realloc(list, more * sizeof *list);
            if (!larger) break;
            list = larger;
            room = more;
        }
        if (stat_read(dirfd(folder), entry->d_name, &list[tree->count])) tree->count++;
    }
    closedir(folder);
    tree->list = list;
    qsort(list, tree->count, sizeof *list, by_pid);
    return true;
}

static bool marked(const struct tree *tree, pid_t pid, const bool *mark) {
    struct process wanted = {.pid = pid};
    struct process *found = tree->count ? bsearch(&wanted, tree->list, tree->count,
                                                  sizeof wanted, by_pid) : NULL;
    return found && mark[found - tree->list];
}

void tree_below(const struct tree *tree, pid_t root, bool *mark) {
    for (bool more = root > 0; more;) {
        more = false;
        for (size_t i = 0; i < tree->count; i++) {
            if (mark[i] || tree->list[i].pid == root) continue;
            pid_t parent = tree->list[i].parent;
            if (parent == root || marked(tree, parent, mark)) mark[i] = more = true;
        }
    }
}

static void mark_with_root(const struct tree *tree, pid_t root, bool *mark) {
    for (size_t i = 0; i < tree->count; i++)
        if (tree->list[i].pid == root) mark[i] = true;
    tree_below(tree, root, mark);
}

/* -- orphans, where no keeper adopts them --------------------------------------------------- */

/* A process whose parent has ended. Whose it is shows by its session, which no other program
 * can join, or by there being one execution alone when it was seen first. */
struct orphan {
    pid_t pid;
    uint32_t owner;  /* 0: one of the candidates */
    uint32_t candidates[MAX_CANDIDATES];
    size_t count;
    bool seen;
};
static struct orphan *orphans;
static size_t orphan_count, orphan_room;

static bool is_ours(pid_t pid) {
    if (is_spare(pid)) return true;
    for (struct run *run = runs; run; run = run->next)
        if (run->program == pid || run->keeper == pid) return true;
    for (struct slot *slot = slots; slot; slot = slot->next)
        if (slot->interpreter == pid || slot->keeper == pid) return true;
    return false;
}

static void attribute(struct orphan *orphan, const struct process *process) {
    orphan->count = 0;
    orphan->owner = 0;
    for (struct run *run = runs; run; run = run->next) {
        if (run->connection || run->state < RUNNING) continue;
        if (run->program == process->session) {
            orphan->owner = run->id;
            return;
        }
        if (run->state == ENDED) continue;
        if (orphan->count < MAX_CANDIDATES) orphan->candidates[orphan->count] = run->id;
        orphan->count++;
    }
    if (orphan->count == 1) orphan->owner = orphan->candidates[0];
}

static struct orphan *orphan_of(const struct process *process) {
    for (size_t i = 0; i < orphan_count; i++)
        if (orphans[i].pid == process->pid) return &orphans[i];
    if (orphan_count == orphan_room) {
        size_t more = orphan_room ? 2 * orphan_room : 16;
        struct orphan *larger = realloc(orphans, more * sizeof *orphans);
        if (!larger) return NULL;
        orphans = larger;
        orphan_room = more;
    }
    struct orphan *orphan = &orphans[orphan_count++];
    orphan->pid = process->pid;
    attribute(orphan, process);
    return orphan;
}

static void orphans_in(const struct tree *tree) {
    pid_t foster = alone ? getpid() : 1;
    for (size_t i = 0; i < orphan_count; i++) orphans[i].seen = false;
    for (size_t i = 0; i < tree->count; i++) {
        const struct process *process = &tree->list[i];
        if (process->parent != foster || process->state == 'Z' || is_ours(process->pid)) continue;
        if (process->pid == getpid()) continue;
        struct orphan *orphan = orphan_of(process);
        if (orphan) orphan->seen = true;
    }
    size_t left = 0;
    for (size_t i = 0; i < orphan_count; i++)
        if (orphans[i].seen) orphans[left++] = orphans[i];
    orphan_count = left;
}

bool orphans_due;

/* Orphans are children of process 1: where it has none but those it knows, there are none. */
static bool has_no_child(void) {
    for (struct run *run = runs; run; run = run->next)
        if (run->keeper) return false;
    siginfo_t info;
    return alone && !slots &&
           waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}

void orphans_look(void) {
    struct tree tree;
    orphans_due = false;
    if (subreaper) return;
    if (has_no_child()) orphan_count = 0;
    else if (tree_read(&tree)) orphans_in(&tree);
}

static bool may_be_of(const struct orphan *orphan, uint32_t id) {
    if (orphan->owner) return orphan->owner == id;
    if (orphan->count > MAX_CANDIDATES) return true;
    for (size_t i = 0; i < orphan->count; i++)
        if (orphan->candidates[i] == id) return true;
    return false;
}

/* Marks its orphans; false where one may be its or another's. */
static bool mark_orphans(const struct tree *tree, const struct run *run, bool *mark) {
    for (size_t i = 0; i < orphan_count; i++) {
        if (!may_be_of(&orphans[i], run->id)) continue;
        if (!orphans[i].owner) return false;
        mark_with_root(tree, orphans[i].pid, mark);
    }
    return true;
}

/* -- ending -------------------------------------------------------------------------------- */

/* Who stopped by itself stays so when the others go on. */
static bool *freeze(struct tree *tree) {
    static bool *stopped;
    static size_t room;
    struct tree before = *tree;
    if (!alone || before.count == 0 || kill(-1, SIGSTOP) < 0) return NULL;
    static pid_t *were;
    size_t count = 0;
    pid_t *list = realloc(were, before.count * sizeof *were);
    if (list) were = list;
    for (size_t i = 0; list && i < before.count; i++)
        if (before.list[i].state == 'T') were[count++] = before.list[i].pid;
    if (!tree_read(tree)) return NULL;
    if (tree->count > room) {
        bool *larger = realloc(stopped, tree->count * sizeof *stopped);
        if (!larger) return NULL;
        stopped = larger;
        room = tree->count;
    }
    for (size_t i = 0; i < tree->count; i++) {
        stopped[i] = false;
        for (size_t k = 0; k < count; k++) stopped[i] |= were[k] == tree->list[i].pid;
    }
    return stopped;
}

/* What was stopped goes on. A fork that was under way at the stop gives a child that no list has
 * and that is stopped all the same, as a signal to all reaches such children, too; so does this
 * one. Who had stopped by itself is stopped again. */
static void thaw(const struct tree *tree, const bool *stopped) {
    kill(-1, SIGCONT);
    for (size_t i = 0; stopped && i < tree->count; i++)
        if (stopped[i]) kill(tree->list[i].pid, SIGSTOP);
}

static bool mark_tree(const struct tree *tree, const struct run *run, bool *mark) {
    pid_t root = run->slot ? run->slot->keeper : run->keeper;
    if (subreaper && !(run->request.flags & F_BUILTIN)) {
        tree_below(tree, root, mark);
        return true;
    }
    mark_with_root(tree, run->slot ? run->slot->interpreter : run->program, mark);
    return subreaper || mark_orphans(tree, run, mark);
}

/* Nothing else was started here whose programs a stop would disturb, or that may be stopped by
 * a will of its own. */
static bool is_only_one(const struct run *run) {
    for (const struct run *other = runs; other; other = other->next)
        if (other != run && !other->connection && other->state >= RUNNING) return false;
    return true;
}

/* Kill once all that is there of a doomed execution. Its keeper's end says when it is over. */
void kill_round(struct run *run) {
    struct tree tree;
    /* A crowd of programs leaves this process a small share of the cpus until it stands still. */
    bool frozen = alone && !run->rounds && is_only_one(run) && kill(-1, SIGSTOP) == 0;
    if (!tree_read(&tree)) return;
    bool *stopped = NULL;
    if (run->rounds++ >= QUICK_ROUNDS && !frozen) {
        stopped = freeze(&tree);
        frozen = true;
    }
    if (!subreaper) orphans_in(&tree);
    bool *mark = calloc(tree.count + 1, sizeof *mark);
    bool known = mark && mark_tree(&tree, run, mark);
    bool any = false, running = false;
    for (size_t i = 0; mark && i < tree.count; i++) {
        mark[i] = mark[i] && tree.list[i].pid != getpid() && tree.list[i].state != 'Z';
        any |= mark[i];
        running |= mark[i] && tree.list[i].state != 'T';
    }
    /* Not alone, all of a tree are stopped one by one first: what is stopped cannot fork away. */
    bool stop = frozen && !alone && running && run->rounds < STOP_ROUNDS;
    for (size_t i = 0; mark && i < tree.count; i++)
        if (mark[i]) kill(tree.list[i].pid, stop ? SIGSTOP : SIGKILL);
    if (frozen && alone) thaw(&tree, stopped);
    pid_t keeper = run->slot ? run->slot->keeper : run->keeper;
    if (subreaper && keeper) kill(keeper, SIGCONT); /* a program may have stopped it */
    run->lingers = any;
    free(mark);
    if (!known) wire_send(K_LOST, 0, run->id, NULL, 0);
}

bool orphans_of(uint32_t id) {
    for (size_t i = 0; i < orphan_count; i++)
        if (orphans[i].owner == id) return true;
    return false;
}

bool strays;

/* Descendants of keepers that a program has killed: they come to process 1, which ends them. */
void strays_end(void) {
    struct tree tree;
    if (!strays || !alone || !tree_read(&tree)) return;
    bool *mark = calloc(tree.count + 1, sizeof *mark);
    for (size_t i = 0; mark && i < tree.count; i++)
        if (tree.list[i].parent == getpid() && !is_ours(tree.list[i].pid)) mark[i] = true;
    strays = false;
    for (size_t i = 0; mark && i < tree.count; i++) {
        if (mark[i]) tree_below(&tree, tree.list[i].pid, mark);
        if (!mark[i] || tree.list[i].state == 'Z') continue;
        strays = true;
        kill(tree.list[i].pid, SIGKILL);
    }
    free(mark);
}
