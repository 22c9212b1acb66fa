/* main.c -- the daemon from start to stop, top to bottom.
 *
 * Start: settings -> device -> encoder and tokenizer -> store (locked) -> lanes -> keeper, reader
 * -> learner, which brings every model live -> trainer -> a first text through a lane -> loops,
 * which open the door last. Stop: not ready, but serving for drain-grace, so that a proxy looks
 * elsewhere -> the reverse: loops drain -> trainer keeps a checkpoint -> learner saves -> keeper
 * and reader finish what they have -> lanes -> store. Signals are taken by the main thread alone:
 * SIGHUP reads the settings again. What a service manager is told meanwhile: attend.h.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "daemon/attend.h"
#include "daemon/clock.h"
#include "daemon/descriptors.h"
#include "daemon/events.h"
#include "daemon/front/access.h"
#include "daemon/front/trail.h"
#include "daemon/learn/embed.h"
#include "daemon/learn/weights_hash.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/notify.h"
#include "daemon/preflight.h"
#include "daemon/reload.h"
#include "daemon/server.h"
#include "daemon/training.h"

enum { EXIT_START = 1, EXIT_USAGE = 2, WHY_BYTES = 1024 };

static struct server server;
static char why[WHY_BYTES];
static int inherited; /* sockets that listen already */
static uint8_t base_sha256[STORE_HASH_BYTES];

/* What a run is reckoned to need at most, of a device's memory; and what there is for it. */
enum { RUN_LABELS = 1024, RUN_TEXTS = 128 };
static struct {
    bool none;
    uint32_t tokens_max;
} room_of_runs;

/* Everything that the stop order must know of beside the server. */
static struct {
    struct store *writer, *reader, *learner, *trainer;
} stores;

/* The one line, and the event, of what befalls the device. */
static void tell_of_device(void *ud, const char *code, const char *text)
{
    (void)ud;
    if (strcmp(code, "device_unavailable") == 0 && strcmp(server.settings.device, "auto") == 0)
        log_info("device", "event", code, "text", text, NULL);
    else
        log_warn("device", "event", code, "text", text, NULL);
    events_warning(server.bus, NULL, code, text);
}

static bool on_device(void)
{
    return device_backend(server.device) != backend_cpu();
}

static int open_encoder(void)
{
    const struct settings *s = &server.settings;
    const struct encoders_settings settings = {.device = server.device,
                                               .base = s->encoder,
                                               .state = s->state,
                                               .precision = s->fp32 ? ENCODER_FP32 : ENCODER_BF16,
                                               .tokens_max = s->max_tokens,
                                               .tokens_limit = LIMIT_TOKENS};
    int rc = encoders_open(&settings, why, sizeof why, &server.encoders);

    if (on_device() && (rc == -ENOMEM || rc == -EIO || rc == -ENODEV)) {
        device_lose(server.device, why);
        rc = encoders_open(&settings, why, sizeof why, &server.encoders);
    }
    if (rc == -ENOENT)
        log_error("start", "event", "hint", "text",
                  "no encoder there: deploy/model.sh fetches the default one, --encoder names "
                  "another Hugging Face folder",
                  NULL);
    if (rc == 0)
        server.base = encoders_base(server.encoders);
    return rc;
}

static int open_device(void)
{
    int rc = recent_open(&server.recent);

    if (rc == 0)
        rc = device_open(server.settings.device, tell_of_device, NULL, &server.device);
    if (rc != 0)
        snprintf(why, sizeof why, "out of memory");
    return rc;
}

static int count_models(void *ud, const struct store_model *row)
{
    (void)row;
    ++*(int *)ud;
    return 0;
}

/* A new state folder gets a model named default, so that an empty daemon is usable. */
static int make_default(struct store *store)
{
    struct api_settings settings;
    struct api_buffer text = API_BUFFER_INIT;
    int64_t id;
    int models = 0, rc = store_model_scan(store, count_models, &models);

    if (rc != 0 || models > 0)
        return rc;
    api_settings_default(&settings);
    api_write_settings(&text, &settings);
    api_buffer_add(&text, "", 1);
    rc = text.rc != 0
             ? text.rc
             : store_model_add(store, "default", "single", text.bytes, clock_unix_us(), &id);
    api_buffer_done(&text);
    return rc;
}

