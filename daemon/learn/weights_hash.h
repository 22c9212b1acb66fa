/* weights_hash.h -- the identity of an encoder: the SHA-256 of its weights file. */
#ifndef LEARND_WEIGHTS_HASH_H
#define LEARND_WEIGHTS_HASH_H

#include <stddef.h>

#include "store/store.h"

/* Of model.safetensors in a folder. 0; -ENOENT, -EIO: `why` names the file. Any thread. */
int weights_hash(const char *folder, char *why, size_t why_bytes,
                 uint8_t ret_sha256[STORE_HASH_BYTES]);

#endif
