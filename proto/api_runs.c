/* api_runs.c -- see api_runs.h.
 *
 * One table of fields for a run's settings, whether they come in a request or from the store. What
 * was not given has the default of its strategy, and is written out, so that a kept text says all
 * that the run did, whatever later defaults are.
 */
#include "proto/api_runs.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "proto/api_read.h"

static const double SEED_MAX =
    9007199254740991.0; /* 2^53 - 1: what every JSON reader keeps exactly */

static const char *const STRATEGIES[] = {"joint", "replay", "head", "naive", "import", NULL};
static const char *const TARGETS[] = {"all", "qv", NULL};

const char *api_strategy_name(enum api_strategy strategy)
{
    return STRATEGIES[strategy];
}

/* ---- settings -------------------------------------------------------------------------------- */

struct reading {
    struct api_run_settings settings;
    struct api_text folder;
};

#define AT(field) offsetof(struct reading, settings.field)

static int read_strategy(struct api_reader *reader, const struct json_value *value,
                         const struct api_field *field, void *target)
{
    static const char *const ASKED[] = {"joint", "replay", "head", "naive", NULL};
    int index = 0, rc;

    /* max says whether an import may call itself one: what the store kept. */
    rc = api_read_word(reader, value, field->max > 0 ? STRATEGIES : ASKED, &index);
    if (rc == 0)
        ((struct reading *)target)->settings.strategy = (enum api_strategy)index;
    return rc;
}

static int read_targets(struct api_reader *reader, const struct json_value *value,
                        const struct api_field *field, void *target)
{
    int index = 0, rc = api_read_word(reader, value, TARGETS, &index);

    (void)field;
    if (rc == 0)
        ((struct reading *)target)->settings.lora_targets = (enum api_lora_targets)index;
    return rc;
}

static int read_lora(struct api_reader *reader, const struct json_value *value,
                     const struct api_field *field, void *target)
{
    static const struct api_field FIELDS[] = {
        {"rank", api_read_uint, AT(lora_rank), 1, 256},
        {"alpha", api_read_number, AT(lora_alpha), 0.1, 1024},
        {"targets", read_targets, 0, 0, 0},
    };
    struct reading *r = target;

    (void)field;
    r->settings.lora = json_kind(value) != JSON_KIND_NULL;
    return r->settings.lora ? api_read_object(reader, value, FIELDS, 3, target, NULL) : 0;
}

/* null: the gate's own. */
static int read_margin(struct api_reader *reader, const struct json_value *value,
                       const struct api_field *field, void *target)
{
    if (json_kind(value) != JSON_KIND_NULL)
        return api_read_number(reader, value, field, target);
    ((struct reading *)target)->settings.margin = -1;
    return 0;
}

enum {
    STRATEGY,
    SEED,
    MARGIN,
    FORCE, /* up to here of every run that is asked for */
    EPOCHS,
    STEPS_MAX,
    MINUTES_MAX,
    BATCH,
    LR,
    HEAD_LR,
    DROPOUT,
    LORA,
    EXAMPLES_MAX, /* up to here of every run that trains */
    ALPHA,
    DISTILL,
    TEMPERATURE,
    FEATURE,
    FOLDER,
    FIELDS_LEN
};

