# Starts the lanes of a session, one after another, as the keeper says on descriptor 3:
# `sh -c THIS sh THIS SUPERVISOR ZYGOTE [PARENT]`. Plain POSIX sh.
#
# Each start leaves a new spawner, which ends the one before. So a lane is a member of a
# pipeline in the foreground; what is started with `&` ignores SIGINT for good.
[ -z "$4" ] || kill -9 $4
# Not every shell tells by the status of a `read` that a signal broke it off.
rung=
trap rung=1 HUP INT QUIT PIPE TERM USR1 USR2 ALRM
setsid=
command -v setsid >/dev/null && setsid=setsid # `kill 0` in a program is its lane's affair
while :; do
  read -r lane at <&3 || { [ $? -gt 128 ] || [ -n "$rung" ] || break; rung=; continue; }
  # A fork that fails (at the process limit) ends the pipeline and not this shell. Each
  # pipe is opened for both first: an open that waits would hold up all of sandlock.
  command eval '
    {
      read -r pid rest </proc/self/stat
      echo "up $at $pid" >&4
      exec $setsid sh -c "$2" sh $lane "$3" seen 4>&-
    } 3<>$at.i <$at.i 3<>$at.o >$at.o 3<>$at.e 2>$at.e 3<&- 6<>$at.g 7<>$at.d 9<>$at.m | exec sh -c "$1" sh "$1" "$2" "$3" $$'
  echo "no $at" >&4
done
