// A few threads that share out the pieces of one job at a time. How a job is cut never depends on how many threads there are, so neither do
// its results.
#include "CKernels.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { SPINS = 2000 };

struct cohort_threads {
    /// Job number (32 bits), pieces (16 bits), next piece (16 bits): taken with one compare-and-swap, so a thread that is late for a job
    /// takes no piece of another.
    _Atomic uint64_t ticket;
    _Atomic uint32_t done;
    void (*work)(void *, size_t);
    void *context;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int sleeping, stopping;
    int count;
    pthread_t threads[];
};

static uint32_t job_of(uint64_t ticket) { return (uint32_t)(ticket >> 32); }

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void take_pieces(struct cohort_threads *threads, uint32_t job) {
    uint64_t ticket = atomic_load(&threads->ticket);
    while (job_of(ticket) == job && (ticket & 0xffff) < (ticket >> 16 & 0xffff)) {
        if (!atomic_compare_exchange_weak(&threads->ticket, &ticket, ticket + 1)) continue;
        // The job is not over before this piece is, so what it says stands still.
        threads->work(threads->context, ticket & 0xffff);
        atomic_fetch_add(&threads->done, 1);
        ticket = atomic_load(&threads->ticket);
    }
}

static void *serve(void *argument) {
    struct cohort_threads *threads = argument;
    uint32_t seen = 0;
    while (1) {
        for (int spin = 0; spin < SPINS && job_of(atomic_load(&threads->ticket)) == seen; spin++) pause_briefly();
        if (job_of(atomic_load(&threads->ticket)) == seen) {
            pthread_mutex_lock(&threads->mutex);
            threads->sleeping++;
            while (job_of(atomic_load(&threads->ticket)) == seen && !threads->stopping) pthread_cond_wait(&threads->wake, &threads->mutex);
            threads->sleeping--;
            int stopping = threads->stopping;
            pthread_mutex_unlock(&threads->mutex);
            if (stopping) return NULL;
        }
        seen = job_of(atomic_load(&threads->ticket));
        take_pieces(threads, seen);
    }
}

struct cohort_threads *cohort_threads_make(int count) {
    struct cohort_threads *threads = calloc(1, sizeof *threads + (size_t)count * sizeof(pthread_t));
    if (!threads) return NULL;
    pthread_mutex_init(&threads->mutex, NULL);
    pthread_cond_init(&threads->wake, NULL);
    // The caller of run is one of them. Fewer than asked for are as good: they only take longer.
    while (threads->count + 1 < count && !pthread_create(&threads->threads[threads->count], NULL, serve, threads)) threads->count++;
    return threads;
}

void cohort_threads_free(struct cohort_threads *threads) {
    pthread_mutex_lock(&threads->mutex);
    threads->stopping = 1;
    pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->mutex);
    for (int i = 0; i < threads->count; i++) pthread_join(threads->threads[i], NULL);
    pthread_mutex_destroy(&threads->mutex);
    pthread_cond_destroy(&threads->wake);
    free(threads);
}

void cohort_threads_run(struct cohort_threads *threads, size_t pieces, void (*work)(void *context, size_t piece), void *context) {
    if (!threads || threads->count == 0 || pieces < 2) {
        for (size_t piece = 0; piece < pieces; piece++) work(context, piece);
        return;
    }
    threads->work = work;
    threads->context = context;
    atomic_store(&threads->done, 0);
    uint32_t job = job_of(atomic_load(&threads->ticket)) + 1;
    atomic_store(&threads->ticket, (uint64_t)job << 32 | (uint64_t)pieces << 16);
    pthread_mutex_lock(&threads->mutex);
    if (threads->sleeping) pthread_cond_broadcast(&threads->wake);
    pthread_mutex_unlock(&threads->mutex);
    take_pieces(threads, job);
    for (int spin = 0; atomic_load(&threads->done) < pieces; spin++) {
        if (spin < SPINS) pause_briefly(); else sched_yield();
    }
}
