/* bus.h -- what happened, for those who watch: a bounded ring of events that any thread fills and
 * every loop reads.
 *
 * bus_post copies under one short lock and waits for nobody: a full ring loses its oldest event. A
 * reader keeps a cursor, the number of the last event it has seen, and asks for the next; one who
 * was overtaken is told so. Events are numbered from 1 in each life of the process, and an id names
 * the life too ("9f86d081884c7d65-42"): an id of before a restart is not taken for one of now.
 *
 * Merging: a post with merge_us that comes sooner than that after the last one of the same {type,
 * model, key} is held, a newer one takes its place, and it enters the ring when its time has come,
 * at the first post or read behind bus_due. So the first of a burst is not late, the last is not
 * lost, and nobody is told more often.
 *
 * Knows no types, no JSON and no clock: a type is the number of a bit, data a text, and `now_us`
 * (monotonic) an argument. Threads: any.
 */
#ifndef LEARND_BUS_H
#define LEARND_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BUS_NAME_BYTES = 129, /* of a model or a key, with NUL */
    BUS_DATA_BYTES = 1024,
    BUS_ID_BYTES = 40, /* 16 hex digits, '-', a number, NUL */
    BUS_WAKERS_MAX = 16,
};

struct bus_event {
    uint64_t n;
    uint32_t type;              /* 0 .. 31 */
    char model[BUS_NAME_BYTES]; /* "": of the whole daemon */
    uint32_t data_bytes;
    char data[BUS_DATA_BYTES];
};

struct bus_post {
    uint32_t type;
    const char *model; /* NULL: of the whole daemon. Cut to fit, as key is */
    const char *key;   /* NULL: none */
    int64_t merge_us;  /* 0: never merged */
    const char *data;
    size_t data_bytes;
};

struct bus;

/* boot: drawn anew for each life of the process. keys_max: {type, model, key} that can be held at
 * once; one more is not merged. 0, -ENOMEM. */
int bus_open(uint64_t boot, uint32_t events_max, uint32_t keys_max, struct bus **ret_bus);
void bus_close(struct bus *bus);

/* wake(ud) runs in the thread of a poster, outside the lock, and may be merged with others: the
 * reader then reads to the end, and again when bus_due has come. There is no unsubscribing: ud
 * lives until nobody posts. 0, -ENOSPC. */
int bus_subscribe(struct bus *bus, void (*wake)(void *ud), void *ud);
/* 0, or -EMSGSIZE: data is longer than an event's, nothing is posted. */
int bus_post(struct bus *bus, const struct bus_post *post, int64_t now_us);
/* What is held of a model will not come: it has been removed. */
void bus_forget(struct bus *bus, const char *model);

/* The next event behind *cursor whose type is a bit of types and that is of the model (NULL: any)
 * or of the whole daemon. 1 with *ret_event; 0: none; both move *cursor on. -ESTALE: events behind
 * *cursor are gone, it has not moved. */
int bus_next(struct bus *bus, uint32_t types, const char *model, int64_t now_us, uint64_t *cursor,
             struct bus_event *ret_event);
/* Would bus_next say -ESTALE? */
bool bus_overtaken(struct bus *bus, uint64_t cursor);
/* When the first of the held events enters the ring (monotonic us); -1: none is held. */
int64_t bus_due(struct bus *bus);
uint64_t bus_newest(struct bus *bus); /* as a cursor: behind it is what comes from now on */
uint64_t bus_oldest(struct bus *bus); /* as a cursor: behind it is all that is held */

void bus_id_format(const struct bus *bus, uint64_t n, char ret_id[BUS_ID_BYTES]);
/* The cursor that an id stands for. -EINVAL: not an id, or of an event to come; -ENOENT: of another
 * life; -ESTALE: events behind it are gone. */
int bus_id_parse(struct bus *bus, const char *id, uint64_t *ret_cursor);

struct bus_counts {
    uint64_t posted, merged, dropped; /* dropped: overwritten; who had read them lost nothing */
};
struct bus_counts bus_counts(struct bus *bus);

#endif