static const struct api_field RUN_FIELDS[FIELDS_LEN] = {
    [STRATEGY] = {"strategy", read_strategy, 0, 0, 0},
    [SEED] = {"seed", api_read_uint64, AT(seed), 0, SEED_MAX},
    [MARGIN] = {"margin", read_margin, AT(margin), 0, 1},
    [FORCE] = {"force", api_read_bool, AT(force), 0, 0},
    [EPOCHS] = {"epochs", api_read_number, AT(epochs), 0.01, 100},
    [STEPS_MAX] = {"steps_max", api_read_uint64, AT(steps_max), 0, 1e7},
    [MINUTES_MAX] = {"minutes_max", api_read_number, AT(minutes_max), 0, 10080},
    [BATCH] = {"batch", api_read_uint, AT(batch), 1, 1024},
    [LR] = {"lr", api_read_number, AT(lr), 1e-7, 0.1},
    [HEAD_LR] = {"head_lr", api_read_number, AT(head_lr), 1e-7, 1},
    [DROPOUT] = {"dropout", api_read_number, AT(dropout), 0, 0.9},
    [LORA] = {"lora", read_lora, 0, 0, 0},
    [EXAMPLES_MAX] = {"examples_max", api_read_uint64, AT(examples_max), 0, 1e9},
    [ALPHA] = {"alpha", api_read_number, AT(alpha), 0, 100},
    [DISTILL] = {"distill", api_read_number, AT(distill), 0, 100},
    [TEMPERATURE] = {"temperature", api_read_number, AT(temperature), 0.1, 100},
    [FEATURE] = {"feature", api_read_number, AT(feature), 0, 100},
    [FOLDER] = {"folder", api_read_text, offsetof(struct reading, folder), 0, 0},
};

/* What was not given, by what was: bit i for row i. */
static void fill_defaults(struct api_run_settings *s, uint32_t given)
{
    const bool replay = s->strategy == API_REPLAY;
    const struct {
        int field;
        double *place, value;
    } numbers[] = {
        {EPOCHS, &s->epochs, 4},           {LR, &s->lr, s->lora ? 5e-4 : replay ? 5e-5 : 1e-4},
        {HEAD_LR, &s->head_lr, 1e-3},      {DROPOUT, &s->dropout, 0.1},
        {ALPHA, &s->alpha, replay},        {DISTILL, &s->distill, replay ? 0.5 : 0},
        {TEMPERATURE, &s->temperature, 2}, {FEATURE, &s->feature, replay ? 0.1 : 0},
        {MARGIN, &s->margin, -1},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(given & UINT32_C(1) << numbers[i].field))
            *numbers[i].place = numbers[i].value;
    if (!(given & 1 << BATCH))
        s->batch = 32;
    if (!(given & 1 << SEED))
        s->seed = 1;
}

/* Fields that the strategy has no use for would be a silence about what was meant. */
static int check_strategy(struct api_reader *reader, const struct api_run_settings *s,
                          uint32_t given)
{
    int first = s->strategy == API_HEAD ? EPOCHS : ALPHA;

    if (s->strategy == API_REPLAY)
        return 0;
    for (int i = first; i <= FEATURE; i++) {
        if (!(given & UINT32_C(1) << i))
            continue;
        return api_refuse_field(reader, RUN_FIELDS[i].name, "conflicting_fields",
                                i < ALPHA ? "strategy %s takes no steps"
                                          : "is of strategy replay, not of %s",
                                STRATEGIES[s->strategy]);
    }
    return 0;
}

static int take_folder(struct api_reader *reader, struct reading *r)
{
    const struct api_text *t = &r->folder;

    if (t->bytes == NULL)
        return api_refuse_field(reader, "folder", "missing_field", "folder is required");
    if (t->len > API_FOLDER_BYTES_MAX || memchr(t->bytes, '\0', t->len) != NULL ||
        t->bytes[0] != '/')
        return api_refuse_field(reader, "folder", "invalid_value",
                                "must be an absolute path of at most %d bytes",
                                API_FOLDER_BYTES_MAX);
    memcpy(r->settings.folder, t->bytes, t->len);
    return 0;
}

