#include "include/CMongo.h"

#include <dlfcn.h>
#include <mongoc/mongoc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// MARK: The library

#define FUNCTIONS(X)                                                                                                                       \
    X(mongoc_init)                                                                                                                         \
    X(mongoc_log_set_handler)                                                                                                              \
    X(mongoc_uri_new_with_error)                                                                                                           \
    X(mongoc_uri_destroy)                                                                                                                  \
    X(mongoc_uri_get_database)                                                                                                             \
    X(mongoc_uri_get_option_as_int32)                                                                                                      \
    X(mongoc_uri_set_option_as_int32)                                                                                                      \
    X(mongoc_uri_get_write_concern)                                                                                                        \
    X(mongoc_uri_set_write_concern)                                                                                                        \
    X(mongoc_uri_set_read_prefs_t)                                                                                                         \
    X(mongoc_write_concern_new)                                                                                                            \
    X(mongoc_write_concern_get_w)                                                                                                          \
    X(mongoc_write_concern_set_w)                                                                                                          \
    X(mongoc_write_concern_destroy)                                                                                                        \
    X(mongoc_read_prefs_new)                                                                                                               \
    X(mongoc_read_prefs_destroy)                                                                                                           \
    X(mongoc_client_pool_new_with_error)                                                                                                   \
    X(mongoc_client_pool_set_error_api)                                                                                                    \
    X(mongoc_client_pool_set_appname)                                                                                                      \
    X(mongoc_client_pool_max_size)                                                                                                         \
    X(mongoc_client_pool_pop)                                                                                                              \
    X(mongoc_client_pool_push)                                                                                                             \
    X(mongoc_client_pool_destroy)                                                                                                          \
    X(mongoc_client_write_command_with_opts)                                                                                               \
    X(mongoc_client_read_command_with_opts)                                                                                                \
    X(mongoc_client_get_collection)                                                                                                        \
    X(mongoc_collection_find_with_opts)                                                                                                    \
    X(mongoc_collection_aggregate)                                                                                                         \
    X(mongoc_collection_destroy)                                                                                                           \
    X(mongoc_cursor_next)                                                                                                                  \
    X(mongoc_cursor_error)                                                                                                                 \
    X(mongoc_cursor_destroy)                                                                                                               \
    X(bson_new_from_json)                                                                                                                  \
    X(bson_destroy)                                                                                                                        \
    X(bson_as_relaxed_extended_json)                                                                                                       \
    X(bson_free)

#define POINTER(name) static __typeof__(&name) f_##name;
FUNCTIONS(POINTER)
#undef POINTER

static char missing[256];

static void silent(mongoc_log_level_t level, const char *domain, const char *message, void *context) {
    (void)level, (void)domain, (void)message, (void)context;
}

