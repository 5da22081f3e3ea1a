// AMQP 0-9-1 by librabbitmq (rabbitmq-c), which is opened at run time: it is not required without RabbitMQ. Calls block, and those
// of one connection must come from one thread at a time.
#ifndef COHORT_RABBITMQ_H
#define COHORT_RABBITMQ_H

#include <stddef.h>
#include <stdint.h>

typedef struct cohort_amqp cohort_amqp;

enum cohort_amqp_fault {
    COHORT_AMQP_OK = 0,
    /// No server, or the connection broke: try again.
    COHORT_AMQP_AWAY = 1,
    /// The server refuses user, password or virtual host.
    COHORT_AMQP_REFUSED = 2,
    /// Certificate, key, CA file or host name.
    COHORT_AMQP_TLS = 3,
    /// The server closed the channel; `code` says why (404, 403, 405, 406).
    COHORT_AMQP_CHANNEL = 4,
    /// librabbitmq is not on this machine.
    COHORT_AMQP_MISSING = 5,
};

typedef struct {
    enum cohort_amqp_fault fault;
    int code;
    char text[512];
} cohort_amqp_error;

typedef struct {
    const char *host;
    int port;
    const char *vhost;
    const char *user;
    const char *password;
    /// Shown by the server's management pages.
    const char *name;
    int tls;
    /// PEM files; NULL where there is none.
    const char *ca_file;
    const char *certificate_file;
    const char *key_file;
    int verifies_peer;
    int verifies_host;
    /// Seconds.
    int heartbeat;
    double timeout;
} cohort_amqp_options;

typedef struct {
    int durable;
    int exclusive;
    int quorum;
    /// Milliseconds without a consumer after which the server removes the queue; 0: never.
    int64_t expires;
    /// Messages; 0: no limit. Past it the oldest go.
    int64_t max_length;
    /// Queue for what is rejected; NULL: it is dropped.
    const char *dead_letters;
} cohort_amqp_queue;

typedef struct {
    const char *sender;
    const char *registration;
    const char *signature;
    /// Checked by the server against the connection's user; NULL: not said.
    const char *user_id;
    /// Comes back with a message that could not be routed.
    uint64_t number;
} cohort_amqp_properties;

enum cohort_amqp_kind {
    COHORT_AMQP_DELIVERED = 1,
    /// Publisher confirms.
    COHORT_AMQP_CONFIRMED = 2,
    COHORT_AMQP_DENIED = 3,
    /// No queue took it; `number` says which.
    COHORT_AMQP_RETURNED = 4,
    /// The consumer's queue is gone.
    COHORT_AMQP_CANCELLED = 5,
    /// The server closed the channel.
    COHORT_AMQP_CLOSED = 6,
    /// The server is short of memory or disk and takes nothing from this connection; `text` says which.
    COHORT_AMQP_BLOCKED = 7,
    COHORT_AMQP_UNBLOCKED = 8,
};

typedef struct {
    enum cohort_amqp_kind kind;
    int channel;
    uint64_t tag;
    int multiple;
    int redelivered;
    uint64_t number;
    char consumer[160];
    char sender[160];
    char registration[32];
    char signature[160];
    char user_id[160];
    char text[256];
    /// Of DELIVERED; freed with cohort_amqp_event_free. NULL when it is too large for its channel: `count` says how large it was.
    uint8_t *body;
    size_t count;
    int is_too_large;
} cohort_amqp_event;

/// Opens a connection and logs in. NULL: `error` says why.
cohort_amqp *cohort_amqp_open(const cohort_amqp_options *options, cohort_amqp_error *error);
/// Says goodbye where the server still listens, and frees everything.
void cohort_amqp_close(cohort_amqp *connection, int politely);
int cohort_amqp_descriptor(cohort_amqp *connection);

// Each returns COHORT_AMQP_OK, or the fault, which `error` then holds.
/// - channel: 1 to 7.
/// - largest: bytes of a message's body that are taken at most; of a larger one the size alone is.
int cohort_amqp_channel(cohort_amqp *connection, int channel, int confirms, int prefetch, size_t largest, cohort_amqp_error *error);
int cohort_amqp_declare(cohort_amqp *connection, int channel, const char *queue, const cohort_amqp_queue *how, cohort_amqp_error *error);
int cohort_amqp_delete(cohort_amqp *connection, int channel, const char *queue, cohort_amqp_error *error);
/// A durable exchange; what is published to it goes to every queue that is bound to it (`fanout`), or bound by the message's key (`topic`).
int cohort_amqp_exchange(cohort_amqp *connection, int channel, const char *exchange, const char *type, cohort_amqp_error *error);
int cohort_amqp_bind(
    cohort_amqp *connection, int channel, const char *queue, const char *exchange, const char *key, cohort_amqp_error *error);
/// - priority: among the consumers of one queue those of the highest are given messages first.
/// - settled: what is delivered counts as acknowledged.
int cohort_amqp_consume(
    cohort_amqp *connection, int channel, const char *queue, const char *consumer, int32_t priority, int settled,
    cohort_amqp_error *error);
int cohort_amqp_cancel(cohort_amqp *connection, int channel, const char *consumer, cohort_amqp_error *error);
/// - exchange: empty: straight to the queue.
int cohort_amqp_publish(
    cohort_amqp *connection, int channel, const char *exchange, const char *queue, const uint8_t *body, size_t count, int mandatory,
    int persistent, const cohort_amqp_properties *properties, cohort_amqp_error *error);
int cohort_amqp_ack(cohort_amqp *connection, int channel, uint64_t tag, int multiple, cohort_amqp_error *error);
int cohort_amqp_reject(cohort_amqp *connection, int channel, uint64_t tag, int requeue, cohort_amqp_error *error);

/// What the server has said, without waiting.
/// - Returns: 1 when `event` holds something, 0 when there is nothing, -1 when the connection is over.
int cohort_amqp_next(cohort_amqp *connection, cohort_amqp_event *event, cohort_amqp_error *error);
void cohort_amqp_event_free(cohort_amqp_event *event);

#endif
