/* contract_fixture.h -- an answer held against openapi.json, as the end-to-end tests hold every
 * one, but for patterns and bounds.
 */
#ifndef LEARND_CONTRACT_FIXTURE_H
#define LEARND_CONTRACT_FIXTURE_H

#include "proto/api_buffer.h"

/* Asserts that what write() writes is JSON of components.schemas.<schema>, with no member more. */
void contract_check(const char *schema, void (*write)(struct api_buffer *buffer));

#endif
