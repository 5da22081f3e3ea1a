#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "include/cohort_sandbox.h"

#ifdef __linux__
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int cohort_sandbox_attempt(enum cohort_sandbox_attempt what, pid_t victim) {
    switch (what) {
    case COHORT_ATTEMPT_CORES: {
        cpu_set_t cores;
        return sched_getaffinity(0, sizeof cores, &cores) == 0 && sched_setaffinity(victim, sizeof cores, &cores) == 0;
    }
    case COHORT_ATTEMPT_SCHEDULING: {
        struct sched_param parameters = {0};
        return sched_setscheduler(victim, SCHED_IDLE, &parameters) == 0;
    }
    case COHORT_ATTEMPT_PRIORITY: return setpriority(PRIO_PROCESS, (id_t)victim, 10) == 0;
    case COHORT_ATTEMPT_DISK_PRIORITY: return syscall(SYS_ioprio_set, 1, victim, 3 << 13) == 0;
    case COHORT_ATTEMPT_LIMITS: {
        struct rlimit limit;
        return prlimit(victim, RLIMIT_NOFILE, NULL, &limit) == 0;
    }
    case COHORT_ATTEMPT_MEMORY_FILE: {
        int file = memfd_create("attempt", 0);
        if (file >= 0) close(file);
        return file >= 0;
    }
    }
    return 0;
}
#else
int cohort_sandbox_attempt(enum cohort_sandbox_attempt what, pid_t victim) {
    (void)what;
    (void)victim;
    return 0;
}
#endif
