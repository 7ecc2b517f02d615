# A lane: runs one program after another for the host at the other end of its
# three streams. Plain POSIX sh; started as `sh -c THIS sh LANE ZYGOTE [SEEN]`. With
# SEEN, the host sees the sandbox's processes itself, so they are not counted here; and
# descriptors 6, 7 and 9 are pipes, open for both: where no fifo may be made inside.
#
# Three processes share the host's stream of orders (descriptor 3), one at a time:
#   worker   reads a request and runs it, in the foreground, so that programs
#            start with the signals as they should be (`&` would have them ignore SIGINT)
#   control  has the stream while a program runs, and ends its tree when told so
#   zygote   forks clean Python programs once it is woken
# A program's output is the lane's own. Its end is told by a token on either stream.
#
# Every program carries the lane's mark, which no child can shed: a hard limit, or
# where /proc does not show limits (gVisor) the OOM adjustment.
[ -z "$BASH_VERSION" ] || set +o posix # in that mode it tells of no signal
exec 3<&0 4>&1 5>&2
top=1099511627776 home=$PWD
lane=$1 adj=500 zygote=$2 seen=$3 d=/tmp/.stockade-$1-$$
if [ -r /proc/$$/limits ]; then
  while read -r a b c soft hard rest; do
    [ "$a $b" = "Max data" ] && break
  done </proc/$$/limits
  # Under a limit that is there already, marks begin below it: none can be raised.
  case $hard in
    *[!0-9]*) ;;
    *) [ $((hard / 1024)) -gt $top ] || top=$((hard / 1024 - 1));;
  esac
  mark=$((top - lane))
  (echo $adj >/proc/self/oom_score_adj) 2>/dev/null || adj=
else
  adj=$((900 - lane)) mark=
fi
py=$(command -v python3 || command -v python)
events= group=
[ ! -r /proc/self/cgroup ] || while IFS= read -r line; do
  case $line in 0::/?*) group=${line#0::};; esac
done </proc/self/cgroup
for f in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control \
  /sys/fs/cgroup$group/memory.events; do
  [ -r $f ] && events=$f
done
# Three pipes, each open for both. Most shells make one of a here-document, at the price of
# no program; bash has a file, or nothing, in its place.
pipes() {
  exec 6<<A 7<<B 9<<C
A
B
C
  [ -p /proc/self/fd/6 ] && [ -p /proc/self/fd/7 ] && [ -p /proc/self/fd/9 ] &&
    { command exec 6<>/proc/self/fd/6 7<>/proc/self/fd/7 9<>/proc/self/fd/9; } 2>/dev/null
}
if [ -z "$seen" ] && ! pipes; then
  mkfifo -m 600 $d.g $d.d $d.m || exit 90
  exec 6<>$d.g 7<>$d.d 9<>$d.m
  rm -f $d.g $d.d $d.m # now, not beside the worker: processes are counted
fi
# Handled, not ignored: `kill 0` in a program (or the kernel's hang-up of a group
# whose stopped members were orphaned) leaves the supervisor alone, and programs
# still start with the default. Every subshell must say so anew.
rung=
hardy() { trap rung=1 HUP INT QUIT PIPE TERM USR1 USR2 ALRM; }
hardy

# Whether the `read` that has just failed was broken off by a signal, and its input has not
# ended. Most shells tell by the status; busybox's does not.
broken_off() {
  [ $? -gt 128 ] || [ -n "$rung" ] || return 1
  rung=
}

branded() {
  [ -z "$mark" ] || ulimit -d $mark
  [ -z "$adj" ] || echo $adj >/proc/self/oom_score_adj
}

# The cgroup's own count of kills, in $kills.
count_kills() {
  kills=0
  [ -z "$events" ] || while read -r key value; do
    [ $key = oom_kill ] && kills=$value
  done <$events
}

# Process ids that carry the mark of lane $1, in $found, without a fork where none
# is to be had: at the process limit this is what must still work. A limit below all
# lanes' was lowered to hide, so it is found too.
find_marked() {
  found=
  if [ -z "$mark" ]; then
    for p in /proc/[0-9]*; do
      read -r value <$p/oom_score_adj && [ "$value" = $((900 - $1)) ] && found="$found ${p#/proc/}"
    done
    return
  fi
  wanted=$(((top - $1) * 1024)) lowest=$(((top - 999) * 1024)) lines=
  command eval 'lines=$(grep -s "^Max data size" /proc/[0-9]*/limits)'
  if [ -n "$lines" ]; then
    IFS='
'
    for line in $lines; do
      unset IFS
      set -- $line
      is_marked $5 && { line=${1#/proc/}; found="$found ${line%%/*}"; }
    done
    unset IFS
    return
  fi
  for p in /proc/[0-9]*; do
    while read -r a b c soft hard rest; do
      [ "$a $b" = "Max data" ] || continue
      is_marked $hard && found="$found ${p#/proc/}"
      break
    done <$p/limits
  done
}

is_marked() {
  case $1 in *[!0-9]*) return 1;; esac
  [ $1 -eq $wanted ] || [ $1 -lt $lowest ]
}

# Of $found what is neither the zygote $1 nor dead already, in $alive.
living() {
  alive=
  for p in $found; do
    [ $p != $1 ] && read -r line </proc/$p/stat || continue
    case ${line##*)} in
      " Z"* | " X"*) ;;
      *) alive="$alive $p";;
    esac
  done
}

# End all of lane $1 but its zygote $2. Stop first: what is stopped cannot fork away.
end_tree() {
  rounds=0 before= killed=
  while [ $rounds -lt 60 ]; do
    rounds=$((rounds + 1))
    find_marked $1
    alive=
    for p in $found; do
      [ $p = $2 ] || alive="$alive $p"
    done
    # Whether they are dead already costs far more to see than to find them.
    [ "$alive" != "$killed" ] || living $2
    [ -n "$alive" ] || break
    if [ "$alive" != "$before" ] && [ $rounds -lt 20 ]; then
      kill -STOP $alive
      before=$alive
    else
      kill -KILL $alive
      before= killed=$alive
    fi
  done
} 2>/dev/null

control() {
  hardy
  zpid=0
  while :; do
    read -r word rest <&6 || { broken_off && continue; exit; }
    case $word in
      z) zpid=$rest; continue;;
      q) exit;;
    esac
    while :; do
      if read -r word rest <&3; then
        case $word in
          e) break;;
          k) end_tree $lane $zpid;;
          K) end_tree $rest;;
        esac
      else
        broken_off && continue
        [ -n "$seen" ] || end_tree $lane $zpid # the host is gone, and so is the reason to run
        exit
      fi
    done
    echo .
  done
}

