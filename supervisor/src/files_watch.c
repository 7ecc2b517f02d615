/* Changes below a folder, as the kernel reports them (F6).
 *
 * A record of kind W is what happened (1), whether to a folder (1), the lengths of the path (2)
 * and, of what was renamed, of the old one (2), then both. Paths are from the folder that is
 * watched. The first record says that from now on nothing is missed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "files_in.h"

enum what {
    WATCHED = 'y', MADE = 'c', MODIFIED = 'm', REMOVED = 'r', RENAMED = 'n', ATTRIBUTES = 'a',
    MISSED = 'o', /* more than could be kept, or than may be watched */
};
#define MOST_WATCHES 8192u
#define MOST_SEEN 1024u
/* What a rename's second half is waited for. */
#define HALF_MS 20
#define MASK (IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | \
              IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)

static struct watch {
    int number;
    char *path; /* from the top, "" for that */
} *watches;
static size_t count, room;
static int queue = -1;
static const char *top;
static bool deep, reported_misses;

/* What a look into a new folder has found, and may come as an event once more. */
static struct {
    int number;
    char *name;
} seen[MOST_SEEN];
static size_t seen_count;

/* The first half of a rename. */
static struct {
    bool waits, folder;
    uint32_t cookie;
    char path[MOST_PATH];
} half;

static void report(enum what what, bool folder, const char *path, const char *old) {
    record_change((char)what, folder, path, old);
}

static void missed(void) {
    if (!reported_misses) report(MISSED, false, "", "");
    reported_misses = true;
}

static struct watch *watch_of(int number) {
    for (size_t i = 0; i < count; i++)
        if (watches[i].number == number) return &watches[i];
    return NULL;
}

static bool joined(char path[MOST_PATH], const char *folder, const char *name) {
    int length = snprintf(path, MOST_PATH, "%s%s%s", folder, *folder ? "/" : "", name);
    return length > 0 && length < MOST_PATH;
}

static bool is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static void seen_add(int number, const char *name) {
    char *copy = seen_count < MOST_SEEN ? strdup(name) : NULL;
    if (!copy) return;
    seen[seen_count].number = number;
    seen[seen_count++].name = copy;
}

static bool seen_take(int number, const char *name) {
    for (size_t i = 0; i < seen_count; i++)
        if (seen[i].number == number && !strcmp(seen[i].name, name)) {
            free(seen[i].name);
            seen[i] = seen[--seen_count];
            return true;
        }
    return false;
}

/* One folder; its number, or -1. */
static int add(const char *path) {
    char whole[2 * MOST_PATH];
    snprintf(whole, sizeof whole, "%s/%s", top, path);
    if (count == MOST_WATCHES) {
        errno = ENOSPC;
        return -1;
    }
    int number = inotify_add_watch(queue, whole, MASK | (*path ? IN_DONT_FOLLOW : 0));
    if (number < 0) return -1;
    struct watch *known = watch_of(number);
    char *copy = strdup(path);
    if (known && copy) {
        free(known->path);
        known->path = copy;
        return number;
    }
    if (count == room) {
        struct watch *more = realloc(watches, (room + 64) * sizeof *more);
        if (more) {
            watches = more;
            room += 64;
        }
    }
    if (!copy || count == room) fail_here(ENOMEM);
    watches[count++] = (struct watch){number, copy};
    return number;
}

/* The folders in one, and with `fresh` all that is in it as new. */
static void add_below(const char *path, int number, int depth, bool fresh) {
    char whole[2 * MOST_PATH], inner[MOST_PATH];
    snprintf(whole, sizeof whole, "%s/%s", top, path);
    int fd = open(whole, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && !*path) fd = open(whole, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0) close(fd);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(folder))) {
        struct stat about;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (fstatat(fd, entry->d_name, &about, AT_SYMLINK_NOFOLLOW)) continue;
        if (!joined(inner, path, entry->d_name)) continue;
        bool is_folder = S_ISDIR(about.st_mode);
        if (fresh) {
            report(MADE, is_folder, inner, "");
            seen_add(number, entry->d_name);
        }
        if (!is_folder) continue;
        errno = ELOOP;
        int below = depth < MOST_DEPTH ? add(inner) : -1;
        if (below >= 0) add_below(inner, below, depth + 1, fresh);
        else if (errno != ENOENT && errno != EACCES) missed();
    }
    closedir(folder);
}