/* fields: from the table, or one of another table with the same order. */
static int read_settings(struct api_reader *reader, const char *body, size_t body_bytes,
                         bool import, bool kept)
{
    struct reading *r = reader->request;
    struct api_field fields[FIELDS_LEN];
    const struct json_value *root;
    uint32_t given = 0;
    int rc = api_read_body(reader, body, body_bytes, &root);

    memcpy(fields, RUN_FIELDS, sizeof fields);
    fields[STRATEGY].max = kept;
    r->settings.lora_rank = 8;
    r->settings.lora_alpha = 16;
    if (rc == 0 && import) { /* the table's middle alone */
        rc = api_read_object(reader, root,
                             (struct api_field[]){fields[MARGIN], fields[FORCE], fields[FOLDER]}, 3,
                             r, &given);
        given = (given & 1) << MARGIN | (given >> 1 & 1) << FORCE | (given >> 2 & 1) << FOLDER;
        r->settings.strategy = API_IMPORT;
    } else if (rc == 0) {
        rc = api_read_object(reader, root, fields, kept ? FIELDS_LEN : FOLDER, r, &given);
    }
    if (rc == 0 && !kept && !import)
        rc = check_strategy(reader, &r->settings, given);
    if (rc == 0 && r->settings.strategy == API_IMPORT)
        rc = take_folder(reader, r);
    if (rc == 0)
        fill_defaults(&r->settings, given);
    return rc;
}

static int parse(const char *body, size_t body_bytes, bool import, bool kept,
                 struct api_run_settings *ret_settings, struct api_problem *problem)
{
    struct api_reader reader;
    void *request = NULL;
    int rc = api_reader_open(&reader, problem, sizeof(struct reading), NULL, NULL);

    if (rc < 0)
        return rc;
    rc =
        api_reader_close(&reader, read_settings(&reader, body, body_bytes, import, kept), &request);
    if (rc == 0)
        *ret_settings = ((struct reading *)request)->settings;
    api_request_free(request);
    return rc;
}

int api_parse_run(const char *body, size_t body_bytes, struct api_run_settings *ret_settings,
                  struct api_problem *problem)
{
    return parse(body, body_bytes, false, false, ret_settings, problem);
}

int api_parse_import(const char *body, size_t body_bytes, struct api_run_settings *ret_settings,
                     struct api_problem *problem)
{
    return parse(body, body_bytes, true, false, ret_settings, problem);
}

int api_run_settings_parse(const char *text, size_t text_bytes,
                           struct api_run_settings *ret_settings)
{
    struct api_problem problem;

