/* The file server's commands, and those that are done with one file. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files_in.h"

/* Which refusal a file of that mode meets where content is wanted; 0 for a regular one. */
int special(mode_t mode) {
    if (S_ISREG(mode)) return 0;
    if (S_ISDIR(mode)) return EISDIR;
    if (S_ISFIFO(mode)) return IS_FIFO;
    return S_ISSOCK(mode) ? IS_SOCKET : IS_DEVICE;
}

/* A descriptor of a regular file, or -1 with the reason in errno. Whatever else is there (a
 * FIFO that nobody writes to, a device, a link to one) is not waited for: that is what
 * O_NONBLOCK is for. */
int open_regular(int at, const char *path, int flags, mode_t mode, struct stat *about) {
    int fd = openat(at, path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, mode);
    int why = fd < 0 ? errno : fstat(fd, about) ? errno : special(about->st_mode);
    if (why == ENXIO) { /* a socket, or a FIFO that nobody reads */
        int follow = flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;
        if (!fstatat(at, path, about, follow) && special(about->st_mode))
            why = special(about->st_mode);
    }
    if (!why) return fd;
    if (fd >= 0) close(fd);
    errno = why;
    return -1;
}

/* Make what is missing of the path's first `length` bytes, as `mkdir -p` does. */
static void make_all(const char *path, size_t length) {
    char part[MOST_PATH];
    if (length >= sizeof part) fail_here(ENAMETOOLONG);
    for (size_t end = 1; end <= length; end++) {
        if (end < length && path[end] != '/') continue;
        struct stat about;
        memcpy(part, path, end);
        part[end] = 0;
        if (stat(part, &about)) {
            /* Somebody else may be making it, too. */
            if (errno != ENOENT || (mkdir(part, 0777) && errno != EEXIST)) fail_here(errno);
            if (stat(part, &about)) fail_here(errno);
        }
        if (!S_ISDIR(about.st_mode)) fail_here(ENOTDIR);
    }
}

/* The length of the path without its last name. */
size_t parent_length(const char *path) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    while (length > 1 && path[length - 1] != '/') length--;
    return length;
}

void make_parents(const char *path) {
    make_all(path, parent_length(path));
}

void make_folder(const char *path) {
    struct stat about;
    if (!lstat(path, &about) && !(S_ISDIR(about.st_mode) || S_ISLNK(about.st_mode)))
        fail_here(EEXIST);
    make_all(path, strlen(path));
}

/* Decimal, or octal where `base` says so. */
static uint64_t number(const char *text, int base) {
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, base);
    if (*text < '0' || *text > '9' || *end || errno || value > INT64_MAX) fail_here(BAD_COMMAND);
    return value;
}

static void read_file(char **argument) {
    uint64_t offset = number(argument[1], 10), most = number(argument[3], 10);
    uint64_t length = strcmp(argument[2], "-") ? number(argument[2], 10) : INT64_MAX;
    struct stat about;
    int fd = open_regular(AT_FDCWD, argument[0], O_RDONLY, 0, &about);
    if (fd < 0) fail_here(errno);
    uint64_t size = (uint64_t)about.st_size, left = size > offset ? size - offset : 0;
    if ((left < length ? left : length) > most) fail_here(TOO_LARGE);
    if (lseek(fd, (off_t)offset, SEEK_SET) < 0) fail_here(errno);
    unsigned char data[8192 * 4];
    uint64_t done = 0;
    /* Up to its end, whatever its size was: files of /proc have none. */
    while (done < length) {
        uint64_t want = length - done < sizeof data ? length - done : sizeof data;
        ssize_t got = read_some(fd, data, want);
        if (got < 0) fail_here(errno);
        if (!got) break;
        if ((done += (uint64_t)got) > most) fail_here(TOO_LARGE);
        out(data, (size_t)got);
    }
}