static int open_state(void)
{
    const char *folder = server.settings.state;
    const uint8_t *hash = base_sha256;
    int64_t number;
    int rc = weights_hash(server.settings.encoder, why, sizeof why, base_sha256);

    if (rc != 0)
        return rc;
    store_hash_hex(hash, server.encoder_sha256);
    rc = store_open(folder, STORE_WRITER, why, sizeof why, &stores.writer);
    if (rc != 0)
        return rc;
    rc = store_encoder_claim(stores.writer, hash, clock_unix_us(), &number);
    if (rc == 0)
        rc = make_default(stores.writer);
    if (rc != 0) {
        snprintf(why, sizeof why, "%.400s: %s", folder, store_why(stores.writer));
        return rc;
    }
    if (number != 0) {
        snprintf(why, sizeof why, "%.400s: this is encoder %lld of the state folder, not its base",
                 server.settings.encoder, (long long)number);
        return -EINVAL;
    }
    rc = store_open(folder, STORE_READER, why, sizeof why, &stores.reader);
    if (rc == 0)
        rc = access_open(stores.reader, &server.settings.access, server.settings.admin_key_file,
                         why, sizeof why, &server.access);
    if (rc == 0)
        rc = store_open(folder, STORE_READER, why, sizeof why, &stores.learner);
    return rc == 0 ? store_open(folder, STORE_READER, why, sizeof why, &stores.trainer) : rc;
}

static uint32_t cores_len(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return cores < 1 ? 1 : cores > LIMIT_LANES ? LIMIT_LANES : (uint32_t)cores;
}

/* On a device two: while it computes one batch the other lane packs and scores another. */
static uint32_t lanes_wanted(void)
{
    return server.settings.lanes > 0 ? server.settings.lanes : on_device() ? 2 : cores_len();
}

static void close_lanes(void)
{
    batcher_shutdown(server.batcher);
    for (uint32_t i = 0; i < server.lanes_len; i++)
        lane_close(server.lanes[i]);
    server.lanes_len = 0;
}

/* Memory of the device for so many lanes, in one piece. */
static int lanes_room(uint32_t len)
{
    const struct backend *backend = device_backend(server.device);
    uint64_t bytes, shared;

    encoder_ctx_bytes(backend, encoder_info(server.base->encoder), LIMIT_BATCH_TOKENS,
                      LIMIT_BATCH_ITEMS, &bytes, &shared);
    snprintf(why, sizeof why, "no room for %u lanes beside the encoders: they need %.1f MiB", len,
             (double)(len * bytes) / (1 << 20));
    return backend->reserve(K_CONTEXTS, len * bytes, len * shared);
}

static int open_lanes_once(uint32_t len)
{
    const struct batcher_limits limits = {.items_max = LIMIT_QUEUE_ITEMS,
                                          .batch_tokens_max = LIMIT_BATCH_TOKENS,
                                          .batch_items_max = LIMIT_BATCH_ITEMS,
                                          .share_tokens_min = LIMIT_SHARE_TOKENS,
                                          .learning_tokens = LIMIT_LEARNING_TOKENS,
                                          .team_tokens_min = LIMIT_TEAM_TOKENS,
                                          .lost_threads = (cores_len() + len - 1) / len};
    int rc = batcher_open(&limits, len, &server.batcher);

    if (rc == 0)
        rc = lanes_room(len);
    for (uint32_t i = 0; i < len && rc == 0; i++) {
        rc = lane_open(server.base, server.batcher, &limits, &server.lanes[i]);
        if (rc == 0)
            server.lanes_len++;
    }
    return rc;
}

static int open_lanes(void)
{
    int rc = open_lanes_once(lanes_wanted());

    if (on_device() && (rc == -ENOMEM || rc == -EIO || rc == -ENODEV)) {
        device_lose(server.device, why);
        close_lanes();
        batcher_close(server.batcher);
        rc = open_lanes_once(lanes_wanted());
    }
    if (rc != 0)
        snprintf(why, sizeof why, "the lanes cannot be started: %s", strerror(-rc));
    return rc;
}