# Say how it ended: token, status, whether the shell tells of a signal, kills
# before and after, processes. What the shell says of its programs' ends goes to a pipe,
# which is there when the disk is full, too.
report() {
  signalled=0
  if [ $s -gt 125 ]; then hear; signalled=$heard; fi
  after=$1
  if [ $s = 137 ]; then count_kills; after=$kills; fi
  count_processes
  printf %s "$tok" >&5
  printf '%s%s %s %s %s %s\n' "$tok" $s $signalled $before $after $count >&4
  [ $s -gt 125 ] || hear
}

# Exactly the next $1 bytes of the host's. Not `head -c`: busybox's reads too far.
take() { dd iflag=count_bytes,fullblock bs=65536 count=$1 <&3 2>/dev/null; }

# How many processes there are, in $count.
count_processes() {
  count=0
  [ -z "$seen" ] || return 0
  set -- /proc/[0-9]*
  count=$#
}

# Whether the shell said anything since it was asked last, in $heard.
hear() {
  heard=0
  echo . >&2
  while read -r line <&2 || broken_off; do
    case $line in
      .) break;;
      N) heard=N;;
      ?*) [ $heard = N ] || heard=1;;
    esac
  done
}

# Wait until the zygote is up; false when it has ended, since an interpreter may be there
# and not work. More than a pipe holds gets through to who reads, and breaks at who is gone.
wait_for_zygote() { [ $up = 1 ] || { printf '%65600s\n' '' >&8 && up=1; }; }

# Wait for a line that says no more than that it is there.
await() { until read -r _; do broken_off || return; done; }

nowhere() { echo N >&2; exit 126; }

# To the folder $1, or where the lane was started, with what a program finds as its streams
# and nothing of the supervisor's.
at() {
  cd -- "${1-$home}" 2>/dev/null || nowhere
  exec >&4 2>&5 3<&- 4>&- 5>&- 6>&- 7>&- 8>&- 9<&-
}

