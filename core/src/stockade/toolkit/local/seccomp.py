"""Filters of system calls, made here: a list of what is allowed.

Every call is looked up in the kernel's table. What ``ALLOWED`` names is allowed, some of it
for certain arguments alone (``RULES``); what ``FORBIDDEN`` names is refused with EPERM, so
that programs say what they may not; everything else, a call younger than the table
included, is answered with ENOSYS, as by a kernel that does not have it. The interfaces of
other machines (32-bit) are refused as a whole.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from stockade.toolkit.local.table import MACHINES, NEWEST, NUMBERS

__all__ = [
    "ALLOWED",
    "DONE",
    "FORBIDDEN",
    "OWN_PROCESS",
    "RULES",
    "SUPPORTED",
    "Is",
    "Rule",
    "program",
]

#: Machines, as ``platform.machine`` names them, that the filter is made for.
SUPPORTED = tuple(MACHINES)

#: Files: what a process may do with them is decided by mounts, owners and modes.
_FILES = """
access cachestat chdir chmod chown close close_range copy_file_range creat dup dup2 dup3
faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat
fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate
futimesat getcwd getdents getdents64 getxattr getxattrat lchown lgetxattr link linkat listxattr
listxattrat llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat
open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink
readlinkat readv removexattr removexattrat rename renameat renameat2 rmdir sendfile setxattr
setxattrat splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate
umask unlink unlinkat utime utimensat utimes vmsplice write writev
"""
#: Waiting, and descriptors that stand for something.
_EVENTS = """
epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch pipe pipe2 poll ppoll pselect6
select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime
"""
_MEMORY = """
brk madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect
mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect
remap_file_pages
"""
#: Without a capability a process only stays what it is, or narrows its own rights.
_PROCESSES = """
arch_prctl capget capset execve execveat exit exit_group fork futex futex_requeue futex_wait
futex_waitv futex_wake get_robust_list get_thread_area getcpu getegid geteuid getgid getgroups
getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid
getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self pidfd_open pidfd_send_signal prlimit64 process_mrelease
restart_syscall rseq sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield set_robust_list
set_thread_area set_tid_address setfsgid setfsuid setgid setgroups setpgid setpriority setregid
setresgid setresuid setreuid setrlimit setsid setuid sysinfo tgkill times tkill uname vfork wait4
waitid
"""
_SIGNALS_AND_TIME = """
alarm clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday nanosleep pause
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_tgsigqueueinfo setitimer sigaltstack time timer_create timer_delete
timer_getoverrun timer_gettime timer_settime
"""
#: Of the sandbox's own namespaces.
_MESSAGES = """
accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify
mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg
recvmsg semctl semget semop semtimedop sendmmsg sendmsg sendto shmat shmctl shmdt
shmget shutdown
"""
#: System calls that every program may make, by name.
ALLOWED = frozenset(
    (_FILES + _EVENTS + _MEMORY + _PROCESSES + _SIGNALS_AND_TIME + _MESSAGES).split()
)

#: A system's administration; mounts, roots, namespaces and files by handle; the memory,
#: descriptors and steps of other processes; kernel surface that programs do without.
_FORBIDDEN = """
acct adjtimex clock_adjtime clock_settime create_module delete_module finit_module
get_kernel_syms init_module ioperm iopl kexec_file_load kexec_load nfsservctl query_module
quotactl quotactl_fd reboot setdomainname sethostname settimeofday swapoff swapon syslog vhangup
chroot fsconfig fsmount fsopen fspick mount mount_setattr move_mount name_to_handle_at
open_by_handle_at open_tree open_tree_attr pivot_root setns umount2 unshare
kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace
add_key bpf fanotify_init fanotify_mark get_mempolicy keyctl mbind migrate_pages modify_ldt
move_pages perf_event_open request_key set_mempolicy set_mempolicy_home_node userfaultfd
"""
#: System calls that fail with EPERM, by name; what is in no list fails with ENOSYS.
FORBIDDEN = frozenset(_FORBIDDEN.split())


@dataclass(frozen=True)
class Is:
    """A condition on one argument: under ``mask`` it has this value.

    The kernel looks at the low half of flags, requests, ids and families, and so does this;
    ``whole`` looks at both halves, as pointers need it.
    """

    argument: int  #: 0 to 5
    value: int  #: what the argument must have, under ``mask``
    mask: int = 0xFFFFFFFF
    whole: bool = False


@dataclass(frozen=True)
class Rule:
    """For a call that is judged by its arguments: where every condition of one case holds
    the answer is ``then``, else ``otherwise``: 0 allows, ``DONE`` does nothing and answers as
    if it were done, another number is an errno, and a rule judges on."""

    cases: Sequence[Sequence[Is]]  #: conditions that must all hold, in each case
    then: int = 0
    otherwise: int | Rule = errno.EPERM


DONE = -1  #: The answer of a rule under which a call does nothing and reports success.

#: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
#: F_SETLEASE, F_NOTIFY, F_SET_RW_HINT, F_SET_FILE_RW_HINT
_OF_THE_FILE = (1024, 1026, 1036, 1038)
#: SO_ATTACH_FILTER, _ATTACH_BPF, _ATTACH_REUSEPORT_CBPF and _EBPF; option names of SOL_SOCKET.
_SOL_SOCKET, _ATTACHING = 1, (26, 50, 51, 52)
_PR_SET_SECCOMP, _SET_MODE_FILTER = 22, 1
_UNIX, _INET, _INET6, _NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
_TCP, _UDP, _ICMP, _ICMP6 = 6, 17, 1, 58
#: Unix and internet sockets, and the netlink that libraries ask for addresses. Protocols are
#: the usual ones: others bring modules of the kernel in.
_SOCKETS = Rule(
    [
        [Is(0, _UNIX)],
        *[[Is(0, _INET), Is(2, protocol)] for protocol in (0, _ICMP, _TCP, _UDP)],
        *[[Is(0, _INET6), Is(2, protocol)] for protocol in (0, _TCP, _UDP, _ICMP6)],
        [Is(0, _NETLINK), Is(2, _NETLINK_ROUTE)],
    ],
    otherwise=errno.EAFNOSUPPORT,
)
#: System calls that are judged by their arguments, by name.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # clone3 has its flags in memory, where no filter sees them: it is in no list, so that
        # libraries fall back to clone.
        "clone": Rule([[Is(0, 0, mask=_NEW_NAMESPACES)]]),
        # Of a file of the host's, which is no write: its hint for the disk, a lease that holds
        # up who opens it, and word of who uses it.
        "fcntl": Rule(
            [[Is(1, command)] for command in _OF_THE_FILE], then=errno.EPERM, otherwise=0
        ),
        # Typing into a terminal that others read.
        "ioctl": Rule([[Is(1, _TIOCSTI)], [Is(1, _TIOCLINUX)]], then=errno.EPERM, otherwise=0),
        # The usual one, 32-bit naming, and the question which one it is.
        "personality": Rule([[Is(0, value)] for value in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)]),
        # Programs that the kernel compiles take from a room that the machine has once
        # (net.core.bpf_jit_limit), and every sandbox's own filter needs it: a descriptor or a
        # process keeps megabytes that no limit counts. Answered as by a kernel without them.
        "prctl": Rule([[Is(0, _PR_SET_SECCOMP)]], then=errno.EINVAL, otherwise=0),
        "seccomp": Rule([[Is(0, _SET_MODE_FILTER)]], then=errno.EINVAL, otherwise=0),
        "setsockopt": Rule(
            [[Is(1, _SOL_SOCKET), Is(2, option)] for option in _ATTACHING],
            then=errno.ENOPROTOOPT,
            otherwise=0,
        ),
        "socket": _SOCKETS,
        "socketpair": Rule([[Is(0, _UNIX)]], otherwise=errno.EAFNOSUPPORT),
    }
)
#: On top where no namespace hides other processes of the same user: limits, priorities and
#: scheduling of a process's own alone, and limits that are only asked for.
OWN_PROCESS: Mapping[str, Rule] = MappingProxyType(
    {
        "prlimit64": Rule([[Is(0, 0)], [Is(2, 0, whole=True)]]),
        "setpriority": Rule([[Is(0, 0), Is(1, 0)]]),
        "sched_setparam": Rule([[Is(0, 0)]]),
        # The usual policy (SCHED_OTHER) of any thread: libraries set it for threads of their own,
        # which they name (ZeroMQ, by pthread's call), and a filter cannot tell these apart. It
        # takes a real-time policy from a thread of the same user that has one.
        "sched_setscheduler": Rule([[Is(0, 0)], [Is(1, 0)]]),
        "sched_setattr": Rule([[Is(0, 0)]]),
        "ioprio_set": Rule([[Is(0, 1), Is(1, 0)]]),
    }
)

_LOAD, _AND = 0x20, 0x54
_EQUAL, _AT_LEAST, _RETURN = 0x15, 0x35, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_MOST_STEPS = 4096


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)


def _answer(number: int) -> bytes:
    if number == DONE:
        return _step(_RETURN, _ERRNO)
    return _step(_RETURN, _ERRNO | number if number else _ALLOW)


def _checks(condition: Is) -> list[tuple[list[bytes], int]]:
    """What to load, and what it must equal, for each half that counts; little-endian."""
    at = _ARGUMENTS_AT + 8 * condition.argument
    load = [_step(_LOAD, at)]
    if condition.mask != 0xFFFFFFFF:
        load.append(_step(_AND, condition.mask))
    halves = [(load, condition.value & condition.mask & 0xFFFFFFFF)]
    if condition.whole:
        halves.append(([_step(_LOAD, at + 4)], condition.value >> 32))
    return halves


def _case(conditions: Sequence[Is], then: int) -> list[bytes]:
    """Answer where all hold, else go on behind it."""
    checks = [check for condition in conditions for check in _checks(condition)]
    steps = [_answer(then)]
    for load, value in reversed(checks):
        steps = [*load, _step(_EQUAL, value, 0, len(steps)), *steps]
    return steps


def _judge(rule: Rule) -> list[bytes]:
    cases = [step for conditions in rule.cases for step in _case(conditions, rule.then)]
    last = rule.otherwise
    return [*cases, *(_judge(last) if isinstance(last, Rule) else [_answer(last)])]


def _by_number(
    allowed: Collection[str], forbidden: Collection[str], rules: Mapping[str, Rule], column: int
) -> Iterator[tuple[int, Rule | int]]:
    """For every number of the table the answer, or the rule that gives it."""
    names = {numbers[column]: name for name, numbers in NUMBERS.items()}
    for number in range(NEWEST + 1):
        name = names.get(number)
        if name is None:
            yield number, errno.ENOSYS
        elif name in forbidden:
            yield number, errno.EPERM
        elif name in rules:
            yield number, rules[name]
        else:
            yield number, 0 if name in allowed else errno.ENOSYS


def program(
    *,
    forbidden: Collection[str] = (),
    rules: Mapping[str, Rule] | None = None,
    machine: str | None = None,
) -> bytes:
    """The filter as an array of ``struct sock_filter``, for calls.filter_calls or bwrap.

    ``forbidden``: calls that are refused with EPERM beside ``FORBIDDEN``; ``rules``: on top
    of ``RULES`` or in their place; ``machine``: this one by default. Raises KeyError for a
    machine that the table does not have, and ValueError for a name that it does not have.
    """
    column, arch = MACHINES[machine or platform.machine()]
    judged = {**RULES, **(rules or {})}
    refused = {*FORBIDDEN, *forbidden}
    if unknown := (refused | set(judged) | ALLOWED) - set(NUMBERS):
        raise ValueError(f"the kernel's table has no {', '.join(sorted(unknown))}")
    # Runs of numbers that are answered alike, each with the first number behind it.
    runs: list[tuple[int, Rule | int]] = []
    for number, answer in _by_number(ALLOWED, refused, judged, column):
        if runs and runs[-1][1] == answer:
            runs.pop()
        runs.append((number + 1, answer))
    steps = [
        _step(_LOAD, _ARCH_AT),
        _step(_EQUAL, arch, 1, 0),
        _answer(errno.EPERM),
        _step(_LOAD, _NUMBER_AT),
    ]
    for behind, answer in runs:
        body = _judge(answer) if isinstance(answer, Rule) else [_answer(answer)]
        steps += [_step(_AT_LEAST, behind, len(body), 0), *body]
    steps.append(_answer(errno.ENOSYS))
    assert len(steps) <= _MOST_STEPS, "the kernel takes no longer filter"
    return b"".join(steps)
