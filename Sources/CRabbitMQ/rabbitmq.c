#include "include/CRabbitMQ.h"

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

// MARK: The library

#define FUNCTIONS(X)                                                                                                                       \
    X(amqp_new_connection)                                                                                                                 \
    X(amqp_destroy_connection)                                                                                                             \
    X(amqp_tcp_socket_new)                                                                                                                 \
    X(amqp_ssl_socket_new)                                                                                                                 \
    X(amqp_ssl_socket_set_cacert)                                                                                                          \
    X(amqp_ssl_socket_set_key)                                                                                                             \
    X(amqp_ssl_socket_set_verify_peer)                                                                                                     \
    X(amqp_ssl_socket_set_verify_hostname)                                                                                                 \
    X(amqp_socket_open_noblock)                                                                                                            \
    X(amqp_set_handshake_timeout)                                                                                                          \
    X(amqp_set_rpc_timeout)                                                                                                                \
    X(amqp_login_with_properties)                                                                                                          \
    X(amqp_get_sockfd)                                                                                                                     \
    X(amqp_get_rpc_reply)                                                                                                                  \
    X(amqp_channel_open)                                                                                                                   \
    X(amqp_confirm_select)                                                                                                                 \
    X(amqp_basic_qos)                                                                                                                      \
    X(amqp_exchange_declare)                                                                                                               \
    X(amqp_queue_bind)                                                                                                                     \
    X(amqp_queue_declare)                                                                                                                  \
    X(amqp_queue_delete)                                                                                                                   \
    X(amqp_basic_consume)                                                                                                                  \
    X(amqp_basic_cancel)                                                                                                                   \
    X(amqp_basic_publish)                                                                                                                  \
    X(amqp_basic_ack)                                                                                                                      \
    X(amqp_basic_reject)                                                                                                                   \
    X(amqp_simple_wait_frame_noblock)                                                                                                      \
    X(amqp_maybe_release_buffers)                                                                                                          \
    X(amqp_send_method)                                                                                                                    \
    X(amqp_connection_close)                                                                                                               \
    X(amqp_error_string2)

#define POINTER(name) static __typeof__(&name) f_##name;
FUNCTIONS(POINTER)
#undef POINTER

static char missing[256];

