/* api_erase.h -- POST /v1/erase: a text, or all of an annotator, gone for good. See api.h. */
#ifndef LEARND_API_ERASE_H
#define LEARND_API_ERASE_H

#include "proto/api.h"

/* Exactly one of text and annotator is set. */
struct api_erase {
    const char *model; /* NULL: every model */
    const char *text;  /* (text_bytes) never empty; may hold NUL */
    size_t text_bytes;
    const char *pair; /* NULL: none; only with text */
    size_t pair_bytes;
    const char *annotator;
};

/* {"text","text_pair"?,"model"?} or {"annotator","model"?}. */
int api_parse_erase(const char *body, size_t body_bytes, struct api_erase **ret_erase,
                    struct api_problem *problem);
void api_erase_free(struct api_erase *erase); /* NULL is fine */

struct api_erased {
    uint64_t examples, votes, requests; /* requests: answers that were remembered */
};
/* {"erased":{"examples","votes","requests"}} */
void api_write_erased(struct api_buffer *buffer, const struct api_erased *erased);

#endif
