/* embed.h -- embeds texts as learning work of the lanes, and waits for them.
 *
 * Threads: any but a loop and a lane.
 */
#ifndef LEARND_EMBED_H
#define LEARND_EMBED_H

#include "daemon/serve/batcher.h"

/* items (len): ids, types, len and where the embedding goes are set. A device that fails is asked
 * again, until it does or the CPU has taken its place. 0, -EDOM, -ENODEV, -ENOMEM, -ESHUTDOWN. */
int embed_texts(struct batcher *batcher, struct held_encoder *encoder, struct work_item *items,
                uint32_t len);

#endif
