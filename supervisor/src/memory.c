/* Which program the memory limit ended: the control group only counts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

static int counts = -1; /* the file, kept: it is looked at with each execution */
static uint64_t claimed;

static bool read_text(const char *name, char *text, size_t size) {
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, text, size - 1);
    close(fd);
    text[got > 0 ? got : 0] = 0;
    return got > 0;
}

static bool take(const char *name) {
    char text[4096];
    if (!read_text(name, text, sizeof text) || !strstr(text, "oom_kill ")) return false;
    counts = open(name, O_RDONLY | O_CLOEXEC);
    if (counts >= 0) keep_fd(counts);
    return counts >= 0;
}

/* Version 2 with a namespace of its own, version 1, version 2 by its path. */
void memory_open(void) {
    char text[4096];
    const char *usual[] = {"/sys/fs/cgroup/memory.events",
                           "/sys/fs/cgroup/memory/memory.oom_control"};
    for (size_t i = 0; i < 2; i++)
        if (take(usual[i])) return;
    if (!read_text("/proc/self/cgroup", text, sizeof text)) return;
    char *line = strstr(text, "0::/");
    if (!line) return;
    line += 3;
    line[strcspn(line, "\n")] = 0;
    char name[512];
    if (snprintf(name, sizeof name, "/sys/fs/cgroup%s/memory.events", line) < (int)sizeof name)
        take(name);
}

uint64_t memory_kills(void) {
    char text[4096];
    ssize_t got = counts < 0 ? 0 : pread(counts, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    const char *at = strstr(text, "oom_kill ");
    return at ? strtoull(at + strlen("oom_kill "), NULL, 10) : 0;
}

/* Kills of before are nobody's who starts now. */
void memory_begin(bool first) {
    if (first && counts >= 0) claimed = memory_kills();
}

bool memory_kills_left(void) { return counts >= 0 && memory_kills() > claimed; }

/* Whether a kill for memory is there that no program has answered for. */
bool memory_claim(void) {
    if (!memory_kills_left()) return false;
    claimed++;
    return true;
}
