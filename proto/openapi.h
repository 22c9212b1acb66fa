/* openapi.h -- the contract, as served at /openapi.json: OpenAPI 3.1, built into the program from
 * openapi.json. */
#ifndef LEARND_OPENAPI_H
#define LEARND_OPENAPI_H

#include <stddef.h>

/* Static bytes, any thread; ret_bytes may be NULL. Ends with a NUL that is not counted. */
const char *openapi_json(size_t *ret_bytes);

#endif
