/* learning_fixture.c -- see learning_fixture.h. */
#include "tests/unit/learning_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const labels[WORLD_LABELS] = {"card", "password", "greeting"};

const char *world_label(uint32_t i)
{
    return labels[i];
}

void world_text(uint32_t label, uint32_t i, char ret_text[64])
{
    static const char *const topics[WORLD_LABELS][4] = {
        {"lost my card", "find the old card", "new card stolen", "bank card"},
        {"reset the password", "pin code", "my password is old", "help with password"},
        {"hello you", "thanks", "great hello", "good thanks to you"},
    };
    static const char *const tails[] = {"please", "now", "when", "from account",
                                        "for me", "why", "how"};

    snprintf(ret_text, 64, "%s %s %u", topics[label][i % 4], tails[i / 4 % 7], i);
}

static int settings_read(const char *text, struct learner_settings *ret_settings)
{
    (void)text;
    *ret_settings = (struct learner_settings){
        .features = 64, .seed = 7, .lambda = 0.15, .budget = 0.05, .score_min = 0};
    return 0;
}

static int count_models(void *ud, const struct store_model *row)
{
    *(int64_t *)ud = row->id;
    return 0;
}

void world_open(struct world *w, const char *folder, bool learner)
{
    static const struct batcher_limits limits = {.items_max = 1000,
                                                 .batch_tokens_max = 256,
                                                 .batch_items_max = 32,
                                                 .share_tokens_min = 32,
                                                 .learning_tokens = 128};
    const struct encoders_settings encoders = {.base = "tests/golden/tiny-encoder",
                                               .state = folder,
                                               .precision = ENCODER_FP32,
                                               .tokens_limit = 512};
    char why[256] = "";

    memset(w, 0, sizeof *w);
    snprintf(w->folder, sizeof w->folder, "%s", folder);
    if (encoders_open(&encoders, why, sizeof why, &w->encoders) != 0)
        fail_msg("%s", why);
    w->base = encoders_base(w->encoders);
    assert_true(w->base->dim <= WORLD_DIM_MAX && w->base->tokens_max <= 64);
    w->writer = opened(folder, STORE_WRITER);
    assert_int_equal(store_model_scan(w->writer, count_models, &w->model), 0);
    if (w->model == 0) {
        w->model = model_added(w->writer, "m");
        for (uint32_t i = 0; i < WORLD_LABELS; i++)
            label_added(w->writer, w->model, labels[i]);
    }
    w->reader = opened(folder, STORE_READER);
    assert_int_equal(batcher_open(&limits, WORLD_LANES, &w->batcher), 0);
    for (int i = 0; i < WORLD_LANES; i++)
        assert_int_equal(lane_open(w->base, w->batcher, &limits, &w->lanes[i]), 0);
    assert_int_equal(live_open(4, &w->live), 0);
    assert_int_equal(keeper_open(w->writer, 256, &w->keeper), 0);
    w->parts = (struct learner_parts){.folder = w->folder,
                                      .store = w->reader,
                                      .keeper = w->keeper,
                                      .batcher = w->batcher,
                                      .live = w->live,
                                      .encoders = w->encoders,
                                      .settings_read = settings_read};
    if (!learner)
        return;
    if (learner_open(&w->parts, why, sizeof why, &w->learner) != 0)
        fail_msg("%s", why);
    keeper_tell(w->keeper, w->learner);
}

void world_close(struct world *w)
{
    if (w->learner != NULL)
        learner_stop(w->learner);
    keeper_close(w->keeper);
    learner_close(w->learner);
    batcher_shutdown(w->batcher);
    for (int i = 0; i < WORLD_LANES; i++)
        lane_close(w->lanes[i]);
    batcher_close(w->batcher);
    live_close(w->live);
    store_close(w->reader);
    store_close(w->writer);
    encoders_put(w->base);
    encoders_close(w->encoders);
}

struct opening {
    const struct world *world;
    struct learned *learned;
};

static int open_model(void *ud, const struct store_model *row)
{
    struct opening *o = ud;

    return learned_open(&o->world->parts, row, o->world->base, LEARNED_LIVE, &o->learned);
}