/* Memory of the device for a run, so that none has to ask for it later: of an encoder like the
 * base, the whole vocabulary in use, in smaller pieces where there is no room for the usual ones.
 * Without it the daemon serves all the same, and runs train on the CPU. */
static void runs_room(void)
{
    const struct backend *backend = device_backend(server.device);
    uint64_t bytes = 0, before, shared = 0;
    struct train_settings settings;
    int rc;

    if (!on_device() || backend->training == NULL)
        return;
    train_settings_default(&settings);
    settings.labels_len = RUN_LABELS;
    settings.steps = 1;
    settings.threads = 1;
    settings.fp32 = server.settings.fp32;
    do { /* until no piece is smaller: a text is never cut */
        before = bytes;
        room_of_runs.tokens_max = settings.tokens_max;
        rc = train_measure(backend, server.settings.encoder, &settings, RUN_TEXTS, why, sizeof why,
                           &bytes, &shared);
        if (rc == 0 && bytes != before)
            rc = backend->reserve(K_RUNS, bytes, shared);
        else if (rc == 0)
            rc = -ENOSPC;
        settings.tokens_max /= 2;
    } while (rc == -ENOMEM && settings.tokens_max > 0);
    room_of_runs.none = rc != 0;
    if (rc != 0) {
        snprintf(why, sizeof why, "%s has no %.1f MiB for a run", backend->name,
                 (double)bytes / (1 << 20));
        device_trains_on_cpu(server.device, why);
    }
}

static int read_settings(const char *text, struct learner_settings *ret_settings)
{
    struct api_settings s;
    int rc = api_settings_parse(text, strlen(text), &s);

    if (rc == 0)
        *ret_settings =
            (struct learner_settings){.features = s.features,
                                      .seed = s.seed,
                                      .lambda = s.ridge_lambda,
                                      .budget = s.rejection_budget,
                                      .score_min = s.score_min,
                                      .annotator_rate_max = s.annotator_rate_max,
                                      .annotator_influence_max = s.annotator_influence_max,
                                      .dim = s.dim};
    return rc;
}

static int open_bus(void)
{
    uint64_t boot;

    if (getrandom(&boot, sizeof boot, 0) != sizeof boot)
        return -EIO;
    return bus_open(boot, LIMIT_EVENTS, LIMIT_EVENT_KEYS, &server.bus);
}

static int open_training(const struct learner_parts *learner)
{
    struct trainer_parts parts = {.learner = *learner,
                                  .to = server.learner,
                                  .device = server.device,
                                  .recent = server.recent,
                                  .base_sha256 = base_sha256};
    int rc = training_parts(&server.settings, &parts);

    parts.on_cpu = room_of_runs.none;
    parts.tokens_max = room_of_runs.tokens_max;

    parts.learner.store = stores.trainer;
    if (rc == 0)
        rc = trainer_open(&parts, &server.trainer);
    if (rc != 0)
        snprintf(why, sizeof why, "the trainer cannot be started: %s", strerror(-rc));
    return rc;
}

static int open_learning(void)
{
    struct learner_parts parts = {.folder = server.settings.state,
                                  .store = stores.learner,
                                  .batcher = server.batcher,
                                  .encoders = server.encoders,
                                  .settings_read = read_settings};
    int rc = live_open(LIMIT_MODELS, &server.live);

    if (rc == 0)
        rc = ring_open(LIMIT_RING_ENTRIES, LIMIT_RING_BYTES, &server.ring);
    if (rc == 0)
        rc = asked_open(LIMIT_ASKED_ROWS, LIMIT_ASKED_NUMBERS, &server.asked);
    if (rc == 0)
        rc = open_bus();
    if (rc == 0)
        rc = rate_open(LIMIT_RATED_NAMES, &server.rate);
    if (rc == 0)
        rc = keeper_open(stores.writer, LIMIT_KEEPER_BOX, &server.keeper);
    if (rc == 0)
        rc = reader_open(stores.reader, LIMIT_READER_BOX, &server.reader);
    if (rc != 0) {
        snprintf(why, sizeof why, "the threads cannot be started: %s", strerror(-rc));
        return rc;
    }
    keeper_warn(server.keeper, server.bus);
    keeper_guard(server.keeper, server.settings.state, server.settings.disk_free_min);
    parts.keeper = server.keeper;
    parts.live = server.live;
    parts.bus = server.bus;
    parts.asked = server.asked;
    rc = learner_open(&parts, why, sizeof why, &server.learner);
    if (rc != 0)
        return rc;
    keeper_tell(server.keeper, server.learner);
    return open_training(&parts);
}

