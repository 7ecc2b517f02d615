/* Removing, moving and copying what is inside. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "files_in.h"

/* Deeper ones are moved up before they are removed, so that no depth is too much. */
#define DEPTH_AT_ONCE 64

static int top = -1; /* of the tree that is removed */
static unsigned long moved_up;

/* Empty a folder, which is closed; 0 or the error. */
static int empty(int fd, int depth);

static int remove_from(int at, const char *name, int depth) {
    if (!unlinkat(at, name, 0)) return 0;
    int why = errno;
    /* Of a folder: EISDIR here, EPERM by POSIX. */
    if (why != EISDIR && why != EPERM) return why == ENOENT ? 0 : why;
    if (!unlinkat(at, name, AT_REMOVEDIR) || errno == ENOENT) return 0;
    if (errno == ENOTDIR) return why;
    if (errno != ENOTEMPTY && errno != EEXIST) return errno;
    if (depth == DEPTH_AT_ONCE) {
        char up[40];
        snprintf(up, sizeof up, ".stockade-%lu-%d", moved_up++, (int)getpid());
        return renameat(at, name, top, up) ? errno : 0;
    }
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return errno;
    why = empty(fd, depth + 1);
    if (why) return why;
    return unlinkat(at, name, AT_REMOVEDIR) && errno != ENOENT ? errno : 0;
}

static int empty(int fd, int depth) {
    DIR *folder = fdopendir(fd);
    if (!folder) return close(fd), ENOMEM;
    int why = 0;
    bool found;
    /* Again until nothing is found: what was removed or moved up may hide the rest. */
    do {
        struct dirent *item;
        found = false;
        while (!why && (item = readdir(folder))) {
            if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
            found = true;
            why = remove_from(fd, item->d_name, depth);
        }
        rewinddir(folder);
    } while (found && !why);
    closedir(folder);
    return why;
}

static int remove_tree(const char *path) {
    top = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int why = top < 0 ? errno : empty(dup(top), 0);
    if (top >= 0) close(top);
    return why ? why : rmdir(path) ? errno : 0;
}

void remove_path(const char *path, bool tree) {
    struct stat about;
    if (lstat(path, &about)) fail_here(errno);
    bool folder = S_ISDIR(about.st_mode);
    if (!(folder ? rmdir(path) : unlink(path))) return;
    bool full = folder && (errno == ENOTEMPTY || errno == EEXIST);
    int why = full && tree ? remove_tree(path) : full ? ENOTEMPTY : errno;
    if (why) fail_here(why);
}

/* Whether the folder that is to hold `path` lies in the folder `inner`. */
static bool is_below(const char *path, const struct stat *inner) {
    char above[MOST_PATH];
    struct stat about, last = {0};
    size_t length = parent_length(path);
    if (length >= sizeof above) fail(ENAMETOOLONG, path);
    memcpy(above, path, length);
    above[length] = 0;
    int at = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool below = false;
    while (at >= 0 && !fstat(at, &about)) {
        below = about.st_dev == inner->st_dev && about.st_ino == inner->st_ino;
        bool root = about.st_dev == last.st_dev && about.st_ino == last.st_ino;
        if (below || root) break;
        last = about;
        int up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = up;
    }
    if (at >= 0) close(at);
    return below;
}

static const char *half_made;

static void unmake(void) {
    remove_tree(half_made);
}

/* A new folder with all that is in the old one; what could not be copied is reported. With
 * `whole`, nothing is left of it where the copying fails. */
static void copy_folder(const char *from, const char *to, const struct stat *about, bool whole) {
    int source = open(from, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    if (source < 0) fail_here(errno);
    if (is_below(to, about)) fail_here(INTO_ITSELF);
    if (mkdir(to, 0700)) fail(errno, to);
    half_made = to;
    if (whole) before_failing = unmake;
    int target = open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target < 0) fail(errno, to);
    put_begin(target);
    get_tree(source, INT64_MAX, INT64_MAX, &put);
    put_end();
    const struct timespec times[] = {about->st_mtim, about->st_mtim};
    if (fchmod(target, about->st_mode & 07777) || futimens(target, times)) fail(errno, to);
    close(target);
}