int world_learn(struct world *w, struct learned **ret_learned)
{
    struct opening o = {w, NULL};
    int rc = store_model_scan(w->reader, open_model, &o);

    *ret_learned = o.learned;
    return rc;
}

struct learned *world_learned(struct world *w)
{
    struct learned *l;

    assert_int_equal(world_learn(w, &l), 0);
    assert_non_null(l);
    return l;
}

/* ---- teaching -------------------------------------------------------------------------------- */

struct put_change {
    struct change change; /* first */
    const struct store_feedback *feedback;
    struct store_receipt receipt;
    int rc;
    sem_t ready;
};

static int put_write(struct change *change, struct store *store)
{
    struct put_change *p = (struct put_change *)change;
    const char *field;
    int rc = store_feedback_put(store, p->feedback, &p->receipt, &field);

    change->seq = p->receipt.seq;
    change->model = p->feedback->model;
    return rc;
}

static void put_done(struct change *change, int rc)
{
    struct put_change *p = (struct put_change *)change;

    p->rc = rc;
    sem_post(&p->ready);
}

int world_put(struct world *w, const struct store_feedback *feedback, bool applied,
              struct store_receipt *ret_receipt)
{
    struct put_change p = {
        .change = {.write = put_write, .done = put_done, .wait_applied = applied},
        .feedback = feedback};

    sem_init(&p.ready, 0, 0);
    assert_int_equal(keeper_post(w->keeper, &p.change), 0);
    while (sem_wait(&p.ready) != 0)
        continue;
    sem_destroy(&p.ready);
    *ret_receipt = p.receipt;
    return p.rc;
}

struct store_receipt world_teach(struct world *w, uint32_t label, const char *text)
{
    struct store_feedback f = feedback_of(w->model, STORE_LABEL, text, labels[label], "ann");
    struct store_receipt r;

    assert_int_equal(world_put(w, &f, true, &r), 0);
    return r;
}

struct store_receipt world_delete(struct world *w, const char *text)
{
    struct store_feedback f = feedback_of(w->model, STORE_DELETE, text, NULL, "");
    struct store_receipt r;

    assert_int_equal(world_put(w, &f, true, &r), 0);
    return r;
}

/* ---- asking ---------------------------------------------------------------------------------- */

struct ask_work {
    struct work work; /* first */
    sem_t ready;
};

static void ask_done(struct work *work)
{
    sem_post(&((struct ask_work *)work)->ready);
}

int64_t world_ask(struct world *w, const char *text, double ret_probabilities[WORLD_LABELS],
                  struct head_answer *ret_answer)
{
    struct tokenizer_input input = {text, strlen(text), NULL, 0};
    struct snapshot *s = live_get(w->live, "m");
    float embedding[WORLD_DIM_MAX], probabilities[16] = {0};
    int32_t ids[64];
    uint8_t types[64];
    uint32_t len;
    struct work_item item = {
        .ids = ids, .types = types, .embedding = embedding, .probabilities = probabilities};
    struct ask_work ask = {
        .work = {.snapshot = s, .items = &item, .items_len = 1, .done = ask_done}};
    int64_t seq;

    assert_non_null(s);
    assert_true(s->labels->len <= 16);
    ask.work.encoder = s->encoder;
    assert_int_equal(tokenizer_encode(s->encoder->tokenizer, &input, TOKENIZER_TRUNCATE_RIGHT,
                                      s->encoder->tokens_max, ids, types, &len, NULL),
                     0);
    item.len = len;
    sem_init(&ask.ready, 0, 0);
    assert_int_equal(batcher_submit(w->batcher, &ask.work), 0);
    while (sem_wait(&ask.ready) != 0)
        continue;
    sem_destroy(&ask.ready);
    assert_int_equal(atomic_load(&ask.work.error), 0);
    for (uint32_t i = 0; i < WORLD_LABELS; i++) {
        ret_probabilities[i] = 0;
        for (uint32_t c = 0; c < s->labels->len; c++)
            if (strcmp(s->labels->names[c], labels[i]) == 0)
                ret_probabilities[i] = probabilities[c];
    }
    if (ret_answer != NULL)
        *ret_answer = item.answer;
    seq = s->seq;
    live_put(s);
    return seq;
}