    return parse(text, text_bytes, false, true, ret_settings, &problem);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void write_pair(struct api_buffer *buffer, const char *key, const char *string)
{
    json_write_key(buffer, key);
    json_write_string(buffer, string);
}

static void write_count(struct api_buffer *buffer, const char *key, int64_t count)
{
    json_write_key(buffer, key);
    json_write_int(buffer, count);
}

/* Below min: null. */
static void write_known(struct api_buffer *buffer, const char *key, int64_t count, int64_t min)
{
    json_write_key(buffer, key);
    if (count >= min)
        json_write_int(buffer, count);
    else
        json_write_null(buffer);
}

static void write_number(struct api_buffer *buffer, const char *key, double number)
{
    json_write_key(buffer, key);
    json_write_number(buffer, number);
}

static void write_truth(struct api_buffer *buffer, const char *key, bool truth)
{
    json_write_key(buffer, key);
    json_write_bool(buffer, truth);
}

static void write_time(struct api_buffer *buffer, const char *key, int64_t unix_us)
{
    char text[API_TIME_CHARS];

    if (unix_us != 0)
        api_time_format(unix_us, text);
    write_pair(buffer, key, unix_us != 0 ? text : NULL);
}

static void write_json(struct api_buffer *buffer, const char *key, const char *json)
{
    json_write_key(buffer, key);
    if (json != NULL && json[0] != '\0')
        json_write_raw(buffer, json, strlen(json));
    else
        json_write_null(buffer);
}

static void write_training(struct api_buffer *buffer, const struct api_run_settings *s)
{
    write_number(buffer, "epochs", s->epochs);
    write_count(buffer, "steps_max", (int64_t)s->steps_max);
    write_number(buffer, "minutes_max", s->minutes_max);
    write_count(buffer, "batch", s->batch);
    write_number(buffer, "lr", s->lr);
    write_number(buffer, "head_lr", s->head_lr);
    write_number(buffer, "dropout", s->dropout);
    json_write_key(buffer, "lora");
    if (s->lora) {
        json_open_object(buffer);
        write_count(buffer, "rank", s->lora_rank);
        write_number(buffer, "alpha", s->lora_alpha);
        write_pair(buffer, "targets", TARGETS[s->lora_targets]);
        json_close_object(buffer);
    } else {
        json_write_null(buffer);
    }
    write_count(buffer, "examples_max", (int64_t)s->examples_max);
}

void api_write_run_settings(struct api_buffer *buffer, const struct api_run_settings *s)
{
    json_open_object(buffer);
    write_pair(buffer, "strategy", STRATEGIES[s->strategy]);
    write_count(buffer, "seed", (int64_t)s->seed);
    if (s->strategy != API_HEAD && s->strategy != API_IMPORT)
        write_training(buffer, s);
    if (s->strategy == API_REPLAY) {
        write_number(buffer, "alpha", s->alpha);
        write_number(buffer, "distill", s->distill);
        write_number(buffer, "temperature", s->temperature);
        write_number(buffer, "feature", s->feature);
    }
    write_number(buffer, "margin", s->margin >= 0 ? s->margin : NAN);
    write_truth(buffer, "force", s->force);
    if (s->strategy == API_IMPORT)
        write_pair(buffer, "folder", s->folder);
    json_close_object(buffer);
}

void api_write_run_progress(struct api_buffer *buffer, const struct api_run_progress *p)
{
    json_open_object(buffer);
    write_number(buffer, "loss", p->loss);
    write_number(buffer, "lr", p->lr);
    write_number(buffer, "grad_norm", p->grad_norm);
    write_number(buffer, "examples_per_s", p->examples_per_s);
    write_number(buffer, "eta_s", p->eta_s);
    write_count(buffer, "examples", (int64_t)p->examples);
    write_count(buffer, "held_out", (int64_t)p->held_out);
    write_count(buffer, "labels", p->labels);
    write_truth(buffer, "resumed", p->resumed);
    write_count(buffer, "yields", (int64_t)p->yields);
    write_number(buffer, "yield_s", p->yield_s);
    write_pair(buffer, "device", p->device);
    json_close_object(buffer);
}

static void write_losses(struct api_buffer *buffer, const struct api_run_verdict *v)
{
    json_write_key(buffer, "losses");
    json_open_array(buffer);
    for (uint32_t i = 0; i < v->losses_len; i++) {
        const struct api_run_loss *l = &v->losses[i];

        json_open_object(buffer);
        write_pair(buffer, "label", l->label);
        write_count(buffer, "items", (int64_t)l->items);
        write_count(buffer, "lost", (int64_t)l->lost);
        write_count(buffer, "won", (int64_t)l->won);
        write_number(buffer, "p", l->p);
        write_number(buffer, "p_adjusted", l->p_adjusted);
        json_close_object(buffer);
    }
    json_close_array(buffer);
}

void api_write_run_verdict(struct api_buffer *buffer, const struct api_run_verdict *v)
{
    json_open_object(buffer);
    write_truth(buffer, "accepted", v->accepted);
    write_truth(buffer, "forced", v->forced);
    json_write_key(buffer, "reasons");
    json_open_array(buffer);
    for (uint32_t i = 0; i < v->reasons_len; i++)
        json_write_string(buffer, v->reasons[i]);
    json_close_array(buffer);
    write_count(buffer, "items", (int64_t)v->items);
    write_count(buffer, "lost", (int64_t)v->lost);
    write_count(buffer, "won", (int64_t)v->won);
    write_number(buffer, "accuracy_old", v->accuracy_old);
    write_number(buffer, "accuracy_new", v->accuracy_new);
    write_number(buffer, "difference", v->difference);
    write_number(buffer, "lower", v->lower);
    write_number(buffer, "margin", v->margin);
    write_number(buffer, "p", v->p);
    write_number(buffer, "visible", v->visible);
    write_number(buffer, "brier_old", v->brier_old);
    write_number(buffer, "brier_new", v->brier_new);
    write_number(buffer, "brier_lower", v->brier_lower);
    write_number(buffer, "ece_old", v->ece_old);
    write_number(buffer, "ece_new", v->ece_new);
    write_number(buffer, "auroc_old", v->auroc_old);
    write_number(buffer, "auroc_new", v->auroc_new);
    write_number(buffer, "latency_ratio", v->latency_ratio);
    write_count(buffer, "labels_tested", v->labels_tested);
    write_losses(buffer, v);
    json_close_object(buffer);
}

/* Evenly, the first and the last kept. */
static void write_metrics(struct api_buffer *buffer, const struct api_run_metric *metrics,
                          uint32_t len)
{
    uint32_t shown = len < API_RUN_METRICS ? len : API_RUN_METRICS;

    json_write_key(buffer, "metrics");
    json_open_array(buffer);
    for (uint32_t i = 0; i < shown; i++) {
        uint64_t at = shown > 1 ? (uint64_t)i * (len - 1) / (shown - 1) : 0;
        const struct api_run_metric *m = &metrics[at];

        json_open_object(buffer);
        write_count(buffer, "step", m->step);
        write_number(buffer, "loss", m->loss);
        write_number(buffer, "grad_norm", m->grad_norm);
        write_number(buffer, "lr", m->lr);
        write_time(buffer, "time", m->time_us);
        json_close_object(buffer);
    }
    json_close_array(buffer);
}

void api_write_run(struct api_buffer *buffer, const struct api_run *r,
                   const struct api_run_metric *metrics, uint32_t metrics_len)
{
    json_open_object(buffer);
    write_count(buffer, "run", r->run);
    write_pair(buffer, "model", r->model);
    write_pair(buffer, "strategy", r->strategy);
    write_pair(buffer, "state", r->state);
    write_pair(buffer, "phase", r->phase);
    write_count(buffer, "step", r->step);
    write_count(buffer, "steps", r->steps);
    write_truth(buffer, "cancel", r->cancel);
    write_count(buffer, "seed", (int64_t)r->seed);
    write_json(buffer, "settings", r->settings);
    write_known(buffer, "from_seq", r->from_seq, 1);
    write_count(buffer, "since_seq", r->since_seq);
    write_count(buffer, "parent", r->parent);
    write_known(buffer, "encoder", r->encoder, 0);
    write_json(buffer, "progress", r->progress);
    write_json(buffer, "verdict", r->verdict);
    write_pair(buffer, "reason", r->reason[0] != '\0' ? r->reason : NULL);
    write_pair(buffer, "who", r->who);
    write_time(buffer, "created", r->created_us);
    write_time(buffer, "started", r->started_us);
    write_time(buffer, "ended", r->ended_us);
    write_time(buffer, "updated", r->updated_us);
    if (metrics != NULL)
        write_metrics(buffer, metrics, metrics_len);
    json_close_object(buffer);
}

/* ---- queries --------------------------------------------------------------------------------- */

int api_run_id_parse(const char *text, size_t text_bytes, int64_t *ret_run)
{
    int64_t run = 0;

    if (text_bytes == 0 || text_bytes > 15 || text[0] == '0')
        return -EINVAL;
    for (size_t i = 0; i < text_bytes; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        run = run * 10 + (text[i] - '0');
    }
    *ret_run = run;
    return 0;
}

int api_run_states_parse(const char *text, size_t text_bytes, char ret_states[96],
                         struct api_problem *problem)
{
    static const char *const STATES[] = {"queued",  "running", "accepted",
                                         "refused", "failed",  "cancelled"};
    size_t from = 0, out = 0;

