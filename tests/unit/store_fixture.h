/* store_fixture.h -- a state folder of a test's own, and one-line ways to teach it. Every helper
 * asserts that it succeeds, so a test reads as what it is about.
 */
#ifndef LEARND_STORE_FIXTURE_H
#define LEARND_STORE_FIXTURE_H

#include "store/store.h"

enum { FOLDER_BYTES = 128 };

/* An empty folder under $TMPDIR, and its removal with all that is in it. Without TMPDIR it lies in
 * memory: thousands of fsyncs then wait for no disk. */
void folder_make(char ret_folder[FOLDER_BYTES]);
void folder_remove(const char *folder);
/* A file in a folder, whole: malloc'd, the caller frees. NULL: it is not there. */
char *file_read(const char *folder, const char *name, size_t *ret_len);
void file_write(const char *folder, const char *name, const void *bytes, size_t len);

struct store *opened(const char *folder, enum store_mode mode);
int64_t model_added(struct store *store, const char *name);
int64_t label_added(struct store *store, int64_t model, const char *name);
/* By name or alias. */
int64_t label_of(struct store *store, int64_t model, const char *name);

/* A feedback of weight 1 on a text (NULL: the caller fills in example). */
struct store_feedback feedback_of(int64_t model, enum store_op op, const char *text,
                                  const char *label, const char *annotator);
/* One item in a transaction of its own, rolled back if it fails. */
int teach(struct store *store, const struct store_feedback *feedback,
          struct store_receipt *ret_receipt, const char **ret_field);
/* The same, and it must succeed. */
struct store_receipt taught(struct store *store, const struct store_feedback *feedback);

/* A copy of an example row that outlives its callback. */
struct kept_example {
    bool found;
    uint8_t id[STORE_ID_BYTES];
    char text[256], pair[64], status[16];
    size_t text_bytes;
    struct store_vote target[8];
    uint32_t target_len;
    double weight;
    uint32_t annotators;
    int64_t first_seq, last_seq, created_us;
    size_t embedding_bytes;
    uint16_t embedding[8];
};
/* Keeps a row: a store_example_fn whose ud is a struct kept_example. */
int keep_example(void *ud, const struct store_example *row);
struct kept_example example_of(struct store *store, const uint8_t id[STORE_ID_BYTES],
                               int64_t encoder);

#endif
