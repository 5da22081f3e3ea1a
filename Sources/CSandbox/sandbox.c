#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/cohort_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <glob.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#endif

pid_t cohort_sandbox_spawn(const char *executable, char *const arguments[], char *const environment[], int socket) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int fault = posix_spawn_file_actions_init(&actions);
    if (fault) return -fault;
    if ((fault = posix_spawnattr_init(&attributes))) {
        posix_spawn_file_actions_destroy(&actions);
        return -fault;
    }
    // A copy that is not 3 already: dup2 onto itself would leave it closed on exec.
    int copy = fcntl(socket, F_DUPFD_CLOEXEC, COHORT_SANDBOX_SOCKET + 1);
    if (copy < 0) fault = errno;
    sigset_t none, standard;
    sigemptyset(&none);
    sigfillset(&standard);
    if (!fault) fault = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!fault) fault = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (!fault) fault = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!fault) fault = posix_spawn_file_actions_adddup2(&actions, copy, COHORT_SANDBOX_SOCKET);
    // A Ctrl-C is for the process that started it; signals that this process ignores are not ignored there.
    if (!fault) fault = posix_spawnattr_setpgroup(&attributes, 0);
    if (!fault) fault = posix_spawnattr_setsigmask(&attributes, &none);
    if (!fault) fault = posix_spawnattr_setsigdefault(&attributes, &standard);
    if (!fault) fault = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t child = 0;
    if (!fault) fault = posix_spawn(&child, executable, &actions, &attributes, arguments, environment);
    if (copy >= 0) close(copy);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return fault ? -fault : child;
}

#ifdef __linux__

// Landlock, by its numbers: the headers of older distributions do not have all of it.

struct ruleset {
    uint64_t files, network, scoped;
};
struct beneath {
    uint64_t allowed;
    int32_t folder;
} __attribute__((packed));

enum { LANDLOCK_CREATE = 444, LANDLOCK_ADD = 445, LANDLOCK_RESTRICT = 446, LANDLOCK_BENEATH = 1, LANDLOCK_VERSION = 1 };

#define FILE_EXECUTE (1ull << 0)
#define FILE_WRITE (1ull << 1)
#define FILE_READ (1ull << 2)
#define FILE_READ_FOLDER (1ull << 3)
#define FILE_DEVICE_CONTROL (1ull << 15)

static void allow(int rules, const char *path, uint64_t rights, uint64_t handled) {
    int folder = open(path, O_PATH | O_CLOEXEC);
    if (folder < 0) return;
    struct stat about;
    if (fstat(folder, &about) == 0) {
        // A file has no rights of folders.
        if (!S_ISDIR(about.st_mode)) rights &= ~FILE_READ_FOLDER;
        struct beneath rule = {rights & handled, folder};
        syscall(LANDLOCK_ADD, rules, LANDLOCK_BENEATH, &rule, 0);
    }
    close(folder);
}

/// Returns the version of Landlock whose walls stand; 0: none.
static int wall_off_files(const char *const readable[], size_t count, int newest) {
    long version = syscall(LANDLOCK_CREATE, NULL, 0, LANDLOCK_VERSION);
    if (version > newest) version = newest;
    if (version < 1) return 0;
    struct ruleset set = {(1ull << 13) - 1, 0, 0};
    if (version >= 2) set.files |= 1ull << 13;  // Linking and renaming to another folder.
    if (version >= 3) set.files |= 1ull << 14;  // Truncating.
    if (version >= 5) set.files |= FILE_DEVICE_CONTROL;
    if (version >= 4) set.network = 3;  // Binding and connecting TCP.
    if (version >= 6) set.scoped = 3;  // Abstract Unix sockets and signals beyond this process.
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int rules = (int)syscall(LANDLOCK_CREATE, &set, size, 0);
    if (rules < 0) return 0;
    for (size_t index = 0; index < count; ++index) {
        allow(rules, readable[index], FILE_READ | FILE_READ_FOLDER | FILE_EXECUTE, set.files);
    }
    static const char *const always[] = {"/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"};
    for (size_t index = 0; index < sizeof always / sizeof *always; ++index) allow(rules, always[index], FILE_READ | FILE_WRITE, set.files);
    glob_t devices;
    if (glob("/dev/nvidia*", 0, NULL, &devices) == 0) {
        for (size_t index = 0; index < devices.gl_pathc; ++index) {
            allow(rules, devices.gl_pathv[index], FILE_READ | FILE_READ_FOLDER | FILE_WRITE | FILE_DEVICE_CONTROL, set.files);
        }
        globfree(&devices);
    }
    int stands = syscall(LANDLOCK_RESTRICT, rules, 0) == 0;
    close(rules);
    return stands ? (int)version : 0;
}

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#endif