static void load(void) {
    static const char *const names[] = {"libmongoc-1.0.so.0", "libmongoc-1.0.0.dylib", "libmongoc-1.0.so", "libmongoc-1.0.dylib"};
    void *library = NULL;
    for (size_t index = 0; index < sizeof(names) / sizeof(*names) && !library; ++index) library = dlopen(names[index], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(missing, sizeof missing, "libmongoc is not on this machine: install it (Debian and Ubuntu: apt-get install libmongoc-1.0-0)");
        return;
    }
#define FIND(name)                                                                                                                         \
    if (!(f_##name = (__typeof__(&name))dlsym(library, #name))) {                                                                          \
        snprintf(missing, sizeof missing, "libmongoc has no %s: version 1.20 or newer is needed", #name);                                  \
        return;                                                                                                                            \
    }
    FUNCTIONS(FIND)
#undef FIND
    f_mongoc_init();
    // Faults are reported by the errors of calls.
    f_mongoc_log_set_handler(silent, NULL);
}

static int isLoaded(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return missing[0] == 0;
}

// MARK: Errors

struct cohort_mongo {
    mongoc_client_pool_t *pool;
};

static int fail(cohort_mongo_error *error, enum cohort_mongo_fault fault, int code, const char *format, ...) {
    error->fault = fault;
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return (int)fault;
}

static int failLibrary(cohort_mongo_error *error, const bson_error_t *cause) {
    enum cohort_mongo_fault fault;
    switch (cause->domain) {
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_WRITE_CONCERN:
        fault = COHORT_MONGO_SERVER;
        break;
    case MONGOC_ERROR_COMMAND:
    case MONGOC_ERROR_BSON:
    case MONGOC_ERROR_CURSOR:
        fault = COHORT_MONGO_JSON;
        break;
    default:
        fault = COHORT_MONGO_AWAY;
    }
    // A refused login comes under several domains: by its code from the server, by its own, or inside what server selection says.
    if (cause->code == 18 || cause->code == MONGOC_ERROR_CLIENT_AUTHENTICATE || strstr(cause->message, "uthentication failed")) {
        fault = COHORT_MONGO_REFUSED;
    }
    return fail(error, fault, (int)cause->code, "%s", cause->message);
}

// MARK: Calls

cohort_mongo *cohort_mongo_open(const char *text, const char *app, int connections, char *database, cohort_mongo_error *error) {
    if (!isLoaded()) {
        fail(error, COHORT_MONGO_MISSING, 0, "%s", missing);
        return NULL;
    }
    bson_error_t cause;
    mongoc_uri_t *uri = f_mongoc_uri_new_with_error(text, &cause);
    if (!uri) {
        fail(error, COHORT_MONGO_URI, 0, "%s", cause.message);
        return NULL;
    }
    // A caller that learns of it soon can report it, and try again.
    if (f_mongoc_uri_get_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 0) == 0) {
        f_mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SERVERSELECTIONTIMEOUTMS, 5000);
    }
    if (f_mongoc_uri_get_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, 0) == 0) {
        f_mongoc_uri_set_option_as_int32(uri, MONGOC_URI_SOCKETTIMEOUTMS, 30000);
    }
    if (f_mongoc_write_concern_get_w(f_mongoc_uri_get_write_concern(uri)) == MONGOC_WRITE_CONCERN_W_DEFAULT) {
        mongoc_write_concern_t *majority = f_mongoc_write_concern_new();
        f_mongoc_write_concern_set_w(majority, MONGOC_WRITE_CONCERN_W_MAJORITY);
        f_mongoc_uri_set_write_concern(uri, majority);
        f_mongoc_write_concern_destroy(majority);
    }
    mongoc_read_prefs_t *primary = f_mongoc_read_prefs_new(MONGOC_READ_PRIMARY);
    f_mongoc_uri_set_read_prefs_t(uri, primary);
    f_mongoc_read_prefs_destroy(primary);
    const char *name = f_mongoc_uri_get_database(uri);
    snprintf(database, 64, "%s", name ? name : "");
    mongoc_client_pool_t *pool = f_mongoc_client_pool_new_with_error(uri, &cause);
    f_mongoc_uri_destroy(uri);
    if (!pool) {
        fail(error, COHORT_MONGO_URI, 0, "%s", cause.message);
        return NULL;
    }
    f_mongoc_client_pool_set_error_api(pool, MONGOC_ERROR_API_VERSION_2);
    f_mongoc_client_pool_set_appname(pool, app);
    f_mongoc_client_pool_max_size(pool, (uint32_t)connections);
    cohort_mongo *mongo = malloc(sizeof *mongo);
    mongo->pool = pool;
    return mongo;
}

void cohort_mongo_close(cohort_mongo *mongo) {
    f_mongoc_client_pool_destroy(mongo->pool);
    free(mongo);
}

static bson_t *parse(const char *json, size_t length, cohort_mongo_error *error) {
    bson_error_t cause;
    bson_t *document = f_bson_new_from_json((const uint8_t *)json, (ssize_t)length, &cause);
    if (!document) fail(error, COHORT_MONGO_JSON, 0, "%s", cause.message);
    return document;
}

