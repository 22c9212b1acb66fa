/* sim.c -- the learning half of the daemon under a seeded history: corrections in groups, repeats,
 * deletions, rounds, images, restarts without warning, a full disk, no memory. Usage: sim SEED
 * STEPS
 *
 * One thread decides everything (the lanes only embed, and an embedding does not depend on who
 * makes it), so a seed is a history. What the journal was told and acknowledged is also kept here
 * by the plainest means; after each step: 1  nothing acknowledged is missing, nothing refused is
 * there 2  when caught up, the live version is the journal's last event 3  the fp64 state is a
 * batch over the set of examples, to 1e-9 4  every version answered with is an event of the journal
 *     5  a step that failed left the last good snapshot serving
 * The first breach prints the seed and the step, and ends the run.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "daemon/learn/learned.h"
#include "daemon/log.h"
#include "tests/unit/fault_alloc.h"
#include "tests/unit/fault_vfs.h"
#include "tests/unit/learning_fixture.h"

enum { TEXTS = 40, ANNOTATORS = 3, GROUP_MAX = 6, KEYS = 16 };

/* What was said about one text; votes of weight 0 are none. */
struct known {
    bool there;
    double vote[ANNOTATORS][WORLD_LABELS], reject[ANNOTATORS][WORLD_LABELS];
};

/* One correction, before its names become pointers. */
struct said {
    enum store_op op;
    uint32_t text, label, annotator; /* annotator ANNOTATORS: "" */
    double weight;
    char key[32]; /* "" none */
};

static struct {
    uint64_t seed, state;
    int step;
    const char *doing;
    char folder[FOLDER_BYTES];
    struct world world;
    struct learned *learned;
    struct known known[TEXTS];
    int64_t acknowledged;
    struct said keyed[KEYS];
    int64_t keyed_seq[KEYS]; /* 0: none */
    uint64_t put, refused, faults, rounds, restarts, asked;
} sim;

static void must(bool holds, const char *what)
{
    if (holds)
        return;
    printf("seed %llu, step %d, %s: %s\n0 passed, 1 failed\n", (unsigned long long)sim.seed,
           sim.step, sim.doing, what);
    exit(1);
}

static uint32_t dice(uint32_t sides)
{
    sim.state = sim.state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(sim.state >> 33) % sides;
}

/* ---- the journal ----------------------------------------------------------------------------- */

static struct store_feedback feedback(const struct said *s, char text[64])
{
    static const char *const annotators[ANNOTATORS + 1] = {"ann", "bob", "cid", ""};
    struct store_feedback f;

    world_text(s->text % WORLD_LABELS, s->text, text);
    f = feedback_of(sim.world.model, s->op, text, world_label(s->label), annotators[s->annotator]);
    f.weight = s->weight;
    f.idempotency_key = s->key[0] != '\0' ? s->key : NULL;
    store_sha256(s, offsetof(struct said, key), f.body_hash);
    return f;
}

static struct said think_of(void)
{
    static const enum store_op ops[] = {STORE_LABEL,  STORE_LABEL,  STORE_LABEL,    STORE_LABEL,
                                        STORE_REJECT, STORE_DELETE, STORE_WITHDRAW, STORE_LABEL};
    struct said s;

    memset(&s, 0, sizeof s); /* it is hashed as bytes */
    s.op = ops[dice(8)];
    s.text = dice(TEXTS);
    s.label = dice(WORLD_LABELS);
    s.annotator = dice(s.op == STORE_WITHDRAW ? ANNOTATORS + 1 : ANNOTATORS);
    s.weight = (1 + dice(8)) / 4.0;
    if (dice(4) == 0)
        snprintf(s.key, sizeof s.key, "k%u-%d", dice(1000000), sim.step);
    return s;
}

/* Would the store take it? Then it is taken into what is known. */
static bool learn_of(struct known *all, const struct said *s)
{
    struct known *k = &all[s->text];
    bool any = k->there;

    if (s->op == STORE_DELETE) {
        *k = (struct known){.there = false};
        return any;
    }
    if (s->op == STORE_WITHDRAW) {
        any = false;
        for (uint32_t a = 0; a < ANNOTATORS; a++)
            for (uint32_t l = 0;
                 l < WORLD_LABELS && (a == s->annotator || s->annotator == ANNOTATORS); l++) {
                any |= k->vote[a][l] != 0 || k->reject[a][l] != 0;
                k->vote[a][l] = k->reject[a][l] = 0;
            }
        return any;
    }
    k->there = true;
    if (s->op == STORE_LABEL) {
        memset(k->vote[s->annotator], 0, sizeof k->vote[0]);
        k->reject[s->annotator][s->label] = 0;
        k->vote[s->annotator][s->label] = s->weight;
    } else {
        k->vote[s->annotator][s->label] = 0;
        k->reject[s->annotator][s->label] = s->weight;
    }
    return true;
}

static void maybe_fail(void)
{
    uint32_t kind = dice(8);

    if (kind == 0)
        fault_vfs_arm(FAULT_WRITE, 1 + dice(8), dice(2) ? SQLITE_FULL : SQLITE_IOERR_WRITE,
                      dice(2));
    else if (kind == 1)
        fault_alloc_arm(1 + dice(300), dice(2));
}