static void forget_below(const char *path, bool at_the_kernel) {
    for (size_t i = 0; i < count;) {
        if (!is_below(watches[i].path, path)) {
            i++;
            continue;
        }
        if (at_the_kernel) inotify_rm_watch(queue, watches[i].number);
        free(watches[i].path);
        watches[i] = watches[--count];
    }
}

static void move_below(const char *from, const char *to) {
    for (size_t i = 0; i < count; i++) {
        char path[MOST_PATH];
        if (!is_below(watches[i].path, from)) continue;
        const char *rest = watches[i].path + strlen(from);
        if (snprintf(path, sizeof path, "%s%s", to, rest) >= MOST_PATH) continue;
        char *copy = strdup(path);
        if (!copy) continue;
        free(watches[i].path);
        watches[i].path = copy;
    }
}

/* What was moved away and nowhere else that is watched. */
static void give_up_half(void) {
    if (!half.waits) return;
    half.waits = false;
    report(REMOVED, half.folder, half.path, "");
    if (half.folder) forget_below(half.path, true);
}

static void came(int number, bool folder, const char *path, const char *name) {
    if (seen_take(number, name)) return;
    report(MADE, folder, path, "");
    if (!folder || !deep) return;
    int below = add(path);
    if (below >= 0) add_below(path, below, 1, true);
    else if (errno != ENOENT && errno != EACCES) missed();
}

static void take(const struct inotify_event *event) {
    char path[MOST_PATH];
    if (event->mask & IN_Q_OVERFLOW) {
        give_up_half();
        report(MISSED, false, "", "");
        return;
    }
    const struct watch *watch = watch_of(event->wd);
    if (!watch) return;
    bool folder = event->mask & IN_ISDIR, itself = !event->len;
    if (itself && !*watch->path && event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
        give_up_half();
        report(REMOVED, true, "", "");
        out_flush();
        _exit(0); /* there is nothing more to be seen */
    }
    if (event->mask & IN_IGNORED) {
        char *gone = strdup(watch->path);
        if (gone) forget_below(gone, false);
        free(gone);
        return;
    }
    /* A folder below is reported by the one that it is in. */
    if (itself && *watch->path) return;
    if (!joined(path, watch->path, itself ? "" : event->name)) return;
    if (event->mask & IN_MOVED_TO && half.waits && half.cookie == event->cookie) {
        half.waits = false;
        report(RENAMED, folder, path, half.path);
        if (folder) move_below(half.path, path);
        return;
    }
    give_up_half();
    if (event->mask & IN_MOVED_FROM) {
        half.waits = true;
        half.folder = folder;
        half.cookie = event->cookie;
        memcpy(half.path, path, sizeof path);
    } else if (event->mask & (IN_CREATE | IN_MOVED_TO)) came(event->wd, folder, path, event->name);
    else if (event->mask & IN_DELETE) report(REMOVED, folder, path, "");
    else if (event->mask & IN_MODIFY) report(MODIFIED, folder, path, "");
    else if (event->mask & IN_ATTRIB) report(ATTRIBUTES, folder || itself, path, "");
}

/* Until it is ended, or the folder is gone. */
void watch_folder(const char *path, bool recursive) {
    static char data[64 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct pollfd wait = {.events = POLLIN};
    top = path;
    deep = recursive;
    queue = inotify_init1(IN_CLOEXEC);
    int number = queue < 0 ? -1 : add("");
    if (number < 0) fail_here(errno);
    if (deep) add_below("", number, 1, false);
    report(WATCHED, true, "", "");
    wait.fd = queue;
    while (true) {
        out_flush();
        int ready = poll(&wait, 1, half.waits ? HALF_MS : -1);
        if (ready < 0 && errno != EINTR) fail_here(errno);
        if (ready == 0) give_up_half();
        if (ready <= 0) continue;
        ssize_t got = read_some(queue, data, sizeof data);
        if (got <= 0) fail_here(got < 0 ? errno : EIO);
        for (ssize_t at = 0; at < got;) {
            const struct inotify_event *event = (const void *)(data + at);
            take(event);
            at += (ssize_t)(sizeof *event + event->len);
        }
        while (seen_count && poll(&wait, 1, 0) == 0) free(seen[--seen_count].name);
    }
}
