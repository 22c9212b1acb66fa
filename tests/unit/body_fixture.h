/* body_fixture.h -- what holds for every parser of a request's body, put to it through one face:
 * what it refuses and how, that it knows every field the contract names, and that it fails whole
 * where there is no memory.
 */
#ifndef LEARND_BODY_FIXTURE_H
#define LEARND_BODY_FIXTURE_H

#include "proto/api.h"

/* Parses a body and lets go of what came of it: 0 or -errno with the problem. */
typedef int body_fn(const char *body, size_t bytes, struct api_problem *problem);

struct bad_body {
    const char *body;
    int status;
    const char *code, *field;
};

/* The body is refused with -EINVAL in the row's words, and a detail that does not hold SECRET. */
void body_bad(body_fn *try, const struct bad_body *row);
/* Each property of components.schemas.<schema> is read: none is an unknown field. */
void body_known(body_fn *try, const char *schema);
/* A good body, with every allocation failing in turn: -ENOMEM, 503 and nothing kept, each time.
 * After fault_alloc_install(). */
void body_without_memory(body_fn *try, const char *body);

#endif
