/* Trees on their way in, where no link leads an entry out of the folder that they go to.
 *
 * Every folder is entered from the one above it by its own name and without following links
 * (O_NOFOLLOW). openat2 would do it in one call, where there is one; this way is the same on
 * every kernel, and what is open already is used again from entry to entry. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "files_in.h"

/* Folders that are open, from the top down: below `top`, those that `path` names. */
struct trail {
    int top, depth, fds[MOST_DEPTH];
    size_t ends[MOST_DEPTH]; /* of each one's path */
    char path[MOST_PATH];
};
/* Two, so that a hard link's two ends do not close each other's folders. */
static struct trail here, there;

/* The file that is being written. */
static int file = -1;
static struct entry about_file;
static char file_path[MOST_PATH];

/* Whether it is a path from the top without empty names, `.` and `..`. */
static bool is_clean(const char *path) {
    for (;;) {
        size_t length = strcspn(path, "/");
        if (!length || length > MOST_NAME) return false;
        if (*path == '.' && (length == 1 || (length == 2 && path[1] == '.'))) return false;
        if (!path[length]) return true;
        path += length + 1;
    }
}

static int last(const struct trail *trail) {
    return trail->depth ? trail->fds[trail->depth - 1] : trail->top;
}

/* How many of the open folders are those of a path's first `length` bytes, too. */
static int in_common(const struct trail *trail, const char *path, size_t length) {
    int depth = 0;
    while (depth < trail->depth) {
        size_t end = trail->ends[depth];
        if (end > length || memcmp(trail->path, path, end)) break;
        if (end < length && path[end] != '/') break;
        depth++;
    }
    return depth;
}

static int enter(int at, const char *name, bool make) {
    const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(at, name, flags);
    if (fd >= 0 || errno != ENOENT || !make) return fd;
    /* Its own entry, which comes after what is in it, says what mode it gets. */
    if (mkdirat(at, name, 0700) && errno != EEXIST) return -1;
    return openat(at, name, flags);
}

/* The folder that the path's first `length` bytes name, or -1 with the reason in errno. */
static int walk_to(struct trail *trail, const char *path, size_t length, bool make) {
    int common = in_common(trail, path, length);
    while (trail->depth > common) close(trail->fds[--trail->depth]);
    size_t at = common ? trail->ends[common - 1] : 0;
    while (at < length) {
        char name[MOST_NAME + 1];
        size_t from = at ? at + 1 : 0, part = strcspn(path + from, "/");
        if (trail->depth == MOST_DEPTH) return errno = TOO_DEEP, -1;
        memcpy(name, path + from, part);
        name[part] = 0;
        int fd = enter(last(trail), name, make);
        if (fd < 0) return -1;
        at = from + part;
        memcpy(trail->path, path, at);
        trail->ends[trail->depth] = at;
        trail->fds[trail->depth++] = fd;
    }
    return last(trail);
}

/* The folder that holds what the path names, and that name. */
static int walk_above(struct trail *trail, const char *path, const char **name, bool make) {
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    return walk_to(trail, path, slash ? (size_t)(slash - path) : 0, make);
}

/* One entry failed: the others go on, but where there is no room for any. */
static void lost(int why, const char *path) {
    if (why == ENOSPC || why == EDQUOT) fail(why, path);
    record_missed(why, path);
}

/* What was there before goes, so that nothing is written through a link of any kind. */
static int clear(int at, const char *name) {
    return unlinkat(at, name, 0) && errno != ENOENT ? -1 : 0;
}

/* The last words on the file: its writes would change both. */
static void finish(void) {
    if (file < 0) return;
    const struct timespec times[] = {about_file.modified, about_file.modified};
    if (fchmod(file, about_file.mode) || futimens(file, times)) lost(errno, file_path);
    if (close(file)) lost(errno, file_path);
    file = -1;
}

static int begin_file(const struct entry *entry, int at, const char *name) {
    if (entry->size > INT64_MAX) return errno = EFBIG, -1;
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    if (clear(at, name) || (file = openat(at, name, flags, 0600)) < 0) return -1;
    about_file = *entry;
    strcpy(file_path, entry->name);
    if (!ftruncate(file, (off_t)entry->size)) return 0;
    int why = errno;
    close(file);
    file = -1;
    unlinkat(at, name, 0);
    return errno = why, -1;
}

/* What the path named before keeps nothing of this one. */
static int make_hard_link(const struct entry *entry, int at, const char *name) {
    struct stat about;
    const char *first;
    if (!is_clean(entry->target) || !strcmp(entry->target, entry->name)) fail_here(BAD_RECORD);
    int from = walk_above(&there, entry->target, &first, false);
    if (from < 0 || fstatat(from, first, &about, AT_SYMLINK_NOFOLLOW)) return -1;
    if (!S_ISREG(about.st_mode)) return errno = EINVAL, -1;
    return clear(at, name) ? -1 : linkat(from, first, at, name, 0);
}

static int make_link(const struct entry *entry, int at, const char *name) {
    const struct timespec times[] = {entry->modified, entry->modified};
    if (clear(at, name) || symlinkat(entry->target, at, name)) return -1;
    /* Not every file system keeps a time for a link. */
    return utimensat(at, name, times, AT_SYMLINK_NOFOLLOW) && errno != ENOSYS &&
           errno != EOPNOTSUPP ? -1 : 0;
}

static int settle_folder(const struct entry *entry, int at, const char *name) {
    const struct timespec times[] = {entry->modified, entry->modified};
    int fd = enter(at, name, true);
    if (fd < 0) return -1;
    close(fd);
    if (fchmodat(at, name, entry->mode, 0)) return -1;
    return utimensat(at, name, times, AT_SYMLINK_NOFOLLOW);
}

static void put_entry(const struct entry *entry) {
    finish();
    if (!is_clean(entry->name) || entry->modified.tv_nsec < 0 ||
        entry->modified.tv_nsec > 999999999)
        fail_here(BAD_RECORD);
    const char *name;
    int at = walk_above(&here, entry->name, &name, true), done = -1;
    if (at < 0) done = -1;
    else if (entry->kind == FILE_ENTRY) done = begin_file(entry, at, name);
    else if (entry->kind == FOLDER) done = settle_folder(entry, at, name);
    else if (entry->kind == LINK) done = make_link(entry, at, name);
    else if (entry->kind == HARD_LINK) done = make_hard_link(entry, at, name);
    else fail_here(BAD_RECORD);
    if (done) lost(errno, entry->name);
}

static void put_piece(uint64_t offset, const unsigned char *data, size_t length) {
    if (file < 0) return; /* of a file that could not be made, which was reported */
    if (offset > about_file.size || length > about_file.size - offset) fail_here(BAD_RECORD);
    int why = write_all(file, data, length, (int64_t)offset);
    if (!why) return;
    close(file);
    file = -1;
    lost(why, file_path);
}

/* What had to be left out where the tree comes from. */
static void put_missed(int why, const char *path) {
    record_missed(why, path);
}

const struct sink put = {put_entry, put_piece, put_missed};

void put_begin(int top) {
    here = there = (struct trail){.top = top};
}

void put_end(void) {
    finish();
    while (here.depth) close(here.fds[--here.depth]);
    while (there.depth) close(there.fds[--there.depth]);
}
