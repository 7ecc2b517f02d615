/* What the parts of the file server share. */
#ifndef STOCKADE_FILES_IN_H
#define STOCKADE_FILES_IN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "files.h"

#define MOST_PATH 4096
#define MOST_NAME 255
#define MOST_DEPTH 256
#define PIECE 65536u

/* One file, folder or link, as a record has it. */
struct entry {
    char kind;   /* one of the constants below */
    bool shared; /* a file that other entries may be hard links to */
    uint32_t mode, uid, gid;
    uint64_t size;
    struct timespec modified;
    const char *name;   /* in a listing; in a tree the path from its top */
    const char *target; /* where a link leads; of a hard link, the entry that it is */
};
enum { FILE_ENTRY = 'f', FOLDER = 'd', LINK = 'l', HARD_LINK = 'h', OTHER = 'o' };

/* Where a tree goes: out of the sandbox, or to another place inside. A file's entry is followed
 * by its pieces; holes have none. A folder's entry comes after all that is in it. */
struct sink {
    void (*entry)(const struct entry *entry);
    void (*piece)(uint64_t offset, const unsigned char *data, size_t length);
    void (*missed)(int why, const char *path);
};

/* files_io.c */
_Noreturn void fail(int why, const char *path);
_Noreturn void fail_here(int why);
extern void (*before_failing)(void);
void out(const void *data, size_t length);
void out_flush(void);
uint64_t out_count(void);
size_t in(void *data, size_t most);
void record_entry(const struct entry *entry);
void record_piece(uint64_t offset, const unsigned char *data, size_t length);
void record_missed(int why, const char *path);
void record_change(char what, bool folder, const char *path, const char *old);
uint64_t missed_count(void);
void records_read(const struct sink *sink);
extern const struct sink records;
ssize_t read_some(int fd, void *data, size_t length);
int write_all(int fd, const unsigned char *data, size_t length, int64_t offset);

/* files.c */
int special(mode_t mode);
int open_regular(int at, const char *path, int flags, mode_t mode, struct stat *about);
size_t parent_length(const char *path);
void make_parents(const char *path);
void make_folder(const char *path);

/* files_get.c */
struct entry entry_of(const struct stat *about, const char *name);
int link_target(int at, const char *name, char target[MOST_PATH]);
void list_folder(const char *path, uint64_t most_entries, uint64_t most_bytes);
void get_tree(int top, uint64_t most_bytes, uint64_t most_entries, const struct sink *sink);
int content_of(int fd, uint64_t size, void (*take)(uint64_t, const unsigned char *, size_t));
void get_chosen(int top, uint64_t most_bytes, uint64_t most_entries);

/* files_put.c */
void put_begin(int top);
void put_end(void);
extern const struct sink put;

/* files_watch.c */
void watch_folder(const char *path, bool recursive);

/* files_move.c */
void remove_path(const char *path, bool tree);
void move_path(const char *from, const char *to);
void copy_path(const char *from, const char *to);

#endif