#ifdef MACHINE

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSED (SECCOMP_RET_ERRNO | EPERM)
/// Refuses a call by its number, or allows it.
#define REFUSE(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), ANSWER(REFUSED)
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), ANSWER(SECCOMP_RET_ALLOW)

/// Kills where the call is another machine's; leaves the call's number loaded.
#ifdef __x86_64__
#define OF_THIS_MACHINE \
    LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0), ANSWER(SECCOMP_RET_KILL_PROCESS), LOAD(nr), \
        /* The other set of numbers of the same machine. */ BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), ANSWER(REFUSED)
#else
#define OF_THIS_MACHINE LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0), ANSWER(SECCOMP_RET_KILL_PROCESS), LOAD(nr)
#endif

/// A new thread is a clone with CLONE_THREAD: the newer call has arguments in memory, which a filter does not see,
/// and libraries take the older one where it is not there.
#define THREADS_ALONE \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 435 /* clone3 */, 0, 1), ANSWER(SECCOMP_RET_ERRNO | ENOSYS), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4), LOAD(args[0]), \
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0), ANSWER(REFUSED), ANSWER(SECCOMP_RET_ALLOW)

/// A signal to itself, as abort() sends it.
#define SIGNALS_TO_ITSELF_ALONE \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_tgkill, 0, 4), LOAD(args[0]), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)getpid(), 1, 0), ANSWER(REFUSED), ANSWER(SECCOMP_RET_ALLOW)

static int filter(struct sock_filter *steps, size_t count) {
    struct sock_fprog program = {(unsigned short)count, steps};
    // Of every thread that there is.
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 ? 0 : errno ? errno : EAGAIN;
}

/// The rules from the start: while libraries are loaded, and of a module that computes on a GPU, whose libraries are loaded when they are
/// needed.
static int wall_off_calls(void) {
    struct sock_filter steps[] = {
        OF_THIS_MACHINE,
        // What a path names is not changed: Landlock knows only some of these, and a kernel may have none.
#ifdef SYS_chmod
        REFUSE(SYS_chmod), REFUSE(SYS_chown), REFUSE(SYS_lchown), REFUSE(SYS_utime), REFUSE(SYS_utimes), REFUSE(SYS_futimesat),
        REFUSE(SYS_unlink), REFUSE(SYS_rmdir), REFUSE(SYS_rename), REFUSE(SYS_mkdir), REFUSE(SYS_symlink), REFUSE(SYS_link),
        REFUSE(SYS_mknod),
#endif
#ifdef SYS_renameat
        REFUSE(SYS_renameat),
#endif
        REFUSE(SYS_fchmod), REFUSE(SYS_fchmodat), REFUSE(452 /* fchmodat2 */), REFUSE(SYS_fchown), REFUSE(SYS_fchownat),
        REFUSE(SYS_utimensat), REFUSE(SYS_setxattr), REFUSE(SYS_lsetxattr), REFUSE(SYS_fsetxattr), REFUSE(SYS_removexattr),
        REFUSE(SYS_lremovexattr), REFUSE(SYS_fremovexattr), REFUSE(463 /* setxattrat */), REFUSE(466 /* removexattrat */),
        REFUSE(469 /* file_setattr */), REFUSE(SYS_truncate), REFUSE(SYS_unlinkat), REFUSE(SYS_renameat2), REFUSE(SYS_mkdirat),
        REFUSE(SYS_symlinkat), REFUSE(SYS_linkat), REFUSE(SYS_mknodat),
        // Other processes' share of the machine.
        REFUSE(SYS_sched_setscheduler), REFUSE(SYS_sched_setparam), REFUSE(SYS_sched_setattr),
        REFUSE(SYS_ioprio_set), REFUSE(SYS_migrate_pages), REFUSE(SYS_move_pages), REFUSE(SYS_setpgid), REFUSE(SYS_setsid),
        REFUSE(SYS_io_setup),
        // Its own threads are put on cores by libraries.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 4),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        ANSWER(REFUSED),
        ANSWER(SECCOMP_RET_ALLOW),
        // A signal to whom it likes, by way of a descriptor's owner.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 8),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETOWN, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 10 /* F_SETSIG */, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 15 /* F_SETOWN_EX */, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1024 /* F_SETLEASE */, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1026 /* F_NOTIFY */, 1, 0),
        ANSWER(SECCOMP_RET_ALLOW),
        ANSWER(REFUSED),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 6),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x8901 /* FIOSETOWN */, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x8902 /* SIOCSPGRP */, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x5452 /* FIOASYNC */, 1, 0),
        ANSWER(SECCOMP_RET_ALLOW),
        ANSWER(REFUSED),
        // Network.
        REFUSE(SYS_socket), REFUSE(SYS_socketpair), REFUSE(SYS_connect), REFUSE(SYS_bind), REFUSE(SYS_listen), REFUSE(SYS_accept4),
        REFUSE(SYS_accept),
        // Programs and processes.
        REFUSE(SYS_execve), REFUSE(SYS_execveat),
