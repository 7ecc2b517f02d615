# The session's first program: waits until no spawner is left, then ends, and with it all.
exec 3<&0 4>&1 </dev/null
trap : HUP INT QUIT PIPE TERM USR1 USR2 ALRM
sh -c "$1" sh "$1" "$2" "$3" | {
  exec 3<&- 4>&-
  rung= # as in the spawner
  trap rung=1 HUP INT QUIT PIPE TERM USR1 USR2 ALRM
  while read -r _ || [ $? -gt 128 ] || [ -n "$rung" ]; do rung=; done
}
