"""What ``files.shell`` runs inside: lines for any POSIX shell, GNU's programs or busybox's.

Each says what is wrong through its exit code, since 85 and up are taken by no program that it
calls. Paths come as arguments and are absolute, so none is read as an option.
"""

from __future__ import annotations

import errno

__all__ = [
    "CODES",
    "COPY",
    "GET",
    "GET_CHOSEN",
    "LIST",
    "MAKE_DIR",
    "MOVE",
    "PUT",
    "READ",
    "REMOVE",
    "SCRIPTS",
    "SETTLE",
    "SPECIAL",
    "STAT",
    "TARGET",
    "TOO_LARGE",
    "WRITE",
]

CODES = {
    90: errno.ENOENT,
    91: errno.EISDIR,
    92: errno.ENOTDIR,
    93: errno.EACCES,
    95: errno.ENOSPC,
    96: errno.EEXIST,
    97: errno.ENOTEMPTY,
}
TOO_LARGE = 94
#: What a file is that is no regular one.
SPECIAL = {86: "a FIFO", 87: "a socket", 88: "a device"}

# why PATH: which of the errors a local call would give, looked for after a failure: each parent
# is asked in turn, since "no such file" hides a file among the parents.
# kind PATH: end here for what is no regular file, before it is opened, which may take for ever.
_WHY = """
why() {
  p=$1
  while [ "$p" != / ] && [ -n "$p" ]; do
    q=${p%/*}; [ -n "$q" ] || q=/
    if [ -e "$q" ] || [ -L "$q" ]; then
      [ -d "$q" ] || exit 92
      [ -x "$q" ] || exit 93
      break
    fi
    p=$q
  done
}
kind() {
  [ -d "$1" ] && exit 91
  [ -p "$1" ] && exit 86
  [ -S "$1" ] && exit 87
  [ -e "$1" ] && [ ! -f "$1" ] && exit 88
  return 0
}
full() { [ "$(df -P "$1" 2>/dev/null | awk 'NR==2{print $4}')" = 0 ] && exit 95; exit 93; }
parents() {
  d=${1%/*}
  [ -z "$d" ] || [ -d "$d" ] || mkdir -p "$d" 2>/dev/null ||
    { why "$d/x"; [ -e "$d" ] && exit 92; exit 93; }
}
"""

# PATH FIRST LENGTH MOST: from the byte FIRST, which counts from 1; a file of more than MOST bytes
# is too large, where that is given.
READ = (
    _WHY
    + """
kind "$1"
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -r "$1" ] || exit 93
[ -z "$4" ] || [ -z "$(find -L "$1" -prune -size "+$4c")" ] || exit 94
if [ "$2" = 1 ]; then exec head -c "$3" < "$1"; fi
tail -c "+$2" < "$1" | head -c "$3"
"""
)
# PATH MODE replace|append|at BLOCK BLOCKS: ``at`` goes over so many blocks of that size.
WRITE = (
    _WHY
    + """
case $1 in */|*/.|*/..) exit 91;; esac
kind "$1"
parents "$1"
if [ -e "$1" ] && [ ! -w "$1" ]; then exit 93; fi
case $3 in
  append) cat >> "$1";;
  at) dd "of=$1" "bs=$4" "seek=$5" conv=notrunc 2>/dev/null;;
  *) cat > "$1";;
esac ||
  { [ -e "$1" ] || full "$d"; exit 95; }
[ -z "$2" ] || chmod "$2" "$1"
"""
)
REMOVE = (
    _WHY
    + """
if [ ! -e "$1" ] && [ ! -L "$1" ]; then why "$1"; exit 90; fi
if [ -d "$1" ] && [ ! -L "$1" ]; then
  if [ "$2" = tree ]; then rm -rf "$1" 2>/dev/null || exit 93
  else [ -z "$(ls -A "$1")" ] || exit 97; rmdir "$1" 2>/dev/null || exit 93; fi
else rm -f "$1" 2>/dev/null || exit 93; fi
"""
)
MAKE_DIR = (
    _WHY
    + """
[ -d "$1" ] && exit 0
[ -e "$1" ] && exit 96
mkdir -p "$1" 2>/dev/null || { why "$1"; exit 93; }
"""
)
# FROM TO, as a rename: not into a folder that is there.
MOVE = (
    _WHY
    + """
if [ ! -e "$1" ] && [ ! -L "$1" ]; then why "$1"; exit 90; fi
parents "$2"
if [ -d "$2" ] && [ ! -L "$2" ]; then
  [ -d "$1" ] && [ ! -L "$1" ] || exit 91
  rmdir "$2" 2>/dev/null || exit 97
elif [ -e "$2" ] && [ -d "$1" ] && [ ! -L "$1" ]; then exit 92; fi
exec mv -f "$1" "$2"
"""
)
COPY = (
    _WHY
    + """
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
if [ -d "$1" ]; then
  if [ -e "$2" ] || [ -L "$2" ]; then exit 96; fi
  parents "$2"
  exec cp -a "$1/." "$2"
fi
kind "$1"
kind "$2"
parents "$2"
cp -p "$1" "$2" || exit 85
"""
)

