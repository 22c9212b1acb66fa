/* handlers.h -- the handlers of the routes, and what they share. Private to daemon/front. */
#ifndef LEARND_HANDLERS_H
#define LEARND_HANDLERS_H

#include "daemon/front/exchange.h"
#include "daemon/server.h"

/* ask.c */
void handle_classify(struct exchange *x);
void handle_embed(struct exchange *x);
/* teach.c */
void handle_feedback(struct exchange *x);
/* teach_stream.c */
extern const struct route_stream feedback_stream;
/* manage.c: what changes */
void handle_model_create(struct exchange *x);
void handle_model_patch(struct exchange *x);
void handle_model_delete(struct exchange *x);
void handle_label_add(struct exchange *x);
/* erasing.c */
void handle_erase(struct exchange *x);
void handle_example_delete(struct exchange *x);
/* label_change.c: what becomes of a label */
void handle_label_patch(struct exchange *x);
void handle_label_delete(struct exchange *x);
void handle_label_merge(struct exchange *x);
void handle_label_split(struct exchange *x);
/* browse.c: what is read from the store */
void handle_models(struct exchange *x);
void handle_model(struct exchange *x);
void handle_labels(struct exchange *x);
void handle_examples(struct exchange *x);
void handle_example(struct exchange *x);
/* tuning.c: runs */
void handle_run_add(struct exchange *x);
void handle_runs(struct exchange *x);
void handle_run(struct exchange *x);
void handle_run_cancel(struct exchange *x);
void handle_encoder_import(struct exchange *x);
/* lineage.c: what was live, and going back */
void handle_versions(struct exchange *x);
void handle_version(struct exchange *x);
void handle_rollback(struct exchange *x);
/* carry.c: an encoder's files */
void handle_encoder(struct exchange *x);
void handle_encoder_file(struct exchange *x);
/* watch.c */
void handle_events(struct exchange *x);
/* review.c, next.c: what annotators look at */
void handle_review(struct exchange *x);
void handle_next(struct exchange *x);
/* evaluate.c */
void handle_evaluation(struct exchange *x);
/* keyring.c: keys, and who did what with them */
void handle_keys(struct exchange *x);
void handle_key_create(struct exchange *x);
void handle_key_revoke(struct exchange *x);
void handle_me(struct exchange *x);
void handle_audit(struct exchange *x);
/* page.c */
void handle_page(struct exchange *x);
void handle_page_file(struct exchange *x);
/* about.c */
void handle_info(struct exchange *x);
void handle_request(struct exchange *x);
void handle_live(struct exchange *x);
void handle_ready(struct exchange *x);
void handle_openapi(struct exchange *x);
/* metrics_page.c */
void handle_metrics(struct exchange *x);

/* The model of the path or of a request: a reference, or NULL after answering 404 unknown_model. */
struct snapshot *handlers_model(struct exchange *x, const char *name, const char *field);
/* Fills *problem for an -errno of a queue, the store or the kernels. */
void handlers_failure(int rc, struct api_problem *problem);
/* Tells the trainer that there is something to do. Any thread. */
void handlers_hint(const struct server *server);
struct api_version handlers_version(const struct snapshot *snapshot);
/* The number of the encoder that a model answers with now; 0: no such model. */
int64_t handlers_encoder(const struct server *server, int64_t model);
/* A label of the store as an answer or a row of one, also from a scan of labels. 0 or -errno. */
int handlers_write_label(struct api_buffer *body, struct store *store,
                         const struct store_label *label);
/* The head's id of an example, as clients see it. */
void handlers_example(struct head_id id, uint8_t ret_example[API_ID_BYTES]);
/* A settings text of the store; a damaged one has the defaults. */
struct api_settings handlers_settings(const char *text);

#endif