static void load(void) {
    static const char *const names[] = {"librabbitmq.so.4", "librabbitmq.4.dylib", "librabbitmq.so", "librabbitmq.dylib"};
    void *library = NULL;
    for (size_t index = 0; index < sizeof(names) / sizeof(*names) && !library; ++index) library = dlopen(names[index], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(missing, sizeof missing, "librabbitmq is not on this machine: install it (Debian and Ubuntu: apt-get install librabbitmq4)");
        return;
    }
#define FIND(name)                                                                                                                         \
    if (!(f_##name = (__typeof__(&name))dlsym(library, #name))) {                                                                            \
        snprintf(missing, sizeof missing, "librabbitmq has no %s: version 0.10 or newer is needed", #name);                                  \
        return;                                                                                                                            \
    }
    FUNCTIONS(FIND)
#undef FIND
}

static int isLoaded(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return missing[0] == 0;
}

// MARK: Errors

enum { CHANNELS = 8 };

/// A message whose parts are on their way; those of another channel may come between them.
struct content {
    int is_open, has_header;
    /// Bytes of the body that are still to come.
    uint64_t left;
    cohort_amqp_event event;
};

struct cohort_amqp {
    amqp_connection_state_t state;
    /// Of each channel: bytes of a body that are taken at most.
    size_t largest[CHANNELS];
    struct content contents[CHANNELS];
};

static void forget_content(struct content *content) {
    cohort_amqp_event_free(&content->event);
    content->is_open = 0;
}

static int fail(cohort_amqp_error *error, enum cohort_amqp_fault fault, int code, const char *format, ...) {
    error->fault = fault;
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return (int)fault;
}

static int failLibrary(cohort_amqp_error *error, int status) {
    return fail(error, COHORT_AMQP_AWAY, status, "%s", f_amqp_error_string2(status));
}

static amqp_bytes_t text_bytes(const char *text) {
    amqp_bytes_t bytes = {strlen(text), (void *)text};
    return bytes;
}

static void copy(char *to, size_t size, amqp_bytes_t from) {
    size_t count = from.len < size - 1 ? from.len : size - 1;
    if (count) memcpy(to, from.bytes, count);
    to[count] = 0;
}

/// What came of the last call that waits for an answer. A closed channel is opened again.
static int outcome(cohort_amqp *connection, int channel, cohort_amqp_error *error) {
    amqp_rpc_reply_t reply = f_amqp_get_rpc_reply(connection->state);
    char text[256];
    switch (reply.reply_type) {
    case AMQP_RESPONSE_NORMAL:
        error->fault = COHORT_AMQP_OK;
        return COHORT_AMQP_OK;
    case AMQP_RESPONSE_LIBRARY_EXCEPTION:
        return failLibrary(error, reply.library_error);
    case AMQP_RESPONSE_SERVER_EXCEPTION:
        if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) {
            amqp_channel_close_t *close = reply.reply.decoded;
            copy(text, sizeof text, close->reply_text);
            int code = close->reply_code;
            amqp_channel_close_ok_t ok = {0};
            f_amqp_send_method(connection->state, (amqp_channel_t)channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
            f_amqp_channel_open(connection->state, (amqp_channel_t)channel);
            if (f_amqp_get_rpc_reply(connection->state).reply_type != AMQP_RESPONSE_NORMAL) {
                return fail(error, COHORT_AMQP_AWAY, 0, "a closed channel could not be opened again");
            }
            return fail(error, COHORT_AMQP_CHANNEL, code, "%s", text);
        }
        if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
            amqp_connection_close_t *close = reply.reply.decoded;
            copy(text, sizeof text, close->reply_text);
            int isRefused = close->reply_code == AMQP_ACCESS_REFUSED || close->reply_code == AMQP_NOT_ALLOWED;
            return fail(error, isRefused ? COHORT_AMQP_REFUSED : COHORT_AMQP_AWAY, close->reply_code, "%s", text);
        }
        return fail(error, COHORT_AMQP_AWAY, 0, "the server answered with method 0x%08X", reply.reply.id);
    default:
        return fail(error, COHORT_AMQP_AWAY, 0, "the server answered nothing");
    }
}

static void addText(amqp_table_entry_t *entry, const char *key, const char *value) {
    entry->key = text_bytes(key);
    entry->value.kind = AMQP_FIELD_KIND_UTF8;
    entry->value.value.bytes = text_bytes(value);
}

// MARK: Connections

static struct timeval interval(double seconds) {
    struct timeval value = {(time_t)seconds, (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    return value;
}

cohort_amqp *cohort_amqp_open(const cohort_amqp_options *options, cohort_amqp_error *error) {
    if (!isLoaded()) {
        fail(error, COHORT_AMQP_MISSING, 0, "%s", missing);
        return NULL;
    }
    cohort_amqp *connection = calloc(1, sizeof *connection);
    amqp_connection_state_t state = connection ? f_amqp_new_connection() : NULL;
    if (!state) {
        free(connection);
        fail(error, COHORT_AMQP_AWAY, 0, "out of memory");
        return NULL;
    }
    connection->state = state;
    struct timeval timeout = interval(options->timeout);
    f_amqp_set_handshake_timeout(state, &timeout);
    f_amqp_set_rpc_timeout(state, &timeout);
    amqp_socket_t *socket = options->tls ? f_amqp_ssl_socket_new(state) : f_amqp_tcp_socket_new(state);
    int status = socket ? AMQP_STATUS_OK : AMQP_STATUS_NO_MEMORY;
    if (status == AMQP_STATUS_OK && options->tls) {
        f_amqp_ssl_socket_set_verify_peer(socket, options->verifies_peer);
        f_amqp_ssl_socket_set_verify_hostname(socket, options->verifies_peer && options->verifies_host);
        if (options->ca_file && f_amqp_ssl_socket_set_cacert(socket, options->ca_file) != AMQP_STATUS_OK) {
            fail(error, COHORT_AMQP_TLS, 0, "the CA file %s cannot be read, or holds no certificate", options->ca_file);
            goto over;
        }
        if (options->certificate_file
            && f_amqp_ssl_socket_set_key(socket, options->certificate_file, options->key_file) != AMQP_STATUS_OK) {
            fail(
                error, COHORT_AMQP_TLS, 0, "the client certificate %s and the key %s cannot be read, or do not belong together",
                options->certificate_file, options->key_file);
            goto over;
        }
    }
    if (status == AMQP_STATUS_OK) status = f_amqp_socket_open_noblock(socket, options->host, options->port, &timeout);
    switch (status) {
    case AMQP_STATUS_OK:
        break;
    case AMQP_STATUS_SSL_PEER_VERIFY_FAILED:
    case AMQP_STATUS_SSL_CONNECTION_FAILED:
        fail(
            error, COHORT_AMQP_TLS, status, "no TLS connection: the server's certificate is not trusted%s%s, or the port does not speak TLS",
            options->ca_file ? " by " : "", options->ca_file ? options->ca_file : "");
        goto over;
    case AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED:
        fail(error, COHORT_AMQP_TLS, status, "the server's certificate is not for the host name %s", options->host);
        goto over;
    default:
        failLibrary(error, status);
        goto over;
    }
    // Without it the server would not say that it takes nothing just now.
    amqp_table_entry_t capability;
    capability.key = text_bytes("connection.blocked");
    capability.value.kind = AMQP_FIELD_KIND_BOOLEAN;
    capability.value.value.boolean = 1;
    amqp_table_entry_t entries[2];
    addText(&entries[0], "connection_name", options->name);
    entries[1].key = text_bytes("capabilities");
    entries[1].value.kind = AMQP_FIELD_KIND_TABLE;
    entries[1].value.value.table = (amqp_table_t){1, &capability};
    amqp_table_t properties = {2, entries};
    amqp_rpc_reply_t reply = f_amqp_login_with_properties(
        state, options->vhost, 0, 131072, options->heartbeat, &properties, AMQP_SASL_METHOD_PLAIN, options->user, options->password);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return connection;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) {
        // A server that knows no better way to refuse hangs up.
        if (reply.library_error == AMQP_STATUS_CONNECTION_CLOSED) {
            fail(error, COHORT_AMQP_AWAY, 0, "the server hung up during the login");
        } else if (reply.library_error == AMQP_STATUS_SSL_ERROR && options->certificate_file) {
            // With TLS 1.3 the server looks at it after the handshake.
            fail(error, COHORT_AMQP_TLS, reply.library_error, "the server does not take the client certificate %s", options->certificate_file);
        } else {
            failLibrary(error, reply.library_error);
        }
    } else if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *close = reply.reply.decoded;
        char text[256];
        copy(text, sizeof text, close->reply_text);
        int isRefused = close->reply_code == AMQP_ACCESS_REFUSED || close->reply_code == AMQP_NOT_ALLOWED;
        fail(error, isRefused ? COHORT_AMQP_REFUSED : COHORT_AMQP_AWAY, close->reply_code, "%s", text);
    } else {
        fail(error, COHORT_AMQP_AWAY, 0, "the server did not take the login");
    }
over:
    f_amqp_destroy_connection(state);
    free(connection);
    return NULL;
}

void cohort_amqp_close(cohort_amqp *connection, int politely) {
    for (int channel = 0; channel < CHANNELS; ++channel) forget_content(&connection->contents[channel]);
    if (politely) f_amqp_connection_close(connection->state, AMQP_REPLY_SUCCESS);
    f_amqp_destroy_connection(connection->state);
    free(connection);
}

int cohort_amqp_descriptor(cohort_amqp *connection) { return f_amqp_get_sockfd(connection->state); }

// MARK: Calls that wait for an answer

int cohort_amqp_channel(cohort_amqp *connection, int channel, int confirms, int prefetch, size_t largest, cohort_amqp_error *error) {
    if (channel < 1 || channel >= CHANNELS) return fail(error, COHORT_AMQP_AWAY, 0, "there is no channel %d", channel);
    connection->largest[channel] = largest;
    forget_content(&connection->contents[channel]);
    f_amqp_channel_open(connection->state, (amqp_channel_t)channel);
    int fault = outcome(connection, channel, error);
    if (fault == COHORT_AMQP_OK && confirms) {
        f_amqp_confirm_select(connection->state, (amqp_channel_t)channel);
        fault = outcome(connection, channel, error);
    }
    if (fault == COHORT_AMQP_OK && prefetch > 0) {
        f_amqp_basic_qos(connection->state, (amqp_channel_t)channel, 0, (uint16_t)prefetch, 0);
        fault = outcome(connection, channel, error);
    }
    return fault;
}

static void addNumber(amqp_table_entry_t *entry, const char *key, int64_t value) {
    entry->key = text_bytes(key);
    entry->value.kind = AMQP_FIELD_KIND_I64;
    entry->value.value.i64 = value;
}

int cohort_amqp_declare(cohort_amqp *connection, int channel, const char *queue, const cohort_amqp_queue *how, cohort_amqp_error *error) {
    amqp_table_entry_t entries[6];
    int count = 0;
    if (how->expires > 0) addNumber(&entries[count++], "x-expires", how->expires);
    if (how->max_length > 0) addNumber(&entries[count++], "x-max-length", how->max_length);
    if (how->quorum) addText(&entries[count++], "x-queue-type", "quorum");
    if (how->dead_letters) {
        addText(&entries[count++], "x-dead-letter-exchange", "");
        addText(&entries[count++], "x-dead-letter-routing-key", how->dead_letters);
    }
    amqp_table_t arguments = {count, entries};
    f_amqp_queue_declare(
        connection->state, (amqp_channel_t)channel, text_bytes(queue), 0, how->durable, how->exclusive, how->exclusive, arguments);
    return outcome(connection, channel, error);
}

static const amqp_table_t none = {0, NULL};

int cohort_amqp_exchange(cohort_amqp *connection, int channel, const char *exchange, const char *type, cohort_amqp_error *error) {
    f_amqp_exchange_declare(
        connection->state, (amqp_channel_t)channel, text_bytes(exchange), text_bytes(type), 0, 1, 0, 0, none);
    return outcome(connection, channel, error);
}

int cohort_amqp_bind(
    cohort_amqp *connection, int channel, const char *queue, const char *exchange, const char *key, cohort_amqp_error *error
) {
    f_amqp_queue_bind(
        connection->state, (amqp_channel_t)channel, text_bytes(queue), text_bytes(exchange), text_bytes(key), none);
    return outcome(connection, channel, error);
}

int cohort_amqp_delete(cohort_amqp *connection, int channel, const char *queue, cohort_amqp_error *error) {
    f_amqp_queue_delete(connection->state, (amqp_channel_t)channel, text_bytes(queue), 0, 0);
    return outcome(connection, channel, error);
}

int cohort_amqp_consume(
    cohort_amqp *connection, int channel, const char *queue, const char *consumer, int32_t priority, int settled,
    cohort_amqp_error *error
) {
    amqp_table_entry_t entries[1];
    entries[0].key = text_bytes("x-priority");
    entries[0].value.kind = AMQP_FIELD_KIND_I32;
    entries[0].value.value.i32 = priority;
    amqp_table_t arguments = {priority ? 1 : 0, entries};
    f_amqp_basic_consume(
        connection->state, (amqp_channel_t)channel, text_bytes(queue), text_bytes(consumer), 0, settled, 0, arguments);
    return outcome(connection, channel, error);
}

int cohort_amqp_cancel(cohort_amqp *connection, int channel, const char *consumer, cohort_amqp_error *error) {
    f_amqp_basic_cancel(connection->state, (amqp_channel_t)channel, text_bytes(consumer));
    return outcome(connection, channel, error);
}

// MARK: Calls that do not

int cohort_amqp_publish(
    cohort_amqp *connection, int channel, const char *exchange, const char *queue, const uint8_t *body, size_t count, int mandatory,
    int persistent, const cohort_amqp_properties *how, cohort_amqp_error *error
) {
    amqp_table_entry_t entries[3];
    int headers = 0;
    if (how->sender) addText(&entries[headers++], "cohort-peer", how->sender);
    if (how->registration) addText(&entries[headers++], "cohort-registration", how->registration);
    if (how->signature) addText(&entries[headers++], "cohort-signature", how->signature);
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)how->number);
    amqp_basic_properties_t properties = {0};
    properties._flags =
        AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_HEADERS_FLAG;
    properties.content_type = text_bytes("application/json");
    properties.delivery_mode = persistent ? 2 : 1;
    properties.message_id = text_bytes(number);
    properties.headers.num_entries = headers;
    properties.headers.entries = entries;
    if (how->user_id) {
        properties._flags |= AMQP_BASIC_USER_ID_FLAG;
        properties.user_id = text_bytes(how->user_id);
    }
    amqp_bytes_t bytes = {count, (void *)body};
    int status = f_amqp_basic_publish(
        connection->state, (amqp_channel_t)channel, text_bytes(exchange), text_bytes(queue), mandatory, 0, &properties, bytes);
    if (status != AMQP_STATUS_OK) return failLibrary(error, status);
    return COHORT_AMQP_OK;
}

