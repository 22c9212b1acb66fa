/* metrics_page.c -- GET /metrics: the process's counters and histograms (daemon/metrics.h), then
 * what the parts of the daemon know of themselves, then a row for each model.
 *
 * The page is made on the loop's thread and waits for nobody: counts are atomics, rows of models
 * are copies (learn/figures.h), and of the disk only what a stat() knows. Names of models may hold
 * anything: metrics.c escapes them.
 */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "daemon/clock.h"
#include "daemon/front/device_page.h"
#include "daemon/front/handlers.h"
#include "daemon/metrics.h"
#include "daemon/process.h"

struct value {
    const char *name, *help, *type;
    double value;
};

static void add_text(void *ud, const char *text, uint32_t len)
{
    api_buffer_add(ud, text, len);
}

static void add_values(struct api_buffer *body, const struct value *values, size_t len)
{
    for (size_t i = 0; i < len; i++)
        metrics_value(add_text, body, values[i].name, values[i].help, values[i].type,
                      values[i].value);
}

#define ADD(body, values) add_values(body, values, sizeof(values) / sizeof *(values))

static const char gauge[] = "gauge", counter[] = "counter";

static void write_process(const struct server *s, struct api_buffer *body)
{
    struct process_figures p = process_read();
    struct state_figures d = process_state(s->settings.state);
    const struct value values[] = {
        {"process_cpu_seconds_total", "Time on processors.", counter, p.cpu_s},
        {"process_start_time_seconds", "Unix time.", gauge, p.start_unix_s},
        {"process_resident_memory_bytes", "Resident memory.", gauge, p.resident_bytes},
        {"process_virtual_memory_bytes", "Address space.", gauge, p.virtual_bytes},
        {"process_open_fds", "Open file descriptors.", gauge, p.fds},
        {"process_max_fds", "And how many may be.", gauge, p.fds_max},
        {"process_threads", "Threads.", gauge, p.threads},
        {"learnd_journal_bytes", "The database file.", gauge, d.journal_bytes},
        {"learnd_journal_wal_bytes", "What is not in it yet: its WAL.", gauge, d.wal_bytes},
        {"learnd_state_free_bytes", "Free for learnd where its state is.", gauge, d.free_bytes},
        {"learnd_state_size_bytes", "Size of that file system.", gauge, d.filesystem_bytes},
    };

    metrics_family(add_text, body, "learnd_build_info", "1; the version is a label.", gauge);
    metrics_row(add_text, body, "learnd_build_info", "version", LEARND_VERSION, 1);
    ADD(body, values);
}

static struct lane_counts count_lanes(const struct server *s)
{
    struct lane_counts all = {0};

    for (uint32_t i = 0; i < s->lanes_len; i++) {
        struct lane_counts c = lane_counts(s->lanes[i]);

        all.batches += c.batches;
        all.texts += c.texts;
        all.tokens += c.tokens;
        all.failures += c.failures;
    }
    return all;
}

static void write_serving(const struct server *s, struct api_buffer *body)
{
    struct bus_counts b = bus_counts(s->bus);
    struct lane_counts lanes = count_lanes(s);
    const struct value values[] = {
        {"learnd_queue_texts", "Texts waiting for a lane.", gauge, batcher_waiting(s->batcher)},
        {"learnd_queue_texts_max", "And how many may.", gauge, LIMIT_QUEUE_ITEMS},
        {"learnd_connections", "Open connections.", gauge, loops_connections(s->loops)},
        {"learnd_event_streams", "Open event streams.", gauge, loops_streams(s->loops)},
        {"learnd_events_total", "Events posted.", counter, (double)b.posted},
        {"learnd_events_merged_total", "Events replaced by a newer one.", counter,
         (double)b.merged},
        {"learnd_lanes", "Lanes.", gauge, s->lanes_len},
        {"learnd_lane_batches_total", "Batches encoded.", counter, (double)lanes.batches},
        {"learnd_lane_texts_total", "Texts encoded.", counter, (double)lanes.texts},
        {"learnd_lane_tokens_total", "Tokens encoded.", counter, (double)lanes.tokens},
        {"learnd_lane_failures_total", "Texts that failed.", counter, (double)lanes.failures},
        {"learnd_swaps_total", "Snapshots published.", counter, (double)live_swaps(s->live)},
    };

    ADD(body, values);
}

