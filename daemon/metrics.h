/* metrics.h -- counters, gauges and histograms, and their page in Prometheus' text format.
 *
 * One list names them all; a counter costs one atomic addition. Any thread. Gauges that others own
 * (queue length, memory) are written by the page's handler (front/metrics_page.c) through
 * metrics_value.
 */
#ifndef LEARND_METRICS_H
#define LEARND_METRICS_H

#include <stdint.h>

/* X(symbol, name, help) */
#define METRICS_COUNTERS(X)                                                                        \
    X(REQUESTS, "learnd_requests_total", "Requests answered.")                                     \
    X(CONNECTIONS, "learnd_connections_total", "Connections accepted.")                            \
    X(CONNECTIONS_REFUSED, "learnd_connections_refused_total", "Connections over the limit.")      \
    X(CLIENTS_GONE, "learnd_clients_gone_total", "Clients that left before their answer.")         \
    X(TIMEOUTS, "learnd_timeouts_total", "Connections closed because a time limit passed.")        \
    X(IDLE_CLOSED, "learnd_idle_closed_total", "Connections closed: nothing came on them.")        \
    X(TEXTS, "learnd_texts_total", "Texts classified or embedded.")                                \
    X(TOKENS, "learnd_tokens_total", "Tokens of those texts.")                                     \
    X(TRUNCATED, "learnd_truncated_total", "Texts that were cut to the token limit.")              \
    X(ABSTAINED, "learnd_abstained_total", "Texts answered with abstain.")                         \
    X(NOVEL, "learnd_novel_total", "Texts over the novelty threshold.")                            \
    X(DRIFT_DROPPED, "learnd_drift_questions_dropped_total", "Questions too many to be watched.")  \
    X(FEEDBACK_ACCEPTED, "learnd_feedback_accepted_total", "Corrections on disk.")                 \
    X(FEEDBACK_REJECTED, "learnd_feedback_rejected_total", "Corrections refused.")                 \
    X(FEEDBACK_DUPLICATE, "learnd_feedback_duplicate_total", "Corrections sent again.")            \
    X(EVENTS_LOST, "learnd_events_lost_total", "Events that could not be made.")                   \
    X(WATCHERS_REFUSED, "learnd_event_streams_refused_total", "Event streams over the limit.")     \
    X(WATCHERS_SLOW, "learnd_event_streams_slow_total", "Dropped: events were faster.")            \
    X(WATCHERS_STALLED, "learnd_event_streams_stalled_total", "Dropped: took nothing any more.")   \
    X(WATCHERS_FAILED, "learnd_event_streams_failed_total", "Dropped: no memory for a piece.")

/* Spans of one request, in the order in which it meets them; then what follows a correction. */
#define METRICS_HISTOGRAMS(X)                                                                      \
    X(SPAN_RECEIVE, "learnd_receive_seconds", "From a request's first byte to its last.")          \
    X(SPAN_PARSE, "learnd_parse_seconds", "Reading the JSON of a question or a correction.")       \
    X(SPAN_TOKENIZE, "learnd_tokenize_seconds", "Tokenizing one request.")                         \
    X(SPAN_QUEUE, "learnd_queue_seconds", "From submission to the last text leaving the queue.")   \
    X(SPAN_ENCODE, "learnd_encode_seconds", "Encoding the batch a request was in.")                \
    X(SPAN_HEAD, "learnd_head_seconds", "Scoring against the head.")                               \
    X(SPAN_WRITE, "learnd_write_seconds", "From an answer to its last byte being taken.")          \
    X(SPAN_COMMIT, "learnd_commit_seconds", "From a correction's arrival to its answer.")          \
    X(SPAN_FSYNC, "learnd_journal_fsync_seconds", "Bringing one transaction to the disk.")         \
    X(SPAN_LEARN, "learnd_learn_seconds", "From a correction on disk to its being published.")     \
    X(SPAN_APPLY, "learnd_apply_seconds", "Applying the events of one round to a head.")           \
    X(SPAN_PUBLISH, "learnd_publish_seconds", "Publishing a head: the swap.")

/* Kinds of requests, by what they do; a label of learnd_request_seconds. */
#define METRICS_CLASSES(X)                                                                         \
    X(ASK, "ask")                                                                                  \
    X(TEACH, "teach")                                                                              \
    X(READ, "read")                                                                                \
    X(MANAGE, "manage")                                                                            \
    X(ABOUT, "about")                                                                              \
    X(NO_ROUTE, "none")

enum metrics_counter {
#define X(symbol, name, help) METRICS_##symbol,
    METRICS_COUNTERS(X)
#undef X
        METRICS_COUNTERS_LEN
};

enum metrics_histogram {
#define X(symbol, name, help) METRICS_##symbol,
    METRICS_HISTOGRAMS(X)
#undef X
        METRICS_HISTOGRAMS_LEN
};

enum metrics_class {
#define X(symbol, name) METRICS_##symbol,
    METRICS_CLASSES(X)
#undef X
        METRICS_CLASSES_LEN
};

void metrics_add(enum metrics_counter counter, uint64_t n);
uint64_t metrics_get(enum metrics_counter counter);
void metrics_observe(enum metrics_histogram histogram, int64_t us);
/* A request of this class was answered with this status; from its last byte it took us. */
void metrics_answer(enum metrics_class class, int status, int64_t us);
/* The same of a connection that was turned away: no request was read. */
void metrics_turned_away(int status);
/* An answer was a problem of this code, which is static. Every answer from 400 on is counted here
 * once. */
void metrics_refusal(const char *code);
/* One item of a feedback was refused with this code, whatever the answer as a whole. */
void metrics_item_refusal(const char *code);

/* The page. write(ud, text, len) takes pieces of it. */
typedef void metrics_write(void *ud, const char *text, uint32_t len);
void metrics_page(metrics_write *write, void *ud);
/* A name with one value. A value that is NaN is left out, name and all. type: "gauge", "counter".
 */
void metrics_value(metrics_write *write, void *ud, const char *name, const char *help,
                   const char *type, double value);
/* A name with a row for each model, or else. */
void metrics_family(metrics_write *write, void *ud, const char *name, const char *help,
                    const char *type);
/* A row of it; none if the value is NaN. label, value_of: a second label; NULL: none. */
void metrics_of_model(metrics_write *write, void *ud, const char *name, const char *model,
                      const char *label, const char *value_of, double value);
/* A row with one label. */
void metrics_row(metrics_write *write, void *ud, const char *name, const char *label,
                 const char *value_of, double value);

#endif