/* As many connections as the settings say, or as the system lets in. */
static void make_room(void)
{
    uint32_t wanted = server.settings.connections, len = descriptors_for(wanted);
    char have[16], asked[16];

    server.settings.connections = len;
    if (len == wanted)
        return;
    snprintf(have, sizeof have, "%u", len);
    snprintf(asked, sizeof asked, "%u", wanted);
    log_warn("start", "event", "few_descriptors", "connections", have, "wanted", asked, "text",
             "the limit of open files (LimitNOFILE, ulimit -Hn) allows no more", NULL);
}

/* Who is let in finds lanes that have worked: a real text goes through one of them. */
static int encode_first(void)
{
    static const char text[] = "ready";
    struct tokenizer_input input = {text, sizeof text - 1, NULL, 0};
    int32_t ids[8];
    uint8_t types[8];
    struct work_item item = {.ids = ids, .types = types};
    int rc = tokenizer_encode(server.base->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT, 8, ids,
                              types, &item.len, NULL);

    item.embedding = calloc(server.base->dim, sizeof(float));
    if (rc == 0)
        rc = item.embedding != NULL ? embed_texts(server.batcher, server.base, &item, 1) : -ENOMEM;
    free(item.embedding);
    if (rc != 0)
        snprintf(why, sizeof why, "encoder %.400s cannot encode a first text: %s",
                 server.settings.encoder, strerror(-rc));
    return rc;
}

static int open_door(void)
{
    make_room();
    server.started_us = clock_unix_us();
    server.loops_len = server.settings.loops > 0 ? server.settings.loops : 1;
    return loops_open(&server.settings, (uint32_t)inherited, server.loops_len, server_routes,
                      server_routes_len, server.bus, server.access, server_round, &server, why,
                      sizeof why, &server.loops);
}

static int check_state(void)
{
    char note[512];
    int rc = preflight_state(&server.settings, why, sizeof why, note, sizeof note);

    if (rc == 0 && note[0] != '\0')
        log_warn("start", "event", "note", "text", note, NULL);
    return rc;
}

static int start(void)
{
    int rc = check_state();

    attend_step("opening the encoder", NULL);
    if (rc == 0)
        rc = open_device();
    if (rc == 0)
        rc = open_encoder();
    attend_step("opening the state folder", NULL);
    if (rc == 0)
        rc = open_state();
    if (rc == 0)
        rc = open_lanes();
    if (rc == 0)
        runs_room();
    attend_step("bringing the models live", &server);
    if (rc == 0)
        rc = open_learning();
    if (rc == 0)
        rc = encode_first();
    device_started(server.device);
    return rc == 0 ? open_door() : rc;
}

/* Not ready, but serving: whoever looks after us sends people elsewhere. Another signal to stop
 * ends the wait. */
static void leave(const sigset_t *signals)
{
    const struct timespec grace = {(time_t)server.settings.drain_grace_s, 0};
    int caught;

    atomic_store(&server.leaving, true);
    attend_leaving(server.settings.drain_grace_s);
    loops_leave(server.loops);
    do
        caught = grace.tv_sec > 0 ? sigtimedwait(signals, NULL, &grace) : -1;
    while (caught == SIGHUP || (caught < 0 && errno == EINTR));
}

static void stop(void)
{
    attend_step("stopping", NULL);
    loops_drain(server.loops);
    trail_use(&server, clock_us(), true);
    trainer_close(server.trainer);
    learner_stop(server.learner);
    keeper_close(server.keeper);
    learner_close(server.learner);
    reader_close(server.reader);
    close_lanes();
    loops_close(server.loops);
    batcher_close(server.batcher);
    live_close(server.live);
    ring_close(server.ring);
    asked_close(server.asked);
    bus_close(server.bus);
    rate_close(server.rate);
    access_close(server.access);
    store_close(stores.trainer);
    store_close(stores.learner);
    store_close(stores.reader);
    store_checkpoint(stores.writer);
    store_close(stores.writer);
    encoders_put(server.base);
    encoders_close(server.encoders);
    device_close(server.device);
    recent_close(server.recent);
}