#ifdef SYS_fork
        REFUSE(SYS_fork), REFUSE(SYS_vfork),
#endif
        REFUSE(SYS_ptrace), REFUSE(SYS_process_vm_readv), REFUSE(SYS_process_vm_writev), REFUSE(SYS_kill), REFUSE(SYS_tkill),
        REFUSE(SYS_rt_sigqueueinfo), REFUSE(SYS_rt_tgsigqueueinfo), REFUSE(434 /* pidfd_open */), REFUSE(424 /* pidfd_send_signal */),
        REFUSE(438 /* pidfd_getfd */), REFUSE(SYS_setpriority), REFUSE(448 /* process_mrelease */),
        REFUSE(440 /* process_madvise */), REFUSE(SYS_kcmp),
        // What goes around these.
        REFUSE(425 /* io_uring_setup */), REFUSE(426), REFUSE(427), REFUSE(SYS_bpf), REFUSE(SYS_perf_event_open), REFUSE(SYS_userfaultfd),
        REFUSE(SYS_open_by_handle_at), REFUSE(SYS_name_to_handle_at), REFUSE(SYS_keyctl), REFUSE(SYS_add_key), REFUSE(SYS_request_key),
        // The system itself.
        REFUSE(SYS_mount), REFUSE(SYS_umount2), REFUSE(SYS_unshare), REFUSE(SYS_setns), REFUSE(SYS_chroot), REFUSE(SYS_pivot_root),
        REFUSE(428), REFUSE(429), REFUSE(430), REFUSE(431), REFUSE(432), REFUSE(433), REFUSE(442 /* the newer mounts */),
        REFUSE(SYS_init_module), REFUSE(SYS_finit_module), REFUSE(SYS_delete_module), REFUSE(SYS_kexec_load), REFUSE(SYS_reboot),
        REFUSE(SYS_swapon), REFUSE(SYS_swapoff), REFUSE(SYS_sethostname), REFUSE(SYS_setdomainname), REFUSE(SYS_settimeofday),
        REFUSE(SYS_clock_settime), REFUSE(SYS_adjtimex), REFUSE(SYS_acct), REFUSE(SYS_quotactl), REFUSE(SYS_syslog), REFUSE(SYS_personality),
        // Memory and messages that processes share by a name.
        REFUSE(SYS_shmget), REFUSE(SYS_shmat), REFUSE(SYS_shmctl), REFUSE(SYS_msgget), REFUSE(SYS_msgsnd), REFUSE(SYS_msgrcv),
        REFUSE(SYS_semget), REFUSE(SYS_semop), REFUSE(SYS_mq_open),
        THREADS_ALONE,
        // Limits of itself: threads are made by them.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 4),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        ANSWER(REFUSED),
        ANSWER(SECCOMP_RET_ALLOW),
        SIGNALS_TO_ITSELF_ALONE,
        ANSWER(SECCOMP_RET_ALLOW),
    };
    return filter(steps, sizeof steps / sizeof *steps);
}

