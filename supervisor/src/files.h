/* The file server: what the host asks of the sandbox's files (F1 to F5).
 *
 * It runs in a forked child, as the session's user and inside the sandbox's root, so what it
 * may touch is what the session's programs may touch, and links lead where they lead inside.
 *
 *     files read PATH OFFSET LENGTH MOST   the file's bytes to fd 1; LENGTH may be -
 *     files write PATH MODE WHERE          fd 0 into the file; WHERE: replace, append, OFFSET
 *     files list PATH MOST_ENTRIES MOST_BYTES
 *     files stat PATH self|follow
 *     files mkdir PATH                     with its parents
 *     files remove PATH one|tree
 *     files move FROM TO                   between file systems too
 *     files copy FROM TO                   a file, or a whole folder
 *     files get PATH MOST_BYTES MOST_ENTRIES all|chosen
 *     files watch PATH self|below         changes as records to fd 1, until it is ended
 *     files put PATH                       records from fd 0 into a folder
 *
 * PATH is absolute and any bytes but NUL; MODE is octal or -; numbers are decimal.
 *
 * It exits with 0, with the kernel's number of an error, or with one of `enum refusal`; fd 2
 * then holds the path that the error is about, where it is another than the command's first,
 * and nothing else. Records (files_io.c) go through fd 0 and fd 1.
 */
#ifndef STOCKADE_FILES_H
#define STOCKADE_FILES_H

/* Above every number of a kernel's error. */
enum refusal {
    IS_FIFO = 200,
    IS_SOCKET = 201,
    IS_DEVICE = 202,
    TOO_LARGE = 203,   /* more bytes than the command allows */
    TOO_MANY = 204,    /* more entries than the command allows */
    SAME_FILE = 205,
    INTO_ITSELF = 206, /* a folder copied or moved to below itself */
    TOO_DEEP = 207,    /* of one entry: the tree below it was left out */
    BAD_RECORD = 210,  /* what came on fd 0 is not what this reads */
    BAD_COMMAND = 211,
};

int files_main(int argc, char **argv);

#endif