static void write_learning(const struct server *s, struct api_buffer *body)
{
    struct learner_counts l = learner_counts(s->learner);
    struct keeper_counts k = keeper_counts(s->keeper);
    struct disk_guard_state disk = keeper_disk(s->keeper);
    const struct value values[] = {
        {"learnd_journal_commits_total", "Transactions.", counter, (double)k.commits},
        {"learnd_journal_changes_total", "Changes in them.", counter, (double)k.changes},
        {"learnd_journal_failures_total", "Changes that failed.", counter, (double)k.failures},
        {"learnd_disk_low", "1 while nothing is learned for lack of room.", gauge, disk.low},
        {"learnd_learner_events_total", "Events applied.", counter, (double)l.events},
        {"learnd_learner_failures_total", "Rounds that failed.", counter, (double)l.failures},
        {"learnd_learner_embedded_total", "Texts embedded for learning.", counter,
         (double)l.embedded},
        {"learnd_learner_fits_total", "Fits of a pool.", counter, (double)l.fits},
        {"learnd_learner_audits_total", "Audits of stored labels.", counter, (double)l.audits},
        {"learnd_learner_behind", "1 while events wait.", gauge, (double)l.behind},
        {"learnd_learner_lag_seconds", "Age of the oldest correction on disk that no answer knows.",
         gauge, (double)l.lag_us / 1e6},
        {"learnd_fit_seconds", "The last fit.", gauge, (double)l.fit_us_last / 1e6},
    };

    ADD(body, values);
}

static void write_now(const struct server *s, struct api_buffer *body)
{
    struct trainer_now now = {.run = 0};
    bool running = trainer_now(s->trainer, &now);
    const struct value rows[] = {
        {"learnd_run_number", "The run under way.", NULL, (double)now.run},
        {"learnd_run_step", "Steps it has done in its phase.", NULL, (double)now.step},
        {"learnd_run_steps_planned", "And is to do.", NULL, (double)now.steps},
        {"learnd_run_loss", "Its loss of late.", NULL, now.loss},
        {"learnd_run_learning_rate", "Its present learning rate.", NULL, now.lr},
        {"learnd_run_grad_norm", "Norm of its last gradient, before clipping.", NULL,
         now.grad_norm},
        {"learnd_run_examples_per_second", "Its speed of late.", NULL, now.examples_per_s},
        {"learnd_run_eta_seconds", "To the end of its phase.", NULL, now.eta_s},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        metrics_family(add_text, body, rows[i].name, rows[i].help, gauge);
        if (running)
            metrics_of_model(add_text, body, rows[i].name, now.model, NULL, NULL, rows[i].value);
    }
}