static int run(cohort_mongo *mongo, const char *database, const char *command, size_t length, int writes, char **reply,
               cohort_mongo_error *error) {
    bson_t *document = parse(command, length, error);
    if (!document) return (int)error->fault;
    mongoc_client_t *client = f_mongoc_client_pool_pop(mongo->pool);
    bson_error_t cause;
    bson_t answer;
    bool done = writes ? f_mongoc_client_write_command_with_opts(client, database, document, NULL, &answer, &cause)
                       : f_mongoc_client_read_command_with_opts(client, database, document, NULL, NULL, &answer, &cause);
    f_mongoc_client_pool_push(mongo->pool, client);
    f_bson_destroy(document);
    if (done) {
        *reply = f_bson_as_relaxed_extended_json(&answer, NULL);
        error->fault = COHORT_MONGO_OK;
    } else {
        failLibrary(error, &cause);
    }
    f_bson_destroy(&answer);
    return (int)error->fault;
}

int cohort_mongo_write(cohort_mongo *mongo, const char *database, const char *command, size_t length, char **reply, cohort_mongo_error *error) {
    return run(mongo, database, command, length, 1, reply, error);
}

int cohort_mongo_read(cohort_mongo *mongo, const char *database, const char *command, size_t length, char **reply, cohort_mongo_error *error) {
    return run(mongo, database, command, length, 0, reply, error);
}

static int walk(mongoc_cursor_t *cursor, void *context, void (*each)(void *context, const char *json, size_t length),
                cohort_mongo_error *error) {
    const bson_t *document;
    while (f_mongoc_cursor_next(cursor, &document)) {
        size_t length = 0;
        char *json = f_bson_as_relaxed_extended_json(document, &length);
        each(context, json, length);
        f_bson_free(json);
    }
    bson_error_t cause;
    error->fault = COHORT_MONGO_OK;
    if (f_mongoc_cursor_error(cursor, &cause)) failLibrary(error, &cause);
    return (int)error->fault;
}

int cohort_mongo_find(cohort_mongo *mongo, const char *database, const char *collection, const char *filter, size_t filter_length,
                      const char *options, size_t options_length, void *context, void (*each)(void *context, const char *json, size_t length),
                      cohort_mongo_error *error) {
    bson_t *query = parse(filter, filter_length, error);
    if (!query) return (int)error->fault;
    bson_t *opts = parse(options, options_length, error);
    if (opts) {
        mongoc_client_t *client = f_mongoc_client_pool_pop(mongo->pool);
        mongoc_collection_t *handle = f_mongoc_client_get_collection(client, database, collection);
        mongoc_cursor_t *cursor = f_mongoc_collection_find_with_opts(handle, query, opts, NULL);
        walk(cursor, context, each, error);
        f_mongoc_cursor_destroy(cursor);
        f_mongoc_collection_destroy(handle);
        f_mongoc_client_pool_push(mongo->pool, client);
        f_bson_destroy(opts);
    }
    f_bson_destroy(query);
    return (int)error->fault;
}

int cohort_mongo_aggregate(cohort_mongo *mongo, const char *database, const char *collection, const char *pipeline, size_t length,
                           void *context, void (*each)(void *context, const char *json, size_t length), cohort_mongo_error *error) {
    bson_t *stages = parse(pipeline, length, error);
    if (!stages) return (int)error->fault;
    mongoc_client_t *client = f_mongoc_client_pool_pop(mongo->pool);
    mongoc_collection_t *handle = f_mongoc_client_get_collection(client, database, collection);
    mongoc_cursor_t *cursor = f_mongoc_collection_aggregate(handle, MONGOC_QUERY_NONE, stages, NULL, NULL);
    walk(cursor, context, each, error);
    f_mongoc_cursor_destroy(cursor);
    f_mongoc_collection_destroy(handle);
    f_mongoc_client_pool_push(mongo->pool, client);
    f_bson_destroy(stages);
    return (int)error->fault;
}

void cohort_mongo_free(char *text) { f_bson_free(text); }