int cohort_sandbox_compute_alone(void) {
    struct sock_filter steps[] = {
        OF_THIS_MACHINE,
        // Messages, by descriptors that are open.
        ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_readv), ALLOW(SYS_writev), ALLOW(SYS_recvmsg), ALLOW(SYS_sendmsg), ALLOW(SYS_ppoll),
        ALLOW(SYS_close), ALLOW(SYS_lseek), ALLOW(SYS_pread64), ALLOW(SYS_fstat),
#ifdef SYS_poll
        ALLOW(SYS_poll),
#endif
        // Private memory. Code is made as it runs by PyTorch's kernels, so pages may become executable.
        ALLOW(SYS_munmap), ALLOW(SYS_mremap), ALLOW(SYS_mprotect), ALLOW(SYS_madvise), ALLOW(SYS_brk), ALLOW(SYS_membarrier),
        // Threads.
        ALLOW(SYS_futex), ALLOW(449 /* futex_waitv */), ALLOW(454 /* futex_wake */), ALLOW(455), ALLOW(456), ALLOW(SYS_set_robust_list),
        ALLOW(334 /* rseq of x86-64 */), ALLOW(SYS_set_tid_address), ALLOW(SYS_exit), ALLOW(SYS_exit_group), ALLOW(SYS_sched_yield),
        ALLOW(SYS_sched_getaffinity), ALLOW(SYS_getcpu), ALLOW(SYS_gettid), ALLOW(SYS_getpid),
#ifdef SYS_arch_prctl
        ALLOW(SYS_arch_prctl),
#endif
        // Clocks, and numbers about the system.
        ALLOW(SYS_clock_gettime), ALLOW(SYS_clock_getres), ALLOW(SYS_clock_nanosleep), ALLOW(SYS_nanosleep), ALLOW(SYS_gettimeofday),
        ALLOW(SYS_restart_syscall), ALLOW(SYS_getrandom), ALLOW(SYS_sysinfo), ALLOW(SYS_uname), ALLOW(SYS_getrusage), ALLOW(SYS_times),
        ALLOW(SYS_getuid), ALLOW(SYS_geteuid), ALLOW(SYS_getgid), ALLOW(SYS_getegid),
#ifdef SYS_time
        ALLOW(SYS_time),
#endif
        // Signals that it gets.
        ALLOW(SYS_rt_sigaction), ALLOW(SYS_rt_sigprocmask), ALLOW(SYS_rt_sigreturn), ALLOW(SYS_sigaltstack),
        // No memory that is shared and not counted for the process.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5),
        LOAD(args[3]),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, MAP_SHARED | MAP_ANONYMOUS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MAP_SHARED | MAP_ANONYMOUS, 0, 1),
        ANSWER(REFUSED),
        ANSWER(SECCOMP_RET_ALLOW),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 6),
        LOAD(args[1]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_GETFD, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETFD, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_GETFL, 1, 0),
        ANSWER(REFUSED),
        ANSWER(SECCOMP_RET_ALLOW),
        // Names of threads and of memory.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 6),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_NAME, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_GET_NAME, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x53564d41 /* PR_SET_VMA */, 1, 0),
        ANSWER(REFUSED),
        ANSWER(SECCOMP_RET_ALLOW),
        // Its own limits, to look at: of no process but itself, and with no new limit given.
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 8),
        LOAD(args[0]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 5),
        LOAD(args[2]),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]) + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        ANSWER(SECCOMP_RET_ALLOW),
        ANSWER(REFUSED),
        THREADS_ALONE,
        SIGNALS_TO_ITSELF_ALONE,
        // Everything else, whatever a kernel may bring.
        ANSWER(REFUSED),
    };
    return filter(steps, sizeof steps / sizeof *steps);
}

#else
static int wall_off_calls(void) { return ENOSYS; }
int cohort_sandbox_compute_alone(void) { return ENOSYS; }
#endif

static void close_all_from(int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
#endif
    struct rlimit limit;
    int most = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 65536 ? (int)limit.rlim_cur : 65536;
    for (int descriptor = first; descriptor < most; ++descriptor) close(descriptor);
}

/// Of this machine, or of the container that this runs in; 0: not to be told.
static uint64_t memory_there_is(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    uint64_t bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
    char text[32] = {0};
    int file = open("/sys/fs/cgroup/memory.max", O_RDONLY | O_CLOEXEC);
    if (file < 0) return bytes;
    // "max" is no number.
    uint64_t most = read(file, text, sizeof text - 1) > 0 ? strtoull(text, NULL, 10) : 0;
    close(file);
    return most > 0 && (bytes == 0 || most < bytes) ? most : bytes;
}

static void limit_memory(void) {
    uint64_t bytes = memory_there_is() / 4 * 3;
    struct rlimit most = {bytes, bytes}, before;
    if (bytes > 0 && getrlimit(RLIMIT_DATA, &before) == 0 && (before.rlim_max == RLIM_INFINITY || before.rlim_max > bytes)) {
        setrlimit(RLIMIT_DATA, &most);
    }
    // When the machine's memory ends all the same, this process goes first.
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    if (write(file, "1000", 4) < 0) {
        // Then it is as any other.
    }
    close(file);
}