int cohort_amqp_ack(cohort_amqp *connection, int channel, uint64_t tag, int multiple, cohort_amqp_error *error) {
    int status = f_amqp_basic_ack(connection->state, (amqp_channel_t)channel, tag, multiple);
    return status == AMQP_STATUS_OK ? COHORT_AMQP_OK : failLibrary(error, status);
}

int cohort_amqp_reject(cohort_amqp *connection, int channel, uint64_t tag, int requeue, cohort_amqp_error *error) {
    int status = f_amqp_basic_reject(connection->state, (amqp_channel_t)channel, tag, requeue);
    return status == AMQP_STATUS_OK ? COHORT_AMQP_OK : failLibrary(error, status);
}

// MARK: What the server says

static void readHeaders(cohort_amqp_event *event, const amqp_basic_properties_t *properties) {
    if (properties->_flags & AMQP_BASIC_USER_ID_FLAG) copy(event->user_id, sizeof event->user_id, properties->user_id);
    if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) {
        char text[32];
        copy(text, sizeof text, properties->message_id);
        event->number = strtoull(text, NULL, 10);
    }
    if (!(properties->_flags & AMQP_BASIC_HEADERS_FLAG)) return;
    for (int index = 0; index < properties->headers.num_entries; ++index) {
        const amqp_table_entry_t *entry = &properties->headers.entries[index];
        if (entry->value.kind != AMQP_FIELD_KIND_UTF8 && entry->value.kind != AMQP_FIELD_KIND_BYTES) continue;
        char key[64];
        copy(key, sizeof key, entry->key);
        amqp_bytes_t value = entry->value.value.bytes;
        if (strcmp(key, "cohort-peer") == 0) copy(event->sender, sizeof event->sender, value);
        if (strcmp(key, "cohort-registration") == 0) copy(event->registration, sizeof event->registration, value);
        if (strcmp(key, "cohort-signature") == 0) copy(event->signature, sizeof event->signature, value);
    }
}