static void write_runs(const struct server *s, struct api_buffer *body)
{
    static const char reasons[] = "learnd_gate_reasons_total";
    struct trainer_counts t = trainer_counts(s->trainer);
    const struct value values[] = {
        {"learnd_run_under_way", "1 while a run is.", gauge, t.running},
        {"learnd_runs_total", "Runs begun or taken up again.", counter, (double)t.runs},
        {"learnd_runs_accepted_total", "Runs whose encoder went live.", counter,
         (double)t.accepted},
        {"learnd_runs_forced_total", "Of them, those against the gate's verdict.", counter,
         (double)t.forced},
        {"learnd_runs_refused_total", "Runs that the gate refused.", counter, (double)t.refused},
        {"learnd_runs_failed_total", "Runs that failed.", counter, (double)t.failed},
        {"learnd_runs_cancelled_total", "Runs that were cancelled.", counter, (double)t.cancelled},
        {"learnd_run_steps_total", "Steps of all runs.", counter, (double)t.steps},
        {"learnd_run_examples_total", "Examples in those steps.", counter, (double)t.examples},
        {"learnd_run_yields_total", "Pauses of runs for the sake of requests.", counter,
         (double)t.yields},
        {"learnd_run_yield_seconds_total", "How long they were.", counter,
         (double)t.yield_us / 1e6},
        {"learnd_rollbacks_total", "Encoders put back by hand.", counter, (double)t.rollbacks},
    };

    ADD(body, values);
    metrics_family(add_text, body, reasons, "What spoke against candidates at the gate.", counter);
    for (int i = 0; i < GATE_REASONS; i++)
        metrics_row(add_text, body, reasons, "reason", gate_reason_name((enum gate_reason)(1 << i)),
                    (double)t.reasons[i]);
    write_now(s, body);
}

/* ---- models ---------------------------------------------------------------------------------- */

#define FIGURE(member) offsetof(struct figures, member)

/* A row a model each; LIMIT_MODELS bounds them. */
static const struct {
    const char *name, *help;
    size_t at;
    bool count; /* a uint64_t, else a double */
    const char *type;
} figure_rows[] = {
    {"learnd_model_examples", "Examples the head holds.", FIGURE(examples), true, "gauge"},
    {"learnd_model_suspects", "Labels the last audit doubts.", FIGURE(suspects), true, "gauge"},
    {"learnd_prequential_corrections_total", "Corrections scored before they were learned.",
     FIGURE(rows), true, "counter"},
    {"learnd_prequential_accuracy_fading", "Of them, newer ones count more; multi: exact match.",
     FIGURE(accuracy_fading), false, "gauge"},
    {"learnd_prequential_accuracy_window", "Of the last 500; multi: exact match.",
     FIGURE(accuracy_window), false, "gauge"},
    {"learnd_prequential_macro_f1", "Mean F1 of labels.", FIGURE(macro_f1), false, "gauge"},
    {"learnd_prequential_micro_f1", "Kind multi.", FIGURE(micro_f1), false, "gauge"},
    {"learnd_prequential_hamming_loss", "Kind multi.", FIGURE(hamming_loss), false, "gauge"},
    {"learnd_prequential_ece", "Expected calibration error.", FIGURE(ece), false, "gauge"},
    {"learnd_prequential_brier", "Brier score, 0 to 2.", FIGURE(brier), false, "gauge"},
    {"learnd_prequential_novel_ratio", "Novel ones of the last 500.", FIGURE(novel), false,
     "gauge"},
    {"learnd_leave_one_out_accuracy", "Of stored examples, each without itself.",
     FIGURE(loo_accuracy), false, "gauge"},
    {"learnd_leave_one_out_macro_f1", "Mean F1 of labels.", FIGURE(loo_macro_f1), false, "gauge"},
    {"learnd_leave_one_out_ece", "Expected calibration error.", FIGURE(loo_ece), false, "gauge"},
    {"learnd_leave_one_out_brier", "Brier score, 0 to 2.", FIGURE(loo_brier), false, "gauge"},
    {"learnd_questions_watched_total", "Questions sampled for drift.", FIGURE(asked), true,
     "counter"},
    {"learnd_questions_novel_ratio", "Novel ones of the last 500 watched.", FIGURE(asked_novel),
     false, "gauge"},
    {"learnd_questions_abstained_ratio", "Unsure ones of the last 500 watched.",
     FIGURE(asked_abstained), false, "gauge"},
};

static double figure_of(const struct figures *f, size_t row)
{
    const char *at = (const char *)f + figure_rows[row].at;

    return figure_rows[row].count ? (double)*(const uint64_t *)at : *(const double *)at;
}

/* What is live now. */
struct live_row {
    double encoder, seq, labels, settled, published_s;
};