/* A path whose last name is none: a folder, if anything. */
static bool names_a_folder(const char *path) {
    size_t from = parent_length(path), length = strlen(path);
    return path[length - 1] == '/' || !strcmp(path + from, ".") || !strcmp(path + from, "..");
}

/* In place, as a local file is written: its links and, without MODE, its mode stay. */
static void write_file(char **argument) {
    const char *path = argument[0], *where = argument[2];
    bool append = !strcmp(where, "append"), replace = !strcmp(where, "replace");
    int64_t offset = append || replace ? -1 : (int64_t)number(where, 10);
    mode_t mode = strcmp(argument[1], "-") ? (mode_t)number(argument[1], 8) & 07777 : 0666;
    int flags = O_WRONLY | O_CREAT | (append ? O_APPEND : 0);
    struct stat about;
    if (names_a_folder(path)) fail_here(EISDIR);
    int fd = open_regular(AT_FDCWD, path, flags, mode, &about);
    if (fd < 0 && errno == ENOENT) {
        make_parents(path);
        fd = open_regular(AT_FDCWD, path, flags, mode, &about);
    }
    if (fd < 0) fail_here(errno);
    if (*argument[1] != '-' && fchmod(fd, mode)) fail_here(errno);
    if (replace && ftruncate(fd, 0)) fail_here(errno);
    unsigned char data[8192 * 4];
    size_t got;
    while ((got = in(data, sizeof data))) {
        int why = write_all(fd, data, got, offset);
        if (why) fail_here(why);
        if (offset >= 0) offset += (int64_t)got;
    }
    if (close(fd)) fail_here(errno);
}

static void get(char **argument) {
    uint64_t bytes = number(argument[1], 10), entries = number(argument[2], 10);
    int top = open(argument[0], O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    if (top < 0) fail_here(errno);
    if (!strcmp(argument[3], "chosen")) get_chosen(top, bytes, entries);
    else get_tree(top, bytes, entries, &records);
}

static void put_files(char **argument) {
    make_folder(argument[0]);
    int top = open(argument[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) fail_here(errno);
    put_begin(top);
    records_read(&put);
    put_end();
}

static void list(char **argument) {
    list_folder(argument[0], number(argument[1], 10), number(argument[2], 10));
}

static void stat_file(char **argument) {
    char target[MOST_PATH];
    struct stat about;
    bool follow = !strcmp(argument[1], "follow");
    if (fstatat(AT_FDCWD, argument[0], &about, follow ? 0 : AT_SYMLINK_NOFOLLOW)) fail_here(errno);
    struct entry entry = entry_of(&about, "");
    if (entry.kind == LINK) {
        int why = link_target(AT_FDCWD, argument[0], target);
        if (why) fail_here(why);
        entry.target = target;
    }
    record_entry(&entry);
}

static void make(char **argument) { make_folder(argument[0]); }
static void drop(char **argument) { remove_path(argument[0], !strcmp(argument[1], "tree")); }
static void move(char **argument) { move_path(argument[0], argument[1]); }
static void watch(char **argument) { watch_folder(argument[0], !strcmp(argument[1], "below")); }
static void copy(char **argument) { copy_path(argument[0], argument[1]); }

static const struct {
    const char *name;
    int arguments, paths;
    void (*run)(char **argument);
} commands[] = {
    {"read", 4, 1, read_file}, {"write", 3, 1, write_file}, {"list", 3, 1, list},
    {"stat", 2, 1, stat_file}, {"mkdir", 1, 1, make},       {"remove", 2, 1, drop},
    {"move", 2, 2, move},      {"copy", 2, 2, copy},        {"get", 4, 1, get},
    {"put", 1, 1, put_files},  {"watch", 2, 1, watch},
};

int files_main(int argc, char **argv) {
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) || argc != 2 + commands[i].arguments) continue;
        for (int path = 0; path < commands[i].paths; path++)
            if (*argv[2 + path] != '/') fail_here(BAD_COMMAND);
        commands[i].run(argv + 2);
        out_flush();
        return 0;
    }
    return BAD_COMMAND;
}