    ret_states[0] = '\0';
    while (text != NULL && from <= text_bytes) {
        const char *comma = memchr(text + from, ',', text_bytes - from);
        size_t len = (comma != NULL ? (size_t)(comma - text) : text_bytes) - from, i = 0;

        while (i < 6 && (strlen(STATES[i]) != len || memcmp(STATES[i], text + from, len) != 0))
            i++;
        if (i == 6 || out + len + 2 > 96)
            return api_problem_set(problem, 422, "invalid_value", "state",
                                   "must be some of queued, running, accepted, refused, failed, "
                                   "cancelled, with commas between them");
        memcpy(ret_states + out, STATES[i], len);
        ret_states[out + len] = ' ';
        out += len + 1;
        ret_states[out] = '\0';
        from += len + 1;
    }
    return 0;
}

int api_number_parse(const char *name, const char *text, size_t text_bytes, int64_t min,
                     int64_t max, int64_t fallback, int64_t *ret_number,
                     struct api_problem *problem)
{
    int64_t number = 0;

    if (text == NULL) {
        *ret_number = fallback;
        return 0;
    }
    for (size_t i = 0; i < text_bytes && number <= max; i++)
        number =
            text[i] >= '0' && text[i] <= '9' && i < 16 ? number * 10 + (text[i] - '0') : INT64_MAX;
    if (text_bytes == 0 || number < min || number > max)
        return api_problem_set(problem, 422, "out_of_range", name,
                               "must be a whole number between %lld and %lld", (long long)min,
                               (long long)max);
    *ret_number = number;
    return 0;
}

/* Exactly `len` digits; -1: they are not. */
static int64_t digits(const char *text, size_t len)
{
    int64_t number = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        number = number * 10 + (text[i] - '0');
    }
    return number;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar; years begin with March, so that the
 * leap day is the last. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    month = (month + 9) % 12;
    return 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 -
           719468;
}