static struct content *content_of(cohort_amqp *connection, amqp_channel_t channel) {
    return channel < CHANNELS ? &connection->contents[channel] : NULL;
}

/// The rest of the message comes in separate frames.
static void begin_content(cohort_amqp *connection, const cohort_amqp_event *event) {
    struct content *content = content_of(connection, (amqp_channel_t)event->channel);
    if (!content) return;
    forget_content(content);
    content->is_open = 1;
    content->has_header = 0;
    content->event = *event;
}

/// A part of a message. Its size is known before there is memory for it: a body that is too large is let go by as it comes.
/// - Returns: 1 when the message is whole and in `event`, 0 when more is to come, -1 when the connection is of no use any more.
static int take_content(cohort_amqp *connection, const amqp_frame_t *frame, cohort_amqp_event *event, cohort_amqp_error *error) {
    struct content *content = content_of(connection, frame->channel);
    if (!content || !content->is_open) return 0;
    if (frame->frame_type == AMQP_FRAME_HEADER) {
        if (content->has_header) goto broken;
        content->has_header = 1;
        if (frame->payload.properties.class_id == AMQP_BASIC_CLASS) readHeaders(&content->event, frame->payload.properties.decoded);
        uint64_t size = frame->payload.properties.body_size;
        content->left = size;
        content->event.count = size > SIZE_MAX ? SIZE_MAX : (size_t)size;
        // What is returned is known by its number.
        if (content->event.kind == COHORT_AMQP_DELIVERED && size > connection->largest[frame->channel]) {
            content->event.is_too_large = 1;
        } else if (content->event.kind == COHORT_AMQP_DELIVERED) {
            content->event.body = malloc(size ? (size_t)size : 1);
            if (!content->event.body) {
                fail(error, COHORT_AMQP_AWAY, 0, "out of memory");
                return -1;
            }
        }
    } else {
        amqp_bytes_t part = frame->payload.body_fragment;
        if (!content->has_header || part.len > content->left) goto broken;
        if (content->event.body) memcpy(content->event.body + (content->event.count - content->left), part.bytes, part.len);
        content->left -= part.len;
    }
    if (content->left > 0) return 0;
    *event = content->event;
    content->event.body = NULL;
    content->is_open = 0;
    return 1;
broken:
    fail(error, COHORT_AMQP_AWAY, 0, "a message came in parts that do not fit together");
    return -1;
}

