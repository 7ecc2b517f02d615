/* What the host asks to run, as it came and taken apart. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "run.h"
#include "wire.h"

#define REQUEST_HEAD 28u
/* More than a kernel takes for arguments and environment together. */
#define MAX_WORDS 65536u

/* The next text that NUL ends, or NULL where there is none left. */
static char *word(char **at, char *end) {
    char *start = *at;
    char *stop = start < end ? memchr(start, 0, (size_t)(end - start)) : NULL;
    if (!stop) return NULL;
    *at = stop + 1;
    return start;
}

static char **words(uint32_t count, char **at, char *end) {
    /* Each takes a byte at least, so a number that was made up allocates nothing. */
    if (count > MAX_WORDS || count > (size_t)(end - *at)) return NULL;
    char **list = calloc(count + 1u, sizeof *list);
    for (uint32_t i = 0; list && i < count; i++) {
        if (!(list[i] = word(at, end))) {
            free(list);
            return NULL;
        }
    }
    return list;
}

bool request_parse(struct run *run) {
    struct request *request = &run->request;
    if (run->text_length < REQUEST_HEAD) return false;
    uint32_t *fields[] = {&request->flags,   &request->uid,  &request->gid, &request->rows,
                          &request->columns, &request->argc, &request->envc};
    for (size_t i = 0; i < 7; i++) *fields[i] = get32(run->text + 4 * i);
    char *at = (char *)run->text + REQUEST_HEAD, *end = (char *)run->text + run->text_length;
    if (!request->argc || !(request->name = word(&at, end))) return false;
    request->strings = at;
    if (!(request->cwd = word(&at, end))) return false;
    if (!(request->argv = words(request->argc, &at, end))) return false;
    if (!(request->env = words(request->envc, &at, end))) return false;
    request->strings_length = (size_t)(at - request->strings);
    return at == end;
}

/* A file of nobody's for the text that a program runs: no name in any folder, so that a full
 * one is in nobody's way where the kernel gives memory for it. */
int blob_make(void) {
    int fd = (int)syscall(SYS_memfd_create, "stockade", 1u /* MFD_CLOEXEC */);
    if (fd < 0) {
        char name[] = "/tmp/.stockade-XXXXXX";
        fd = mkostemp(name, O_CLOEXEC);
        if (fd >= 0) unlink(name);
    }
    return fd < 0 ? -1 : keep_fd(fd);
}
