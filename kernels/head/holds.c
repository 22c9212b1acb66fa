/* holds.c -- see head_holds.h. */
#include "kernels/head/head_holds.h"

#include <string.h>

#include "kernels/head/head_internal.h"

static bool has_target(const struct head_change *change, const struct head_target *target)
{
    for (uint32_t i = 0; i < change->targets_len; i++)
        if (change->targets[i].label == target->label && change->targets[i].value == target->value)
            return true;
    return false;
}

bool head_holds(const struct head *h, const struct head_change *change)
{
    uint32_t slot = examples_find(h, change->id);
    const struct head_target *targets;
    const struct example *e;

    if (slot == SLOT_NONE)
        return false;
    e = &h->examples[slot];
    targets = examples_targets(h, slot);
    if (e->targets_len != change->targets_len || e->taught != change->weight ||
        e->confirmed != change->confirmed)
        return false;
    for (uint32_t i = 0; i < e->targets_len; i++) /* no label stands twice in either */
        if (!has_target(change, &targets[i]))
            return false;
    return change->embedding == NULL || memcmp(examples_embedding(h, slot), change->embedding,
                                               h->settings.dim * sizeof *change->embedding) == 0;
}
