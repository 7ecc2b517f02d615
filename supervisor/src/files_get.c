/* What is there: listings, and whole trees on their way out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files_in.h"

struct entry entry_of(const struct stat *about, const char *name) {
    struct entry entry = {
        .kind = OTHER, .mode = about->st_mode & 07777, .uid = about->st_uid, .gid = about->st_gid,
        .size = 0, .modified = about->st_mtim, .name = name, .target = "",
    };
    if (S_ISREG(about->st_mode)) {
        entry.kind = FILE_ENTRY;
        entry.size = (uint64_t)about->st_size;
        entry.shared = about->st_nlink > 1;
    } else if (S_ISDIR(about->st_mode)) {
        entry.kind = FOLDER;
    } else if (S_ISLNK(about->st_mode)) {
        entry.kind = LINK;
    }
    return entry;
}

int link_target(int at, const char *name, char target[MOST_PATH]) {
    ssize_t length = readlinkat(at, name, target, MOST_PATH);
    if (length < 0) return errno;
    if (length == MOST_PATH) return ENAMETOOLONG;
    target[length] = 0;
    return 0;
}

static bool is_dots(const char *name) {
    return !strcmp(name, ".") || !strcmp(name, "..");
}

void list_folder(const char *path, uint64_t most_entries, uint64_t most_bytes) {
    char target[MOST_PATH];
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) fail_here(errno);
    struct dirent *item;
    for (uint64_t count = 0; (errno = 0, item = readdir(folder));) {
        struct stat about;
        if (is_dots(item->d_name)) continue;
        if (fstatat(fd, item->d_name, &about, AT_SYMLINK_NOFOLLOW)) {
            if (errno == ENOENT) continue; /* gone meanwhile */
            fail_here(errno);
        }
        struct entry entry = entry_of(&about, item->d_name);
        if (entry.kind == LINK) {
            int why = link_target(fd, item->d_name, target);
            if (why == ENOENT || why == EINVAL) continue; /* gone, or another thing now */
            if (why) fail_here(why);
            entry.target = target;
        }
        if (++count > most_entries || out_count() > most_bytes) fail_here(TOO_MANY);
        record_entry(&entry);
    }
    if (errno) fail_here(errno);
    closedir(folder);
}

/* The one tree that is walked. */
static const struct sink *sink;
static char path[MOST_PATH + MOST_NAME + 2];
static size_t path_length;
static uint64_t bytes_left, entries_left;

/* Files that were met and have more than one name: a table of where their paths begin in one
 * text. Both grow with what is there, up to a bound; past it a file is reported. */
#define MOST_SHARED 262144u
#define MOST_SHARED_TEXT (64u << 20)
static struct met { dev_t device; ino_t inode; size_t path; bool used; } *met;
static size_t met_room, met_count, met_text_room, met_text_length;
static char *met_text;

static struct met *met_place(dev_t device, ino_t inode) {
    uint64_t hash = ((uint64_t)inode * 0x9E3779B97F4A7C15u) ^ (uint64_t)device;
    size_t at = (hash ^ (hash >> 29)) & (met_room - 1);
    while (met[at].used && (met[at].inode != inode || met[at].device != device))
        at = (at + 1) & (met_room - 1);
    return met + at;
}

static bool met_grow(void) {
    size_t old_room = met_room;
    struct met *old = met, *larger = calloc(old_room ? 2 * old_room : 1024, sizeof *larger);
    if (!larger) return false;
    met = larger;
    met_room = old_room ? 2 * old_room : 1024;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].used) *met_place(old[i].device, old[i].inode) = old[i];
    free(old);
    return true;
}

/* The path under which the file came already; NULL the first time, with an error or none. */
static const char *met_before(const struct stat *about, int *why) {
    *why = 0;
    if (2 * met_count >= met_room && !met_grow()) return *why = ENOMEM, NULL;
    struct met *place = met_place(about->st_dev, about->st_ino);
    if (place->used) return met_text + place->path;
    size_t length = path_length + 1;
    if (met_count == MOST_SHARED || met_text_length + length > MOST_SHARED_TEXT)
        return *why = EMLINK, NULL;
    if (met_text_length + length > met_text_room) {
        size_t room = 2 * met_text_room + 65536;
        char *larger = realloc(met_text, room);
        if (!larger) return *why = ENOMEM, NULL;
        met_text = larger;
        met_text_room = room;
    }
    memcpy(met_text + met_text_length, path, length);
    *place = (struct met){about->st_dev, about->st_ino, met_text_length, true};
    met_text_length += length;
    met_count++;
    return NULL;
}

typedef void piece_taker(uint64_t offset, const unsigned char *data, size_t length);

/* One part of a file, in pieces; how far it came, since a file may end early, or the error. */
static int part_of(int fd, uint64_t *from, uint64_t to, piece_taker *take) {
    static unsigned char data[PIECE];
    while (*from < to) {
        size_t want = to - *from < PIECE ? (size_t)(to - *from) : PIECE;
        ssize_t got;
        do got = pread(fd, data, want, (off_t)*from);
        while (got < 0 && errno == EINTR);
        if (got <= 0) return got ? errno : 0;
        take(*from, data, (size_t)got);
        *from += (uint64_t)got;
    }
    return 0;
}

