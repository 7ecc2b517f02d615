/* Commands of the supervisor's own: what needs no program of the image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "run.h"

static bool is_there(const char *name) {
    const char *path = getenv("PATH");
    if (!path) path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    char full[4096 + 256];
    while (true) {
        size_t length = strcspn(path, ":");
        if (length && length < 4096 && strlen(name) < 250) {
            snprintf(full, sizeof full, "%.*s/%s", (int)length, path, name);
            if (access(full, X_OK) == 0) return true;
        }
        if (!path[length]) return false;
        path += length + 1;
    }
}

/* Print those of the names that are programs here, one a line. */
static int which(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        if (is_there(argv[i])) dprintf(1, "%s\n", argv[i]);
    return 0;
}

int builtin_main(int argc, char **argv) {
    if (argc >= 1 && !strcmp(argv[0], "which")) return which(argc - 1, argv + 1);
    if (argc >= 2 && !strcmp(argv[0], "reach")) return reach_main(argc, argv);
    if (argc >= 1 && !strcmp(argv[0], "files")) return files_main(argc, argv);
    dprintf(2, "no such command\n");
    return 125;
}