unsigned cohort_sandbox_enter(const char *const readable[], size_t count, int newest_landlock) {
    close_all_from(COHORT_SANDBOX_SOCKET + 1);
    limit_memory();
    // What it writes nowhere is not left behind either: no file grows, no core is dumped.
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_FSIZE, &none);
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGXFSZ, SIG_IGN);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return 0;
    unsigned walls = 0;
    int landlock = wall_off_files(readable, count, newest_landlock);
    if (landlock >= 1) walls |= COHORT_SANDBOX_FILES;
    if (landlock >= 3) walls |= COHORT_SANDBOX_CHANGES;
    if (wall_off_calls() == 0) walls |= COHORT_SANDBOX_CALLS;
    return walls;
}

int cohort_sandbox_memory(size_t size) {
    int file = memfd_create("cohort-table", MFD_CLOEXEC);
    if (file < 0) return -errno;
    if (ftruncate(file, (off_t)size) == 0) return file;
    int fault = errno;
    close(file);
    return -fault;
}

struct visitor {
    cohort_sandbox_visit visit;
    void *context;
};

static int visit_library(struct dl_phdr_info *library, size_t size, void *context) {
    (void)size;
    struct visitor *visitor = context;
    if (library->dlpi_name && library->dlpi_name[0] == '/') visitor->visit(library->dlpi_name, visitor->context);
    return 0;
}

void cohort_sandbox_libraries(cohort_sandbox_visit visit, void *context) {
    struct visitor visitor = {visit, context};
    dl_iterate_phdr(visit_library, &visitor);
}

#else

// Other systems: there is no sandbox, and callers are informed.
unsigned cohort_sandbox_enter(const char *const readable[], size_t count, int newest_landlock) {
    (void)newest_landlock;
    (void)readable;
    (void)count;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_FSIZE, &none);
    setrlimit(RLIMIT_CORE, &none);
    return 0;
}

int cohort_sandbox_compute_alone(void) { return ENOSYS; }

int cohort_sandbox_memory(size_t size) {
    char path[] = "/tmp/cohort-table-XXXXXX";
    int file = mkstemp(path);
    if (file < 0) return -errno;
    unlink(path);
    if (fcntl(file, F_SETFD, FD_CLOEXEC) == 0 && ftruncate(file, (off_t)size) == 0) return file;
    int fault = errno;
    close(file);
    return -fault;
}

void cohort_sandbox_libraries(cohort_sandbox_visit visit, void *context) {
    (void)visit;
    (void)context;
}

#endif

#ifndef POLLRDHUP
#define POLLRDHUP 0
#endif

void cohort_sandbox_end_with_peer(int socket) {
    while (1) {
        struct pollfd gone = {socket, POLLRDHUP, 0};
        int count = poll(&gone, 1, -1);
        if (count < 0 && errno == EINTR) continue;
        if (count > 0 && (gone.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL))) _exit(0);
        if (count < 0) return;
    }
}

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

int cohort_sandbox_send(int socket, const void *bytes, size_t count, int descriptor) {
    const char *next = bytes;
    while (count > 0) {
        struct iovec part = {(void *)next, count};
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } beside;
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (descriptor >= 0) {
            memset(&beside, 0, sizeof beside);
            message.msg_control = beside.space;
            message.msg_controllen = sizeof beside.space;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
        }
        ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            return errno;
        }
        descriptor = -1;
        next += sent;
        count -= (size_t)sent;
    }
    return 0;
}

ssize_t cohort_sandbox_receive(int socket, void *bytes, size_t count, int *descriptor) {
    while (1) {
        struct iovec part = {bytes, count};
        union {
            struct cmsghdr header;
            char space[CMSG_SPACE(sizeof(int))];
        } beside;
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = beside.space, .msg_controllen = sizeof beside.space};
#ifdef MSG_CMSG_CLOEXEC
        ssize_t received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
#else
        ssize_t received = recvmsg(socket, &message, 0);
#endif
        if (received < 0) {
            if (errno == EINTR) continue;
            return -errno;
        }
        for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
            if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
            // Alignment leaves room for a second one, and the kernel fills what there is: each is taken, and all but the last are closed.
            size_t given_count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t index = 0; index < given_count; ++index) {
                int given;
                memcpy(&given, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
                if (*descriptor >= 0) close(*descriptor);
                *descriptor = given;
            }
        }
        return received;
    }
}