# Run $text with its input from where it stands; the status in $s.
run() {
  tries=0 s=
  while :; do
    command eval '( branded 2>/dev/null; eval "$text" ); s=$?'
    [ -z "$s" ] || break
    hear
    tries=$((tries + 1))
    [ $tries -lt 5 ] || { echo "sh: cannot fork: the process limit is reached" >&5; s=126; break; }
    [ ! -r /proc/$$/stat ] || for p in /proc/[0-9]*; do read -r line <$p/stat; done
  done
}

worker() {
  hardy
  exec 9</dev/null
  up=0
  until read -r _ zpid tpid <&7; do broken_off || return; done
  [ "$zpid" != x ] || return
  while :; do
    read -r op tok n m <&3 || { broken_off && continue; break; }
    case $op in
      r) # run $n bytes of text (-$n: as many lines) with $m bytes of input
        text=
        while [ $n -lt 0 ]; do
          until IFS= read -r line <&3; do broken_off || break; done
          text="$text$line
"
          n=$((n + 1))
        done
        until [ -n "$text" ]; do # a fork may fail at the process limit: until one is free
          command eval 'text=$(take $n; echo .)' && text=${text%.}
        done
        count_kills
        before=$kills
        if [ $m = 0 ]; then
          echo g >&6
          run <&9
          report $before
        else
          s=
          until [ -n "$s" ]; do
            command eval '{ take $m; echo g >&6; } | { run; report $before; cat >/dev/null; }
              s=$?'
          done
        fi
        await
        ;;
      p) # the same by the zygote: it reads what follows and tells the rest
        if wait_for_zygote && echo "$tok $n $m" >&8; then
          await <&7
        else
          take $((n + m)) >/dev/null
          echo g >&6
          echo "sh: $py does not work here; have an image with a Python 3 that starts" >&5
          s=126 before=0
          report 0
        fi
        await
        ;;
      z) echo wake >&8 ;;
      h) # the zygote has the whole lane from now on, unless it has ended
        wait_for_zygote
        printf '%s%s\n' "$tok" $up >&4; printf %s "$tok" >&5
        [ $up = 0 ] || { echo h >&8; echo q >&6; return; }
        ;;
      d) echo "d $tok" >&8 ;; # end all in $tok seconds
      K) end_tree $tok $n ;;
      c) # how many of this lane's programs live
        { find_marked $lane; living $zpid; } 2>/dev/null
        set -- $alive
        printf '%s%s\n' "$tok" $# >&4; printf %s "$tok" >&5
        ;;
      y) # what there is, and nothing more of what was printed before
        count_processes
        read -r version </proc/version
        printf %s "$tok" >&5
        printf '%s%s %s %s %s %s\n' "$tok" $count $zpid "${py:--}" ${mark:--} "$version" >&4
        ;;
    esac
  done
  echo q >&6
  [ $zpid$lane != 00 ] || kill -KILL $tpid # the lane ends with all of its processes
  [ $PPID$lane != 10 ] || kill -KILL $$ # and with its init all others, sooner than one by one
}

# The zygote keeps the time too, once it is told a deadline; without Python it is this.
keep_time() {
  [ $lane = 0 ] && read -r _ left && sleep $left && kill -KILL $$
  exit 0
}

become_zygote() {
  read -r tp _ </proc/self/stat
  zp=0
  [ -z "$py" ] || zp=$tp
  echo "z $zp" >&6
  echo "z $zp $tp" >&7
  trap '' HUP INT QUIT TERM USR1 USR2 ALRM # until Python has its own handlers
  [ $zp != 0 ] || keep_time
  read -r _ || exit 0
  branded 2>/dev/null
  # As an argument it would take ten times its size of the interpreter's memory, for good.
  export STOCKADE_ZYGOTE="$zygote"
  exec $py -c 'import os; exec(os.environ.pop("STOCKADE_ZYGOTE"))' \
    "$events" "$seen" $lane "$mark" 2>/dev/null
}

command eval 'control 9>&- | worker 8>&1 >/dev/null 2>&9 9>&- | become_zygote 9>&-'
# They have ended, or at the process limit not all could start: then no part lives on.
echo q >&6
echo z x >&7
