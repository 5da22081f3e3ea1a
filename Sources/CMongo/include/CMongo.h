// MongoDB by libmongoc, which is opened at run time: it is not required without MongoDB. Commands, filters and answers are MongoDB
// Extended JSON. Calls block; any number of threads may call.
#ifndef COHORT_MONGO_H
#define COHORT_MONGO_H

#include <stddef.h>
#include <stdint.h>

typedef struct cohort_mongo cohort_mongo;

enum cohort_mongo_fault {
    COHORT_MONGO_OK = 0,
    /// libmongoc is not on this machine.
    COHORT_MONGO_MISSING = 1,
    /// An invalid URI.
    COHORT_MONGO_URI = 2,
    /// No server, or a connection that broke: try again.
    COHORT_MONGO_AWAY = 3,
    /// User or password.
    COHORT_MONGO_REFUSED = 4,
    /// The server's own error; `code` is MongoDB's.
    COHORT_MONGO_SERVER = 5,
    /// The command or its document is no JSON.
    COHORT_MONGO_JSON = 6,
};

typedef struct {
    enum cohort_mongo_fault fault;
    int code;
    char text[512];
} cohort_mongo_error;

/// Opens a pool of connections; nothing is connected yet. Reads go to the primary, and writes wait for the majority unless the URI says
/// otherwise.
/// - database: gets the URI's database name (at most 64 bytes), empty when it has none.
/// - Returns NULL when it fails.
cohort_mongo *cohort_mongo_open(const char *uri, const char *app, int connections, char *database, cohort_mongo_error *error);

/// No call may be under way.
void cohort_mongo_close(cohort_mongo *mongo);

/// Runs a command that writes, with the retries that the URI asks for.
/// - reply: gets the answer as JSON, to be freed by cohort_mongo_free.
/// - Returns 0, or the fault.
int cohort_mongo_write(cohort_mongo *mongo, const char *database, const char *command, size_t length, char **reply, cohort_mongo_error *error);

/// Runs a command that only reads.
int cohort_mongo_read(cohort_mongo *mongo, const char *database, const char *command, size_t length, char **reply, cohort_mongo_error *error);

/// Calls `each` with every document that a filter finds, or that a pipeline (an array of stages) makes.
int cohort_mongo_find(cohort_mongo *mongo, const char *database, const char *collection, const char *filter, size_t filter_length,
                      const char *options, size_t options_length, void *context, void (*each)(void *context, const char *json, size_t length),
                      cohort_mongo_error *error);
int cohort_mongo_aggregate(cohort_mongo *mongo, const char *database, const char *collection, const char *pipeline, size_t length,
                           void *context, void (*each)(void *context, const char *json, size_t length), cohort_mongo_error *error);

void cohort_mongo_free(char *text);

#endif
