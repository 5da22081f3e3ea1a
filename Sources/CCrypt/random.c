#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

// libcrypt calls this for salts that its caller does not bring. glibc has it only since 2.36, and Cohort runs with 2.35.
void arc4random_buf(void *buffer, size_t length) {
    for (size_t done = 0; done < length;) {
        ssize_t count = getrandom((char *)buffer + done, length - done, 0);
        if (count > 0) {
            done += (size_t)count;
        } else if (count == 0 || errno != EINTR) {
            abort();
        }
    }
}