static bool no_faults(void)
{
    bool disk = fault_vfs_disarm(), memory = fault_alloc_disarm();

    sim.faults += disk + memory;
    return disk || memory;
}

/* A group as the keeper writes it: one transaction, each item between its own marks. */
static int write_group(const struct said *group, uint32_t len, int *rcs, struct store_receipt *out)
{
    struct store *store = sim.world.writer;
    int rc = store_begin(store);

    for (uint32_t i = 0; i < len && rc == 0; i++) {
        struct store_feedback f;
        const char *field;
        char text[64];

        f = feedback(&group[i], text);
        rc = store_mark(store);
        if (rc != 0)
            break;
        rcs[i] = store_feedback_put(store, &f, &out[i], &field);
        rc = store_unmark(store, rcs[i] == 0);
        if (rcs[i] != 0 && rcs[i] != -ENOENT && rcs[i] != -EEXIST)
            rc = rcs[i]; /* the store failed, not the item */
    }
    if (rc == 0)
        rc = store_commit(store);
    if (rc != 0)
        store_rollback(store);
    return rc;
}

static void correct(void)
{
    struct said group[GROUP_MAX];
    struct store_receipt receipts[GROUP_MAX];
    int rcs[GROUP_MAX] = {0};
    uint32_t len = 1 + dice(GROUP_MAX);
    bool failed;
    int rc;

    for (uint32_t i = 0; i < len; i++)
        group[i] = think_of();
    maybe_fail();
    rc = write_group(group, len, rcs, receipts);
    failed = no_faults();
    must(rc == 0 || failed, "a group failed by itself");
    if (rc != 0)
        return; /* nothing of it may be there: check() looks */
    for (uint32_t i = 0; i < len; i++) {
        bool wanted = learn_of(sim.known, &group[i]);

        must((rcs[i] == 0) == wanted, "an item was taken that should be refused, or the reverse");
        sim.put += wanted;
        sim.refused += !wanted;
        if (!wanted)
            continue;
        must(receipts[i].seq > sim.acknowledged && !receipts[i].duplicate, "seq does not grow");
        sim.acknowledged = receipts[i].seq;
        if (group[i].op == STORE_DELETE) /* its keys went with the example */
            for (uint32_t k = 0; k < KEYS; k++)
                if (sim.keyed[k].text == group[i].text)
                    sim.keyed_seq[k] = 0;
        if (group[i].key[0] != '\0') {
            uint32_t place = dice(KEYS);

            sim.keyed[place] = group[i];
            sim.keyed_seq[place] = receipts[i].seq;
        }
    }
}

/* A client sends the same again, or something else under the same key. */
static void repeat(void)
{
    uint32_t place = dice(KEYS);
    struct store_receipt receipt;
    struct said s = sim.keyed[place];
    bool other = dice(3) == 0;
    int rc, one;

    if (sim.keyed_seq[place] == 0)
        return;
    s.weight += other;
    rc = write_group(&s, 1, &one, &receipt);
    must(rc == 0, "a repeat failed");
    must(one == (other ? -EEXIST : 0), "a key was not recognised");
    must(other || (receipt.duplicate && receipt.seq == sim.keyed_seq[place]),
         "a repeat was answered differently");
}

/* ---- the learner ----------------------------------------------------------------------------- */

static int64_t live_seq(void)
{
    struct snapshot *s = live_get(sim.world.live, "m");
    int64_t seq = s != NULL ? s->seq : -1;

    live_put(s);
    return seq;
}

static void catch_up(bool faults)
{
    struct learned_round r = {.more = true};

    while (r.more) {
        int64_t before = live_seq();
        int rc;

        if (faults && dice(2) == 0)
            fault_alloc_arm(1 + dice(dice(2) ? 100 : 1000), dice(4) == 0);
        rc = learned_catch_up(sim.learned, &sim.world.parts, &r);
        must(no_faults() || rc == 0, "a round failed by itself");
        must(rc == 0 || live_seq() == before, "a failed round changed what is live");
        faults &= rc == 0;
        sim.rounds++;
    }
}

static int open_model(void *ud, const struct store_model *row)
{
    (void)ud;
    return learned_open(&sim.world.parts, row, sim.world.base, LEARNED_LIVE, &sim.learned);
}

static void start(void)
{
    struct learned_round r;

    world_open(&sim.world, sim.folder, false);
    sim.world.parts.keeper = NULL; /* its thread would make a second order of things */
    must(store_model_scan(sim.world.reader, open_model, NULL) == 0, "the model does not open");
    catch_up(false);
    must(learned_settle(sim.learned, &sim.world.parts, &r) == 0, "the model does not settle");
}

static void stop(void)
{
    learned_close(sim.learned);
    world_close(&sim.world);
}