/* Every thread inherits the mask; the main thread waits for what was blocked. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file over its limit is an error of a write, as a full disk is */
}

/* OpenMP's teams wait for one another by spinning unless told otherwise: a team of the trainer's
 * that has lost a core to a lane then burns the other one (141 examples/s against 16 on a busy
 * machine). It reads the variable when it is loaded, so the program begins once more with it set;
 * an operator's own choice stays. */
static void wait_without_spinning(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") == NULL && setenv("OMP_WAIT_POLICY", "passive", 1) == 0)
        execv("/proc/self/exe", argv); /* where it cannot, it goes on as it is */
}

/* What is large goes back to the system when it is freed. glibc raises the size that counts as
 * large by itself, up to 32 MiB, once such a block was freed; then the weights of encoders come and
 * go inside the threads' arenas, which never shrink from the middle: 330 MB after 20 runs instead
 * of 200. */
static void return_large_blocks(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 512 << 10);
}

static int check_config(void)
{
    char note[512];

    if (preflight_all(&server.settings, why, sizeof why, note, sizeof note) != 0) {
        fprintf(stderr, "learnd: %s\n", why);
        return EXIT_USAGE;
    }
    if (note[0] != '\0')
        printf("learnd: note: %s\n", note);
    printf("learnd: the configuration is good\n");
    return 0;
}

/* What the environment hands over: who wants to be told, and sockets. */
static int meet_manager(void)
{
    int rc = notify_open(why, sizeof why);

    if (rc == 0)
        inherited = notify_sockets(SETTINGS_LISTEN_MAX, why, sizeof why);
    if (rc == 0 && inherited < 0)
        rc = inherited;
    if (rc == 0 && attend_open() != 0) {
        snprintf(why, sizeof why, "the threads cannot be started");
        rc = -EAGAIN;
    }
    return rc;
}

static void serve(int argc, char **argv, const sigset_t *signals)
{
    int caught;

    attend_ready(&server);
    while (sigwait(signals, &caught) == 0 && caught == SIGHUP) {
        (void)notify_reloading();
        reload(&server, argc, argv);
        (void)notify_send("READY=1");
    }
    log_info("main", "event", "stopping", "signal", strsignal(caught), NULL);
    leave(signals);
}

int main(int argc, char **argv)
{
    int64_t started = clock_us();
    char took[32];
    sigset_t signals;

    wait_without_spinning(argv);
    pthread_setname_np(pthread_self(), "learnd"); /* the second beginning made it "exe" */
    return_large_blocks();
    api_alloc_set(malloc, free);
    if (settings_read(argc, argv, why, sizeof why, &server.settings) != 0) {
        fprintf(stderr, "learnd: %s\n", why);
        return EXIT_USAGE;
    }
    if (server.settings.help || server.settings.version) {
        printf("%s", server.settings.help ? settings_help() : "learnd " LEARND_VERSION "\n");
        return 0;
    }
    if (server.settings.check_config)
        return check_config();
    log_open(server.settings.log_level);
    block_signals(&signals);
    if (meet_manager() != 0 || start() != 0) {
        log_error("start", "event", "failed", "why", why, NULL);
        (void)notify_send("STATUS=%.400s", why);
        fprintf(stderr, "learnd: %s\n", why);
        return EXIT_START;
    }
    snprintf(took, sizeof took, "%lld", (long long)(clock_us() - started) / 1000);
    log_info("start", "event", "ready", "version", LEARND_VERSION, "device",
             device_backend(server.device)->name, "encoder", server.settings.encoder, "state",
             server.settings.state, "took_ms", took, NULL);
    serve(argc, argv, &signals);
    stop();
    log_info("main", "event", "stopped", NULL);
    attend_close();
    return 0;
}