static int copy_to, copy_error;

static void copy_piece(uint64_t offset, const unsigned char *data, size_t length) {
    if (!copy_error) copy_error = write_all(copy_to, data, length, (int64_t)offset);
}

/* Content, mode and time into an empty file, which is closed; 0 or the error. */
static int copy_content(int source, const struct stat *about, int fd) {
    unsigned char data[8192 * 4];
    ssize_t got = 0;
    copy_to = fd;
    int why = ftruncate(fd, about->st_size) ? errno
                                            : content_of(source, (uint64_t)about->st_size, copy_piece);
    if (!why) why = copy_error;
    /* What has no size may still have content: files of /proc. */
    if (!about->st_size)
        while (!why && (got = read_some(source, data, sizeof data)))
            why = got < 0 ? errno : write_all(fd, data, (size_t)got, -1);
    const struct timespec times[] = {about->st_mtim, about->st_mtim};
    if (!why && (fchmod(fd, about->st_mode & 07777) || futimens(fd, times))) why = errno;
    return close(fd) && !why ? errno : why;
}

/* In place where there is a file already, as any program writes one. */
static void copy_file(int source, const struct stat *about, const char *to) {
    struct stat there;
    int fd = open_regular(AT_FDCWD, to, O_WRONLY | O_CREAT, 0600, &there);
    if (fd < 0) fail(errno, to);
    if (there.st_dev == about->st_dev && there.st_ino == about->st_ino) fail(SAME_FILE, to);
    int why = ftruncate(fd, 0) ? errno : copy_content(source, about, fd);
    if (why) fail(why, to);
}

void copy_path(const char *from, const char *to) {
    struct stat about;
    if (stat(from, &about)) fail_here(errno);
    if (S_ISDIR(about.st_mode)) {
        make_parents(to);
        copy_folder(from, to, &about, false);
        return;
    }
    int source = open_regular(AT_FDCWD, from, O_RDONLY, 0, &about);
    if (source < 0) fail_here(errno);
    make_parents(to);
    copy_file(source, &about, to);
}

/* A name beside `path`, for what takes its place once it is whole. */
static void name_beside(const char *path, char name[MOST_PATH]) {
    size_t length = parent_length(path);
    if (length + 32 > MOST_PATH) fail(ENAMETOOLONG, path);
    memcpy(name, path, length);
    snprintf(name + length, 32, "/.stockade-%d", (int)getpid());
}

/* A file or a link to another file system: whole, or not at all. */
static void move_one(const char *from, const char *to, struct stat *about) {
    char beside[MOST_PATH], target[MOST_PATH];
    name_beside(to, beside);
    int why;
    if (S_ISLNK(about->st_mode)) {
        why = link_target(AT_FDCWD, from, target);
        if (!why && symlink(target, beside)) why = errno;
    } else {
        int source = open_regular(AT_FDCWD, from, O_RDONLY | O_NOFOLLOW, 0, about);
        if (source < 0) fail_here(errno);
        int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        why = fd < 0 ? errno : copy_content(source, about, fd);
    }
    if (!why && rename(beside, to)) why = errno;
    if (why) unlink(beside);
    if (why) fail(why, to);
}

/* A folder to another file system: whole, or not at all. */
static void move_folder(const char *from, const char *to, const struct stat *about) {
    struct stat there;
    /* An empty folder is replaced, as by a rename. */
    if (!lstat(to, &there) && (S_ISDIR(there.st_mode) ? rmdir(to) : (errno = ENOTDIR)))
        fail(errno, to);
    copy_folder(from, to, about, true);
    if (missed_count()) fail_here(EXDEV);
    before_failing = NULL;
}

void move_path(const char *from, const char *to) {
    struct stat about;
    if (lstat(from, &about)) fail_here(errno);
    if (!rename(from, to)) return;
    if (errno == ENOENT) {
        make_parents(to);
        if (!rename(from, to)) return;
    }
    if (errno == EINVAL) fail(INTO_ITSELF, to);
    if (errno != EXDEV) fail(errno, to);
    if (S_ISDIR(about.st_mode)) move_folder(from, to, &about);
    else move_one(from, to, &about);
    remove_path(from, true);
}