#define LIVE(member) offsetof(struct live_row, member)

static const struct {
    const char *name, *help;
    size_t at;
} live_rows[] = {
    {"learnd_model_encoder", "Number of the live encoder: the first part of a version.",
     LIVE(encoder)},
    {"learnd_model_version_seq", "Journal position: the second part of a version.", LIVE(seq)},
    {"learnd_model_labels", "Labels that an answer can have.", LIVE(labels)},
    {"learnd_model_settled", "0 while the pool or the audit is behind the examples.",
     LIVE(settled)},
    {"learnd_model_published_seconds", "Unix time of the last publish.", LIVE(published_s)},
};

static void read_live(const struct server *s, const struct figures *rows, uint32_t len,
                      struct live_row *live)
{
    for (uint32_t i = 0; i < len; i++) {
        struct snapshot *now = live_get_by_id(s->live, rows[i].model);

        live[i] = (struct live_row){NAN, NAN, NAN, NAN, NAN};
        if (now != NULL)
            live[i] = (struct live_row){(double)now->encoder->number, (double)now->seq,
                                        head_view_labels_len(now->view), now->settled,
                                        (double)now->published_us / 1e6};
        live_put(now);
    }
}

static void write_live(const struct figures *rows, const struct live_row *live, uint32_t len,
                       struct api_buffer *body)
{
    for (size_t k = 0; k < sizeof live_rows / sizeof *live_rows; k++) {
        metrics_family(add_text, body, live_rows[k].name, live_rows[k].help, gauge);
        for (uint32_t i = 0; i < len; i++)
            metrics_of_model(add_text, body, live_rows[k].name, rows[i].name, NULL, NULL,
                             *(const double *)((const char *)&live[i] + live_rows[k].at));
    }
}

static void write_figures(const struct figures *rows, uint32_t len, struct api_buffer *body)
{
    static const char alarms[] = "learnd_drift_alarms_total";

    for (size_t k = 0; k < sizeof figure_rows / sizeof *figure_rows; k++) {
        metrics_family(add_text, body, figure_rows[k].name, figure_rows[k].help,
                       figure_rows[k].type);
        for (uint32_t i = 0; i < len; i++)
            metrics_of_model(add_text, body, figure_rows[k].name, rows[i].name, NULL, NULL,
                             figure_of(&rows[i], k));
    }
    metrics_family(add_text, body, alarms, "What a detector has told, news included.", counter);
    for (uint32_t i = 0; i < len; i++)
        for (int k = 0; k < DRIFT_KINDS; k++)
            metrics_of_model(add_text, body, alarms, rows[i].name, "detector",
                             drift_kind_name((enum drift_kind)k), (double)rows[i].alarms[k]);
}

static void write_models(const struct server *s, struct api_buffer *body)
{
    struct figures *rows = malloc(LIMIT_MODELS * sizeof *rows);
    struct live_row *live = malloc(LIMIT_MODELS * sizeof *live);
    uint32_t len;

    if (rows != NULL && live != NULL) {
        len = learner_figures(s->learner, LIMIT_MODELS, rows);
        read_live(s, rows, len, live);
        write_live(rows, live, len, body);
        write_figures(rows, len, body);
    } else {
        body->rc = -ENOMEM;
    }
    free(live);
    free(rows);
}

void handle_metrics(struct exchange *x)
{
    const struct server *s = exchange_server(x);
    struct api_buffer body = API_BUFFER_INIT;
    int64_t started = clock_us();

    metrics_page(add_text, &body);
    write_process(s, &body);
    write_serving(s, &body);
    device_gauges(s, add_text, &body);
    write_learning(s, &body);
    write_runs(s, &body);
    write_models(s, &body);
    metrics_value(add_text, &body, "learnd_metrics_page_seconds", "Making this page, up to here.",
                  gauge, (double)(clock_us() - started) / 1e6);
    exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", &body, NULL);
}
