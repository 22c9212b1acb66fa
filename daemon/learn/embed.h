/* embed.h -- embeds texts as learning work of the lanes, and waits for them.
 *
 * Threads: any but a loop and a lane.
 */
#ifndef LEARND_EMBED_H
#define LEARND_EMBED_H

#include "daemon/serve/batcher.h"

/* items (len): ids, types, len and where the embedding goes are set. 0, -EDOM, -EIO, -ENOMEM,
 * -ESHUTDOWN. */
int embed_texts(struct batcher *batcher, const struct held_encoder *encoder,
                struct work_item *items, uint32_t len);

#endif
