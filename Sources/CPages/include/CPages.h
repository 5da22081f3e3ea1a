#ifndef COHORT_PAGES_H
#define COHORT_PAGES_H

#include <stddef.h>

/// A file of the pages: a template, a script, a style.
typedef struct {
    const char *name;
    /// UTF-8, `size` bytes, without a zero at the end.
    const char *bytes;
    size_t size;
} cohort_page_file;

/// The number of files.
size_t cohort_page_file_count(void);

/// The file at an index below the count.
cohort_page_file cohort_page_file_at(size_t index);

#endif
