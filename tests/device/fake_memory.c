/* fake_memory.c -- see fake_memory.h. */
#include "tests/device/fake_memory.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TAG ((uintptr_t)1 << 62)

struct region {
    struct region *next;
    uintptr_t at;
    size_t bytes;
    enum kroom room;
    bool shared;
};

struct control {
    uint64_t total, runs, refuse, lost, fail, fail_training, skip, dies;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct region *regions;
static struct room {
    uint64_t reserved, used;
} rooms[2][K_ROOMS]; /* of the device's memory, of shared memory */
static uint64_t asked;
static struct control control = {.total = 1 << 30, .runs = UINT64_MAX};
static char seen[512]; /* the file when it was read last */

/* ---- the control file ------------------------------------------------------------------------ */

static void parse(char *text)
{
    struct {
        const char *name;
        uint64_t *value;
    } rows[] = {{"total", &control.total},   {"runs", &control.runs},
                {"refuse", &control.refuse}, {"lost", &control.lost},
                {"fail", &control.fail},     {"fail_training", &control.fail_training},
                {"skip", &control.skip},     {"dies", &control.dies}};
    char *save = NULL;

    control = (struct control){.total = 1 << 30, .runs = UINT64_MAX};
    for (char *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char name[32];
        unsigned long long value;

        if (sscanf(line, "%31s %llu", name, &value) != 2)
            continue;
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
            if (strcmp(rows[i].name, name) == 0)
                *rows[i].value = value;
    }
}

/* Under the lock. */
static void look(void)
{
    const char *path = getenv("LEARND_FAKE_DEVICE");
    FILE *file = path != NULL ? fopen(path, "r") : NULL;
    char text[sizeof seen];
    size_t len;

    if (file == NULL)
        return;
    len = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[len] = '\0';
    if (strcmp(text, seen) == 0)
        return;
    memcpy(seen, text, len + 1);
    parse(text);
}

bool fake_refused(void)
{
    bool refused;

    pthread_mutex_lock(&lock);
    look();
    refused = control.refuse != 0;
    pthread_mutex_unlock(&lock);
    return refused;
}

bool fake_dies(void)
{
    bool dies;

    pthread_mutex_lock(&lock);
    dies = control.dies != 0;
    pthread_mutex_unlock(&lock);
    return dies;
}

int fake_there(void)
{
    bool lost;

    pthread_mutex_lock(&lock);
    look();
    lost = control.lost != 0;
    pthread_mutex_unlock(&lock);
    return lost ? -ENODEV : 0;
}

int fake_sync(enum kpriority priority)
{
    uint64_t *left;
    int rc = 0;

    pthread_mutex_lock(&lock);
    look();
    left = priority == K_TRAINING ? &control.fail_training : &control.fail;
    if (control.lost) {
        rc = -ENODEV;
    } else if (*left > 0 && control.skip > 0) {
        control.skip--;
    } else if (*left > 0) {
        --*left;
        rc = -EIO;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static uint64_t held(const struct room *r)
{
    return r->used > r->reserved ? r->used : r->reserved;
}

/* Of the device; what is shared counts as well. Under the lock. */
static uint64_t held_in_all(void)
{
    uint64_t bytes = 0;

    for (int i = 0; i < K_ROOMS; i++)
        bytes += held(&rooms[false][i]) + held(&rooms[true][i]);
    return bytes;
}

/* A room with more in it, if the device has that much. Under the lock. */
static int change(struct room *r, uint64_t reserved, uint64_t used)
{
    const struct room before = *r;
    const bool runs = r == &rooms[false][K_RUNS] || r == &rooms[true][K_RUNS];

    if (control.lost)
        return -ENODEV;
    *r = (struct room){reserved, used};
    if (held_in_all() > control.total || (runs && held(r) > control.runs)) {
        *r = before;
        return -ENOMEM;
    }
    asked += held(r) > held(&before);
    return 0;
}

static int take(struct room *r, size_t bytes)
{
    int rc;

    pthread_mutex_lock(&lock);
    look();
    rc = change(r, r->reserved, r->used + kroom_bytes(bytes));
    pthread_mutex_unlock(&lock);
    return rc;
}

/* Where nothing is in use any more the process might as well begin. Under the lock. */
static void forget(void)
{
    for (int i = 0; i < K_ROOMS; i++)
        if (rooms[false][i].used > 0 || rooms[true][i].used > 0)
            return;
    memset(rooms, 0, sizeof rooms);
}

static void give(struct room *r, size_t bytes)
{
    pthread_mutex_lock(&lock);
    r->used -= kroom_bytes(bytes);
    forget();
    pthread_mutex_unlock(&lock);
}

int fake_take(enum kroom room, size_t bytes)
{
    return take(&rooms[false][room], bytes);
}

void fake_give(enum kroom room, size_t bytes)
{
    give(&rooms[false][room], bytes);
}

int fake_reserve(enum kroom room, size_t bytes, size_t shared_bytes)
{
    struct room *device = &rooms[false][room], *shared = &rooms[true][room];
    int rc;

    pthread_mutex_lock(&lock);
    look();
    rc = change(device, held(device) + bytes, device->used);
    if (rc == 0)
        rc = change(shared, held(shared) + shared_bytes, shared->used);
    pthread_mutex_unlock(&lock);
    return rc;
}

void fake_memory(struct kmemory *ret_memory)
{
    pthread_mutex_lock(&lock);
    look();
    *ret_memory = (struct kmemory){.total = control.total, .taken = held_in_all(), .asked = asked};
    for (int i = 0; i < K_ROOMS; i++)
        ret_memory->used += rooms[false][i].used + rooms[true][i].used;
    pthread_mutex_unlock(&lock);
}

static int region_open(enum kroom room, size_t bytes, bool shared, void **ret_data)
{
    struct region *r = malloc(sizeof *r);
    void *data = NULL;
    int rc = r != NULL ? take(&rooms[shared][room], bytes) : -ENOMEM;

    if (rc == 0) {
        rc = backend_cpu()->alloc(room, bytes, &data);
        if (rc != 0)
            give(&rooms[shared][room], bytes);
    }
    if (rc != 0) {
        free(r);
        return rc;
    }
    *r = (struct region){.at = (uintptr_t)data, .bytes = bytes, .room = room, .shared = shared};
    pthread_mutex_lock(&lock);
    r->next = regions;
    regions = r;
    pthread_mutex_unlock(&lock);
    *ret_data = shared ? data : (void *)((uintptr_t)data | TAG);
    return 0;
}

int fake_alloc(enum kroom room, size_t bytes, void **ret_data)
{
    return region_open(room, bytes, false, ret_data);
}

int fake_alloc_shared(enum kroom room, size_t bytes, void **ret_data)
{
    return region_open(room, bytes, true, ret_data);
}

static void die(const char *what, const char *why)
{
    fprintf(stderr, "fake device: %s: %s\n", what, why);
    abort();
}

void fake_dealloc(void *data)
{
    uintptr_t at = (uintptr_t)data & ~TAG;
    struct region **r = &regions, *gone;

    if (data == NULL)
        return;
    pthread_mutex_lock(&lock);
    while (*r != NULL && (*r)->at != at)
        r = &(*r)->next;
    gone = *r;
    if (gone == NULL || gone->shared != (((uintptr_t)data & TAG) == 0))
        die("dealloc", "this is not what was allocated");
    *r = gone->next;
    rooms[gone->shared][gone->room].used -= kroom_bytes(gone->bytes);
    forget();
    pthread_mutex_unlock(&lock);
    backend_cpu()->dealloc((void *)gone->at);
    free(gone);
}

/* Is there a region of this kind around all of it? */
static bool known(uintptr_t at, size_t bytes, bool shared)
{
    bool found = false;

    pthread_mutex_lock(&lock);
    for (const struct region *r = regions; r != NULL && !found; r = r->next)
        found = r->shared == shared && at >= r->at && at + bytes <= r->at + r->bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

void *fake_device_room(const char *what, const void *data, size_t bytes)
{
    uintptr_t at = (uintptr_t)data;

    if ((at & TAG) == 0)
        die(what, "this is no address of the device");
    if (!known(at & ~TAG, bytes, false))
        die(what, "outside of the device's memory");
    return (void *)(at & ~TAG);
}

void *fake_device_at(const char *what, const void *data, bool may_be_null)
{
    return data == NULL && may_be_null ? NULL : fake_device_room(what, data, 1);
}

void *fake_shared_at(const char *what, const void *data, bool may_be_null)
{
    if (data == NULL && may_be_null)
        return NULL;
    if (!known((uintptr_t)data, 1, true))
        die(what, "this is not shared memory");
    return (void *)(uintptr_t)data;
}

void fake_host(const char *what, const void *data)
{
    if (((uintptr_t)data & TAG) != 0)
        die(what, "this is the device's memory, where the host's is wanted");
}
