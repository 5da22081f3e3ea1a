// A process for code that is not trusted: started with one socket and nothing else, cut off from files, network and other processes by itself.
#ifndef COHORT_SANDBOX_H
#define COHORT_SANDBOX_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/// Where a started process has its socket.
#define COHORT_SANDBOX_SOCKET 3

enum cohort_sandbox_wall {
    /// It opens no file but those below the folders that it was given, to read, and the GPU's devices (Landlock, Linux 5.13).
    COHORT_SANDBOX_FILES = 1,
    /// It makes no socket, starts no program, and reaches no other process (seccomp).
    COHORT_SANDBOX_CALLS = 2,
    /// The Landlock that stands is version 3 or newer (Linux 6.2): no file is changed, cut short or moved.
    COHORT_SANDBOX_CHANGES = 4,
};

/// Starts `executable` in a separate process group, with `socket` as descriptor 3 and /dev/null as the other three.
/// - Returns its id, or minus an errno.
pid_t cohort_sandbox_spawn(const char *executable, char *const arguments[], char *const environment[], int socket);

/// Called by such a process first, before it has a second thread: closes all other descriptors and builds the walls, for good.
/// On Linux it may take three quarters of the memory of the machine, or of its container, and ends first when memory does.
/// - Parameter readable: folders and files to read and to load libraries from; one that is not there is left out.
/// - Parameter newest_landlock: the version of Landlock that is taken at most; INT_MAX but in tests.
/// - Returns which walls stand: those that this system has.
unsigned cohort_sandbox_enter(const char *const readable[], size_t count, int newest_landlock);

/// From here on this process, with all its threads, computes, talks on the descriptors that it has, and does nothing else: a list of the
/// system calls that this takes is allowed, all others are refused (EPERM). Called once libraries are loaded, before the module's code is.
/// - Returns 0, or an errno.
int cohort_sandbox_compute_alone(void);

/// Waits until the other side of the socket is gone, and ends this process then. Runs on a separate thread.
void cohort_sandbox_end_with_peer(int socket);

/// Sends `bytes` whole, with a descriptor beside the first one if `descriptor` is not -1.
/// - Returns 0, or an errno.
int cohort_sandbox_send(int socket, const void *bytes, size_t count, int descriptor);

/// Receives some bytes, and a descriptor where one was sent with them: else `descriptor` stays as it is.
/// - Returns how many, 0 at the end, or minus an errno.
ssize_t cohort_sandbox_receive(int socket, void *bytes, size_t count, int *descriptor);

/// A file in memory, for `size` bytes; or minus an errno.
int cohort_sandbox_memory(size_t size);

/// What a walled process must not be able to do, and only C can try.
enum cohort_sandbox_attempt {
    COHORT_ATTEMPT_CORES,
    COHORT_ATTEMPT_SCHEDULING,
    COHORT_ATTEMPT_PRIORITY,
    COHORT_ATTEMPT_DISK_PRIORITY,
    COHORT_ATTEMPT_LIMITS,
    COHORT_ATTEMPT_MEMORY_FILE,
};

/// - Returns whether it was carried out, on the process `victim` where it is about one.
int cohort_sandbox_attempt(enum cohort_sandbox_attempt what, pid_t victim);

/// Whether this process's loaded libraries give `visit` a next path.
typedef void (*cohort_sandbox_visit)(const char *path, void *context);
void cohort_sandbox_libraries(cohort_sandbox_visit visit, void *context);

#endif