int cohort_amqp_next(cohort_amqp *connection, cohort_amqp_event *event, cohort_amqp_error *error) {
    while (1) {
        memset(event, 0, sizeof *event);
        amqp_frame_t frame;
        struct timeval none = {0, 0};
        f_amqp_maybe_release_buffers(connection->state);
        int status = f_amqp_simple_wait_frame_noblock(connection->state, &frame, &none);
        if (status == AMQP_STATUS_TIMEOUT) return 0;
        if (status != AMQP_STATUS_OK) {
            failLibrary(error, status);
            return -1;
        }
        if (frame.frame_type == AMQP_FRAME_HEADER || frame.frame_type == AMQP_FRAME_BODY) {
            int taken = take_content(connection, &frame, event, error);
            if (taken != 0) return taken;
            continue;
        }
        if (frame.frame_type != AMQP_FRAME_METHOD) continue;
        event->channel = frame.channel;
        switch (frame.payload.method.id) {
        case AMQP_BASIC_DELIVER_METHOD: {
            amqp_basic_deliver_t *deliver = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_DELIVERED;
            event->tag = deliver->delivery_tag;
            event->redelivered = deliver->redelivered;
            copy(event->consumer, sizeof event->consumer, deliver->consumer_tag);
            begin_content(connection, event);
            continue;
        }
        case AMQP_BASIC_RETURN_METHOD: {
            amqp_basic_return_t *returned = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_RETURNED;
            copy(event->text, sizeof event->text, returned->reply_text);
            begin_content(connection, event);
            continue;
        }
        case AMQP_BASIC_ACK_METHOD: {
            amqp_basic_ack_t *ack = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_CONFIRMED;
            event->tag = ack->delivery_tag;
            event->multiple = ack->multiple;
            return 1;
        }
        case AMQP_BASIC_NACK_METHOD: {
            amqp_basic_nack_t *nack = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_DENIED;
            event->tag = nack->delivery_tag;
            event->multiple = nack->multiple;
            return 1;
        }
        case AMQP_BASIC_CANCEL_METHOD: {
            amqp_basic_cancel_t *cancel = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_CANCELLED;
            copy(event->consumer, sizeof event->consumer, cancel->consumer_tag);
            return 1;
        }
        case AMQP_CHANNEL_CLOSE_METHOD: {
            amqp_channel_close_t *close = frame.payload.method.decoded;
            if (content_of(connection, frame.channel)) forget_content(content_of(connection, frame.channel));
            event->kind = COHORT_AMQP_CLOSED;
            event->tag = close->reply_code;
            copy(event->text, sizeof event->text, close->reply_text);
            return 1;
        }
        case AMQP_CONNECTION_BLOCKED_METHOD: {
            amqp_connection_blocked_t *blocked = frame.payload.method.decoded;
            event->kind = COHORT_AMQP_BLOCKED;
            copy(event->text, sizeof event->text, blocked->reason);
            return 1;
        }
        case AMQP_CONNECTION_UNBLOCKED_METHOD:
            event->kind = COHORT_AMQP_UNBLOCKED;
            return 1;
        case AMQP_CONNECTION_CLOSE_METHOD: {
            amqp_connection_close_t *close = frame.payload.method.decoded;
            char text[256];
            copy(text, sizeof text, close->reply_text);
            fail(error, COHORT_AMQP_AWAY, close->reply_code, "%s", text);
            return -1;
        }
        default:
            continue;
        }
    }
}

void cohort_amqp_event_free(cohort_amqp_event *event) {
    free(event->body);
    event->body = NULL;
}