# What find and stat print of an entry. GNU's find prints all, in fields that end with NUL;
# busybox's find has stat print it, in fields that end with a slash, which no name holds.
_ABOUT = """
gnu='%y\\0%m\\0%s\\0%U\\0%G\\0%T@\\0%l\\0%f\\0'
about() {
  if find / -prune -printf '' 2>/dev/null; then find "$@" -printf "$gnu"; exit; fi
  find "$@" -exec stat ${l:+-L} -c '%f/%s/%u/%g/%Y/%n/' {} +
}
"""
LIST = (
    _WHY
    + _ABOUT
    + """
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -d "$1" ] || exit 92
[ -r "$1" ] && [ -x "$1" ] || exit 93
cd "$1" || exit 93
about . ! -name . -prune
"""
)
# PATH FOLDER NAME self|follow: the last name of a path is asked in its own folder, so that it
# is one name in the answer.
STAT = (
    _WHY
    + _ABOUT
    + """
if [ "$4" = follow ]; then [ -e "$1" ]; else [ -e "$1" ] || [ -L "$1" ]; fi ||
  { why "$1"; exit 90; }
cd "$2" 2>/dev/null || { why "$1"; exit 93; }
if [ "$4" = follow ]; then l=L; about -L "./$3" -prune; else about "./$3" -prune; fi
"""
)

#: PATH, of a link: where it leads, and a line end.
TARGET = 'exec readlink "$1"'

# PATH MOST: of files of more bytes nothing is read.
GET = (
    _WHY
    + """
if [ ! -e "$1" ]; then why "$1"; exit 90; fi
[ -d "$1" ] || exit 92
[ -r "$1" ] && [ -x "$1" ] || exit 93
cd "$1" || exit 93
[ -z "$(find . -type f -size "+$2c" 2>/dev/null | head -n 1)" ] || exit 94
exec tar -cf - .
"""
)
# PATH; standard input has a line for each chosen path: `t` or `s`, and the path.
GET_CHOSEN = (
    _WHY
    + """
cd "$1" || exit 93
set --
while IFS= read -r line; do
  f=./${line#?}
  [ -L "$f" ] || [ -O "$f" ] || [ -w "$f" ] || continue
  case $line in s*) if [ -d "$f" ] && [ ! -L "$f" ]; then continue; fi;; esac
  if [ -e "$f" ] || [ -L "$f" ]; then set -- "$@" "$f"; fi
done
[ $# -gt 0 ] || exit 0
exec tar -cf - "$@"
"""
)
PUT = (
    _WHY
    + """
mkdir -p "$1" 2>/dev/null || { why "$1/x"; exit 92; }
cd "$1" && exec tar -xpof - 2>&1
"""
)
# PATH; standard input has a line for each folder: mode, seconds of Unix time, path.
SETTLE = """
cd "$1" || exit 93
while IFS=' ' read -r mode time path; do
  chmod "$mode" "./$path" && touch -d "@$time" "./$path" || code=1
done
exit ${code:-0}
"""

#: Each of them, as the argument after ``sh -c``; paths and what else they need follow.
SCRIPTS = frozenset(
    {
        READ,
        WRITE,
        REMOVE,
        MAKE_DIR,
        MOVE,
        COPY,
        LIST,
        STAT,
        TARGET,
        GET,
        GET_CHOSEN,
        PUT,
        SETTLE,
    }
)
