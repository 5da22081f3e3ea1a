import CohortCore
import DequeModule
import Synchronization

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// Runs an actor on a separate thread, where it may block for hours.
public final class ThreadExecutor: SerialExecutor {
    private struct State {
        var jobs: Deque<UnownedJob> = []
        var hasEnded = false
    }

    private let state = Mutex(State())
    /// Counts the jobs, and once the end.
    private let semaphore: Semaphore

    /// - Throws: ``CohortError`` `internal` when the system gives no thread.
    public init() throws {
        semaphore = Semaphore()
        // The thread holds the executor until `end()`.
        let context = Unmanaged.passRetained(self)
        #if canImport(Glibc)
            var thread = pthread_t()
        #else
            var thread: pthread_t?
        #endif
        let result = pthread_create(
            &thread, nil,
            { context in
                #if canImport(Glibc)
                    guard let context else { return nil }
                #endif
                Unmanaged<ThreadExecutor>.fromOpaque(context).takeRetainedValue().work()
                return nil
            }, context.toOpaque())
        guard result == 0 else {
            context.release()
            throw CohortError(.internal, "no thread to work on: \(String(cString: strerror(result)))")
        }
        #if canImport(Glibc)
            pthread_detach(thread)
        #else
            if let thread { pthread_detach(thread) }
        #endif
    }

    public func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        state.withLock { $0.jobs.append(job) }
        semaphore.signal()
    }

    /// Lets the thread end once its jobs are done. Nothing may call the actor after this.
    public func end() {
        state.withLock { $0.hasEnded = true }
        semaphore.signal()
    }

    private func work() {
        while true {
            semaphore.wait()
            let next: UnownedJob? = state.withLock { $0.jobs.popFirst() }
            if let next { next.runSynchronously(on: asUnownedSerialExecutor()) } else if state.withLock({ $0.hasEnded }) { return }
        }
    }
}

/// A POSIX counting semaphore.
private final class Semaphore: @unchecked Sendable {
    // @unchecked: sem_post and sem_wait may be called from any thread; the memory lives as long as the object.
    #if canImport(Glibc)
        private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        init() { sem_init(semaphore, 0, 0) }
        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }
        func signal() { sem_post(semaphore) }
        func wait() { while sem_wait(semaphore) != 0 {} }
    #else
        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private var count = 0
        init() {
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(condition, nil)
        }
        deinit {
            pthread_cond_destroy(condition)
            pthread_mutex_destroy(mutex)
            condition.deallocate()
            mutex.deallocate()
        }
        func signal() {
            pthread_mutex_lock(mutex)
            count += 1
            pthread_cond_signal(condition)
            pthread_mutex_unlock(mutex)
        }
        func wait() {
            pthread_mutex_lock(mutex)
            while count == 0 { pthread_cond_wait(condition, mutex) }
            count -= 1
            pthread_mutex_unlock(mutex)
        }
    #endif
}