static void save(void)
{
    uint8_t hash[STORE_HASH_BYTES];
    size_t bytes = head_image_bytes(sim.learned->head);
    void *image = malloc(bytes);
    char why[256];
    bool failed;
    int rc;

    must(image != NULL, "no memory");
    head_image_write(sim.learned->head, image);
    rc = store_snapshot_write(sim.folder, sim.world.model, 0, sim.learned->applied, image, bytes,
                              why, sizeof why, hash);
    must(rc == 0, why);
    maybe_fail();
    if (dice(4) != 0) /* else the process dies between the file and its row */
        rc = store_snapshot_add(sim.world.writer, sim.world.model, 0, sim.learned->applied, hash);
    failed = no_faults();
    must(rc == 0 || failed, "an image was not named");
    free(image);
}

static void ask(void)
{
    double p[WORLD_LABELS];
    struct store_event event;
    struct head_answer answer;
    char text[64];
    int64_t seq;

    world_text(dice(WORLD_LABELS), dice(2 * TEXTS), text);
    seq = world_ask(&sim.world, text, p, &answer);
    must(store_event_get(sim.world.reader, sim.world.model, seq, &event) == 0,
         "an answer names a version that is no event");
    must(fabs(p[0] + p[1] + p[2] - (answer.label != UINT32_MAX)) < 1e-5, "no probabilities");
    sim.asked++;
}

/* ---- the promises ---------------------------------------------------------------------------- */

static bool active(const struct known *k)
{
    for (uint32_t l = 0; l < WORLD_LABELS; l++) {
        double score = 0;

        for (uint32_t a = 0; a < ANNOTATORS; a++)
            score += k->vote[a][l] - k->reject[a][l];
        if (score > 0)
            return true;
    }
    return false;
}

static void check_text(uint32_t text)
{
    const struct known *k = &sim.known[text];
    struct kept_example e;
    uint8_t id[STORE_ID_BYTES];
    char words[64];

    world_text(text % WORLD_LABELS, text, words);
    store_example_id("m", words, strlen(words), NULL, 0, id);
    e = example_of(sim.world.reader, id, -1);
    must(e.found == k->there, e.found ? "a text is there that was not kept" : "a text is lost");
    must(!e.found || (strcmp(e.status, "active") == 0) == active(k), "a text has another state");
}

static void check(bool whole)
{
    int64_t seq = 0;
    uint32_t examples = 0;
    double distance = 1;

    must(store_seq(sim.world.reader, &seq) == 0, "the journal cannot be read");
    must(seq == sim.acknowledged, "the journal's end is not what was acknowledged last");
    for (uint32_t i = 0; i < TEXTS; i++) {
        examples += active(&sim.known[i]);
        if (whole || dice(8) == 0)
            check_text(i);
    }
    must(live_seq() <= seq, "a version is ahead of the journal");
    if (sim.learned->applied == seq) {
        must(live_seq() == seq, "caught up, but another version is live");
        must(head_examples_len(sim.learned->head) == examples, "the head has another set");
    }
    if (whole && !sim.learned->ahead) {
        must(head_check(sim.learned->head, &distance) == 0, "the head cannot be checked");
        must(distance <= 1e-9, "the head's state has drifted");
    }
}

static void step(void)
{
    struct learned_round r;
    uint32_t what = dice(32);

    if (what < 16) {
        sim.doing = "correcting";
        correct();
    } else if (what < 18) {
        sim.doing = "repeating";
        repeat();
    } else if (what < 25) {
        sim.doing = "learning";
        catch_up(true);
    } else if (what < 28) {
        sim.doing = "asking";
        ask();
    } else if (what < 30) {
        sim.doing = "saving";
        if (!sim.learned->ahead)
            save();
    } else if (what < 31) {
        sim.doing = "settling";
        if (!sim.learned->ahead)
            must(learned_settle(sim.learned, &sim.world.parts, &r) == 0, "it does not settle");
    } else {
        sim.doing = "restarting";
        stop();
        start();
        sim.restarts++;
    }
}

int main(int argc, char **argv)
{
    int steps = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;

    if (steps <= 0) {
        fprintf(stderr, "usage: sim SEED STEPS\n");
        return 2;
    }
    sim.seed = sim.state = strtoull(argv[1], NULL, 10);
    fault_alloc_install();
    fault_vfs_install();
    log_open(LOG_LEVEL_ERROR);
    folder_make(sim.folder);
    sim.doing = "starting";
    start();
    must(store_seq(sim.world.reader, &sim.acknowledged) == 0, "no journal");
    for (sim.step = 1; sim.step <= steps; sim.step++) {
        step();
        check(sim.step % 16 == 0);
    }
    sim.doing = "ending";
    catch_up(false);
    check(true);
    must(store_integrity(sim.world.reader) == 0, "the database is damaged");
    stop();
    folder_remove(sim.folder);
    printf(
        "seed %llu: %llu put, %llu refused, %llu faults, %llu rounds, %llu restarts, %llu asked\n"
        "1 passed, 0 failed\n",
        (unsigned long long)sim.seed, (unsigned long long)sim.put, (unsigned long long)sim.refused,
        (unsigned long long)sim.faults, (unsigned long long)sim.rounds,
        (unsigned long long)sim.restarts, (unsigned long long)sim.asked);
    return 0;
}