/* A file's content without its holes; 0 or the error. */
int content_of(int fd, uint64_t size, piece_taker *take) {
    for (uint64_t at = 0; at < size;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO) return 0; /* a hole up to the end */
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        /* A file system that knows of no holes has data everywhere. */
        if (data > 0) at = (uint64_t)data;
        uint64_t stop = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
        int why = part_of(fd, &at, stop, take);
        if (why || at < stop) return why;
    }
    return 0;
}

static void send_file(int at, const char *name) {
    struct stat about;
    int fd = open_regular(at, name, O_RDONLY | O_NOFOLLOW, 0, &about);
    if (fd < 0) {
        sink->missed(errno, path);
        return;
    }
    struct entry entry = entry_of(&about, path);
    int why = 0;
    const char *first = entry.shared ? met_before(&about, &why) : NULL;
    if (first) {
        entry.kind = HARD_LINK;
        entry.target = first;
        entry.size = 0;
    }
    if (why) {
        sink->missed(why, path);
    } else if (entry.size > bytes_left) {
        /* By what it says that it holds: a reader that meets no holes gets as much. */
        fail(TOO_LARGE, path);
    } else {
        bytes_left -= entry.size;
        sink->entry(&entry);
        why = first ? 0 : content_of(fd, entry.size, sink->piece);
        if (why) sink->missed(why, path);
    }
    close(fd);
}

static void send_link(int at, const char *name, struct entry *entry) {
    char target[MOST_PATH];
    int why = link_target(at, name, target);
    entry->target = target;
    if (why) sink->missed(why, path);
    else sink->entry(entry);
}

static void send_folder(int at, const char *name, int depth);

/* What is at `path`, whose last name is in the folder `at`. */
static void visit(int at, const char *name, int depth) {
    struct stat about;
    if (fstatat(at, name, &about, AT_SYMLINK_NOFOLLOW)) {
        sink->missed(errno, path);
        return;
    }
    if (!entries_left--) fail(TOO_MANY, path);
    struct entry entry = entry_of(&about, path);
    if (entry.kind == FILE_ENTRY) {
        send_file(at, name);
    } else if (entry.kind == LINK) {
        send_link(at, name, &entry);
    } else if (entry.kind == FOLDER) {
        send_folder(at, name, depth);
        sink->entry(&entry);
    } else {
        sink->missed(special(about.st_mode), path);
    }
}

static void send_all_in(int fd, int depth) {
    DIR *folder = fdopendir(fd);
    if (!folder) fail_here(errno);
    struct dirent *item;
    size_t length = path_length;
    while ((errno = 0, item = readdir(folder))) {
        if (is_dots(item->d_name)) continue;
        size_t name = strlen(item->d_name), slash = length ? 1 : 0;
        if (name > MOST_NAME) continue; /* no kernel has such */
        if (slash) path[length] = '/';
        memcpy(path + length + slash, item->d_name, name + 1);
        path_length = length + slash + name;
        if (path_length >= MOST_PATH) sink->missed(ENAMETOOLONG, path);
        else visit(fd, path + length + slash, depth + 1);
    }
    int why = errno;
    path[path_length = length] = 0;
    if (why) sink->missed(why, path);
    closedir(folder);
}

static void send_folder(int at, const char *name, int depth) {
    if (depth >= MOST_DEPTH) {
        sink->missed(TOO_DEEP, path);
        return;
    }
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) sink->missed(errno, path);
    else send_all_in(fd, depth);
}

static void end(void) {
    free(met);
    free(met_text);
}

static void begin(uint64_t most_bytes, uint64_t most_entries, const struct sink *where) {
    bytes_left = most_bytes;
    entries_left = most_entries;
    sink = where;
}

/* All that is below the folder; it is closed. What is in the way of one entry is that entry's
 * own: it is reported, and the rest goes on. */
void get_tree(int top, uint64_t most_bytes, uint64_t most_entries, const struct sink *where) {
    begin(most_bytes, most_entries, where);
    send_all_in(top, 0);
    end();
}

/* One chosen path; without what is in it, where it is a folder and `shallow`. Only what the
 * session's programs can have made or changed is theirs to keep. */
static void send_chosen(int top, bool shallow) {
    struct stat about;
    if (fstatat(top, path, &about, AT_SYMLINK_NOFOLLOW)) {
        if (errno != ENOENT && errno != ENOTDIR) sink->missed(errno, path);
        return;
    }
    bool ours = S_ISLNK(about.st_mode) || about.st_uid == geteuid() ||
                !faccessat(top, path, W_OK, 0);
    if (!ours || (shallow && S_ISDIR(about.st_mode))) return;
    visit(top, path, 1);
}

/* Of the folder, the paths that come on fd 0, each a letter, a path from the folder, and NUL.
 * The letter says what is wanted of a folder: `t` all that is in it, `s` nothing. */
void get_chosen(int top, uint64_t most_bytes, uint64_t most_entries) {
    begin(most_bytes, most_entries, &records);
    char letter;
    while (in(&letter, 1)) {
        for (path_length = 0; path_length < MOST_PATH; path_length++)
            if (!in(path + path_length, 1)) fail_here(BAD_RECORD);
            else if (!path[path_length]) break;
        if (!path_length || path_length == MOST_PATH || *path == '/') fail_here(BAD_RECORD);
        send_chosen(top, letter == 's');
    }
    close(top);
    end();
}