static int64_t month_days(int64_t year, int64_t month)
{
    static const int64_t DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return DAYS[month - 1] + (month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
}

/* "Z" or "+01:00", to the end. False: neither. */
static bool read_offset(const char *text, size_t len, int64_t *ret_minutes)
{
    int64_t hours, minutes;

    *ret_minutes = 0;
    if (len == 1 && (text[0] == 'Z' || text[0] == 'z'))
        return true;
    if (len != 6 || (text[0] != '+' && text[0] != '-') || text[3] != ':')
        return false;
    hours = digits(text + 1, 2);
    minutes = digits(text + 4, 2);
    *ret_minutes = (text[0] == '-' ? -1 : 1) * (hours * 60 + minutes);
    return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

static bool read_time(const char *text, size_t len, int64_t *ret_unix_us)
{
    int64_t year, month, day, hour, minute, second, us = 0, scale = 100000, offset;
    size_t at = 19;

    if (len < 20 || text[4] != '-' || text[7] != '-' || (text[10] | 32) != 't' || text[13] != ':' ||
        text[16] != ':')
        return false;
    year = digits(text, 4);
    month = digits(text + 5, 2);
    day = digits(text + 8, 2);
    hour = digits(text + 11, 2);
    minute = digits(text + 14, 2);
    second = digits(text + 17, 2);
    if (year < 0 || month < 1 || month > 12 || day < 1 || day > month_days(year, month) ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    if (text[at] == '.') {
        size_t first = ++at;

        for (; at < len && text[at] >= '0' && text[at] <= '9'; at++, scale /= 10)
            us += (text[at] - '0') * scale;
        if (at == first)
            return false;
    }
    if (!read_offset(text + at, len - at, &offset))
        return false;
    *ret_unix_us =
        (((days_of(year, month, day) * 24 + hour) * 60 + minute - offset) * 60 + second) * 1000000 +
        us;
    return true;
}

int api_time_parse(const char *name, const char *text, size_t text_bytes, int64_t *ret_unix_us,
                   struct api_problem *problem)
{
    return read_time(text, text_bytes, ret_unix_us)
               ? 0
               : api_problem_set(problem, 422, "invalid_value", name,
                                 "must be a time of RFC 3339, as 2026-11-24T02:54:35Z");
}
