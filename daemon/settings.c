/* settings.c -- see settings.h. One table of settings; file, environment and flags are three ways
 * into it. */
#include "daemon/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/fnv.h"
#include "daemon/limits.h"
#include "daemon/serve/device.h"
#include "daemon/state_folder.h"

typedef int apply_fn(struct settings *s, const char *value, char *why, size_t why_bytes);
typedef void carry_fn(struct settings *s, const struct settings *from);

static int copy(char to[SETTINGS_PATH_BYTES], const char *value, char *why, size_t why_bytes)
{
    if (*value == '\0' || strlen(value) >= SETTINGS_PATH_BYTES) {
        snprintf(why, why_bytes, "must be a path of 1 to %d bytes", SETTINGS_PATH_BYTES - 1);
        return -EINVAL;
    }
    memcpy(to, value, strlen(value) + 1);
    return 0;
}

static int number(const char *value, uint32_t least, uint32_t most, char *why, size_t why_bytes,
                  uint32_t *ret_value)
{
    char *end;
    unsigned long n;

    errno = 0;
    n = strtoul(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || n < least || n > most) {
        snprintf(why, why_bytes, "must be a whole number from %u to %u", least, most);
        return -EINVAL;
    }
    *ret_value = (uint32_t)n;
    return 0;
}

static int set_config(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return copy(s->config, value, why, why_bytes);
}

static int set_state(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return copy(s->state, value, why, why_bytes);
}

static int set_encoder(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return copy(s->encoder, value, why, why_bytes);
}

static int set_listen(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    const char *colon = strrchr(value, ':'); /* port 0 is another one each time */

    if (s->listen_len == SETTINGS_LISTEN_MAX) {
        snprintf(why, why_bytes, "at most %d addresses", SETTINGS_LISTEN_MAX);
        return -EINVAL;
    }
    for (uint32_t i = 0; i < s->listen_len; i++)
        if (strcmp(s->listen[i], value) == 0 && (colon == NULL || strcmp(colon, ":0") != 0)) {
            snprintf(why, why_bytes, "%.80s is given twice", value);
            return -EINVAL;
        }
    return copy(s->listen[s->listen_len++], value, why, why_bytes);
}

static int set_device(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    if (strlen(value) < sizeof s->device && device_choice_check(value) == 0)
        return copy(s->device, value, why, why_bytes);
    snprintf(why, why_bytes, "must be auto, cpu, cuda:N or plugin:PATH, N from 0 to 63");
    return -EINVAL;
}

static int set_precision(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    s->fp32 = strcmp(value, "fp32") == 0;
    if (s->fp32 || strcmp(value, "bf16") == 0)
        return 0;
    snprintf(why, why_bytes, "must be bf16 or fp32");
    return -EINVAL;
}

static int set_lanes(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 1, LIMIT_LANES, why, why_bytes, &s->lanes);
}

static int set_loops(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 1, LIMIT_LOOPS, why, why_bytes, &s->loops);
}

static int set_max_tokens(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 8, LIMIT_TOKENS, why, why_bytes, &s->max_tokens);
}

static int set_train(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    s->train_manual = strcmp(value, "manual") == 0;
    if (s->train_manual || strcmp(value, "auto") == 0)
        return 0;
    snprintf(why, why_bytes, "must be auto or manual");
    return -EINVAL;
}

/* 02:00-05:30, also past midnight. */
static int set_train_window(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    unsigned from_h, from_m, to_h, to_m;
    int len = 0;

    if (sscanf(value, "%2u:%2u-%2u:%2u%n", &from_h, &from_m, &to_h, &to_m, &len) != 4 ||
        value[len] != '\0' || from_h > 23 || from_m > 59 || to_h > 24 || to_m > 59 ||
        to_h * 60 + to_m > 1440) {
        snprintf(why, why_bytes, "must be hours of the day, as in 02:00-05:30");
        return -EINVAL;
    }
    s->train_from = (int)(from_h * 60 + from_m);
    s->train_to = (int)(to_h * 60 + to_m);
    return 0;
}

static int set_train_hours(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 0, 8784, why, why_bytes, &s->train_hours);
}

static int set_train_threads(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 1, LIMIT_LANES, why, why_bytes, &s->train_threads);
}

static int set_train_yield(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 0, 60000, why, why_bytes, &s->train_yield_ms);
}

static int set_retention_days_runs(struct settings *s, const char *value, char *why,
                                   size_t why_bytes)
{
    return number(value, 0, 36500, why, why_bytes, &s->retention_days_runs);
}

static int set_encoders_kept(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 1, 1000, why, why_bytes, &s->encoders_kept);
}

static int set_drain_grace(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 0, 3600, why, why_bytes, &s->drain_grace_s);
}

/* 64M, 1.5G is not: a whole number of bytes, or of KiB, MiB, GiB. */
static int set_disk_free_min(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    static const char units[] = "KMG";
    char *end;
    const char *unit;
    unsigned long long n;
    int shift = 0;

    errno = 0;
    n = strtoull(value, &end, 10);
    if (*end != '\0') {
        unit = strchr(units, *end);
        shift = unit != NULL && end[1] == '\0' ? 10 * (int)(unit - units + 1) : -1;
    }
    if (*value < '0' || *value > '9' || errno != 0 || shift < 0 || n > (1ULL << 50) >> shift) {
        snprintf(why, why_bytes, "must be bytes, as in 64M (K, M or G; 0: not watched)");
        return -EINVAL;
    }
    s->disk_free_min = (uint64_t)n << shift;
    return 0;
}

static int set_log_level(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    if (log_level_parse(value, &s->log_level) == 0)
        return 0;
    snprintf(why, why_bytes, "must be debug, info, warn or error");
    return -EINVAL;
}

static int set_admin_key_file(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return copy(s->admin_key_file, value, why, why_bytes);
}

static int set_cors_origins(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return origins_parse(value, &s->access.origins, why, why_bytes);
}

static int set_trusted_proxies(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return networks_parse(value, &s->access.proxies, why, why_bytes);
}

static int set_metrics_open(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    s->access.metrics_open = strcmp(value, "yes") == 0;
    if (s->access.metrics_open || strcmp(value, "no") == 0)
        return 0;
    snprintf(why, why_bytes, "must be yes or no");
    return -EINVAL;
}

static int set_connections(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return number(value, 4 * LIMIT_EVENT_STREAMS, LIMIT_CONNECTIONS, why, why_bytes,
                  &s->connections);
}

/* What a setting that may change at run time takes over. */
static void carry_log_level(struct settings *s, const struct settings *from)
{
    s->log_level = from->log_level;
}

static void carry_log_requests(struct settings *s, const struct settings *from)
{
    s->log_requests = from->log_requests;
}

static void carry_train(struct settings *s, const struct settings *from)
{
    s->train_manual = from->train_manual;
}

static void carry_train_window(struct settings *s, const struct settings *from)
{
    s->train_from = from->train_from;
    s->train_to = from->train_to;
}

static void carry_train_hours(struct settings *s, const struct settings *from)
{
    s->train_hours = from->train_hours;
}

static void carry_train_yield(struct settings *s, const struct settings *from)
{
    s->train_yield_ms = from->train_yield_ms;
}

static void carry_drain_grace(struct settings *s, const struct settings *from)
{
    s->drain_grace_s = from->drain_grace_s;
}

static int set_log_requests(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    static const char *const names[] = {"sampled", "none", "all"};

    for (int i = 0; i <= LOG_REQUESTS_ALL; i++)
        if (strcmp(value, names[i]) == 0) {
            s->log_requests = (enum log_requests)i;
            return 0;
        }
    snprintf(why, why_bytes, "must be none, sampled or all");
    return -EINVAL;
}

static int set_tensorboard(struct settings *s, const char *value, char *why, size_t why_bytes)
{
    return copy(s->tensorboard, value, why, why_bytes);
}

static const struct setting {
    const char *name;
    apply_fn *apply;
    bool many;       /* a later source replaces the list, one source may repeat it */
    carry_fn *carry; /* NULL: read at the start only */
} table[] = {
    {"config", set_config, false, NULL},
    {"state", set_state, false, NULL},
    {"listen", set_listen, true, NULL},
    {"encoder", set_encoder, false, NULL},
    {"device", set_device, false, NULL},
    {"precision", set_precision, false, NULL},
    {"lanes", set_lanes, false, NULL},
    {"loops", set_loops, false, NULL},
    {"max-tokens", set_max_tokens, false, NULL},
    {"log-level", set_log_level, false, carry_log_level},
    {"log-requests", set_log_requests, false, carry_log_requests},
    {"tensorboard", set_tensorboard, false, NULL},
    {"train", set_train, false, carry_train},
    {"train-window", set_train_window, false, carry_train_window},
    {"train-hours", set_train_hours, false, carry_train_hours},
    {"train-threads", set_train_threads, false, NULL},
    {"train-yield-p99-ms", set_train_yield, false, carry_train_yield},
    {"disk-free-min", set_disk_free_min, false, NULL},
    {"retention-days-runs", set_retention_days_runs, false, NULL},
    {"encoders-kept", set_encoders_kept, false, NULL},
    {"drain-grace", set_drain_grace, false, carry_drain_grace},
    {"admin-key-file", set_admin_key_file, false, NULL},
    {"cors-origins", set_cors_origins, false, NULL},
    {"trusted-proxies", set_trusted_proxies, false, NULL},
    {"metrics-open", set_metrics_open, false, NULL},
    {"connections", set_connections, false, NULL},
};

enum { TABLE_LEN = sizeof table / sizeof *table };

_Static_assert((int)TABLE_LEN <= (int)SETTINGS_MAX, "every setting can be compared");

/* Every source comes through here: the value is checked, and that it was given is remembered. */
static int give(struct settings *s, const struct setting *setting, const char *value, char *why,
                size_t why_bytes)
{
    uint64_t *given = &s->given[setting - table], hash = *given;
    int rc = setting->apply(s, value, why, why_bytes);

    if (rc != 0)
        return rc;
    if (!setting->many || hash == 0)
        hash = FNV_INIT;
    *given = fnv_add(hash, value, strlen(value) + 1); /* those of a list follow one another */
    return 0;
}

/* A later source replaces what an earlier one gave of a list. */
static void begin_list(struct settings *s, const struct setting *setting)
{
    s->listen_len = 0;
    s->given[setting - table] = 0;
}

const char *settings_help(void)
{
    return "usage: learnd [--config FILE] [--state DIR] [--listen ADDR:PORT|unix:PATH]...\n"
           "              [--encoder DIR] [--device auto|cpu|cuda:N] [--precision bf16|fp32]\n"
           "              [--lanes N] [--loops N] [--max-tokens N]\n"
           "              [--train auto|manual] [--train-window HH:MM-HH:MM]\n"
           "              [--train-hours N] [--train-threads N] [--train-yield-p99-ms N]\n"
           "              [--disk-free-min BYTES] [--drain-grace S]\n"
           "              [--retention-days-runs N] [--encoders-kept N]\n"
           "              [--admin-key-file FILE] [--cors-origins ORIGIN,...]\n"
           "              [--trusted-proxies ADDR[/BITS]|unix,...] [--metrics-open yes|no]\n"
           "              [--connections N]\n"
           "              [--log-level debug|info|warn|error]\n"
           "              [--log-requests none|sampled|all] [--tensorboard DIR]\n"
           "              [--check-config] [--help] [--version]\n"
           "\n"
           "Every setting can also stand in the config file (state = /var/lib/learnd) or in the\n"
           "environment (LEARND_STATE). A flag beats the environment, which beats the file.\n";
}

static const struct setting *find(const char *name, size_t len)
{
    for (int i = 0; i < TABLE_LEN; i++)
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    return NULL;
}

/* Letters to add, drop or change to make one name of the other. */
static uint32_t distance(const char *a, const char *b)
{
    enum { NAME_MAX_LEN = 32 };
    uint32_t row[NAME_MAX_LEN + 1], len = (uint32_t)strlen(b);

    for (uint32_t i = 0; i <= len; i++)
        row[i] = i;
    for (uint32_t i = 0; a[i] != '\0'; i++) {
        uint32_t corner = row[0];

        row[0] = i + 1;
        for (uint32_t k = 0; k < len; k++) {
            uint32_t least = corner + (a[i] != b[k]);

            corner = row[k + 1];
            least = least < corner + 1 ? least : corner + 1;
            row[k + 1] = least < row[k] + 1 ? least : row[k] + 1;
        }
    }
    return row[len];
}

/* " (did you mean max-tokens?)", or "" if no setting is near. */
static const char *suggest(const char *name, char text[64])
{
    const char *nearest = NULL;
    uint32_t least = 4; /* further off is another word */

    for (int i = 0; i < TABLE_LEN; i++) {
        uint32_t d = distance(name, table[i].name);

        if (d < least && d < strlen(table[i].name)) {
            least = d;
            nearest = table[i].name;
        }
    }
    text[0] = '\0';
    if (nearest != NULL)
        snprintf(text, 64, " (did you mean %s?)", nearest);
    return text;
}

/* LEARND_MAX_TOKENS of max-tokens. */
static const char *environment(const struct setting *setting, char name[64])
{
    size_t at = 7;

    memcpy(name, "LEARND_", at);
    for (const char *p = setting->name; *p != '\0'; p++)
        name[at++] = *p == '-' ? '_' : (char)(*p - 32);
    name[at] = '\0';
    return getenv(name);
}

/* ---- the file -------------------------------------------------------------------------------- */

static char *trim(char *text)
{
    char *end = text + strlen(text);

    while (*text == ' ' || *text == '\t')
        text++;
    while (end > text && strchr(" \t\r\n", end[-1]) != NULL)
        *--end = '\0';
    return text;
}

/* lines: where each setting stands already; 0: nowhere. */
static int read_line(struct settings *s, char *line, int number_of_line, int lines[TABLE_LEN],
                     char *why, size_t why_bytes)
{
    char *key = trim(line), *equals = strchr(key, '='), reason[128], near[64];
    const struct setting *setting;

    if (*key == '\0' || *key == '#')
        return 0;
    if (equals == NULL) {
        snprintf(why, why_bytes, "expected name = value");
        return -EINVAL;
    }
    *equals = '\0';
    key = trim(key);
    setting = find(key, strlen(key));
    if (setting == NULL || setting->apply == set_config) {
        snprintf(why, why_bytes, "unknown setting %.64s%s", key,
                 setting == NULL ? suggest(key, near) : " (it names this file)");
        return -EINVAL;
    }
    if (!setting->many && lines[setting - table] > 0) {
        snprintf(why, why_bytes, "%s stands in line %d already", setting->name,
                 lines[setting - table]);
        return -EINVAL;
    }
    lines[setting - table] = number_of_line;
    if (give(s, setting, trim(equals + 1), reason, sizeof reason) != 0) {
        snprintf(why, why_bytes, "%s %s", setting->name, reason);
        return -EINVAL;
    }
    return 0;
}

static int read_file(struct settings *s, char *why, size_t why_bytes)
{
    char line[SETTINGS_PATH_BYTES + 64], reason[256];
    FILE *file = fopen(s->config, "r");
    int lines[TABLE_LEN] = {0}, number_of_line = 0, rc = 0;

    if (file == NULL) {
        snprintf(why, why_bytes, "config file %.200s: %s", s->config, strerror(errno));
        return -EINVAL;
    }
    while (rc == 0 && fgets(line, sizeof line, file) != NULL) {
        number_of_line++;
        if (strchr(line, '\n') == NULL && !feof(file)) {
            snprintf(reason, sizeof reason, "the line is too long");
            rc = -EINVAL;
        } else {
            rc = read_line(s, line, number_of_line, lines, reason, sizeof reason);
        }
    }
    if (rc != 0) {
        snprintf(why, why_bytes, "config file %.200s, line %d: %s", s->config, number_of_line,
                 reason);
    } else if (ferror(file)) {
        snprintf(why, why_bytes, "config file %.200s: %s", s->config, strerror(errno));
        rc = -EINVAL;
    }
    fclose(file);
    return rc;
}

/* ---- environment and flags ------------------------------------------------------------------- */

static int read_environment(struct settings *s, char *why, size_t why_bytes)
{
    char reason[128], name[64];

    for (int i = 0; i < TABLE_LEN; i++) {
        const char *value = environment(&table[i], name);

        if (value == NULL || *value == '\0' || table[i].apply == set_config)
            continue;
        if (table[i].many)
            begin_list(s, &table[i]);
        if (give(s, &table[i], value, reason, sizeof reason) != 0) {
            snprintf(why, why_bytes, "environment, %s: %s %s", name, table[i].name, reason);
            return -EINVAL;
        }
    }
    return 0;
}

static bool switch_flag(struct settings *s, const char *flag)
{
    if (strcmp(flag, "--check-config") == 0)
        s->check_config = true;
    else if (strcmp(flag, "--help") == 0)
        s->help = true;
    else if (strcmp(flag, "--version") == 0)
        s->version = true;
    else
        return false;
    return true;
}

/* Walks the flags. config_only: only --config is taken, before the file is read. */
static int read_flags(struct settings *s, int argc, char **argv, bool config_only, char *why,
                      size_t why_bytes)
{
    bool listened = false;
    char reason[128], near[64];

    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '='), *value;
        size_t len = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        const struct setting *setting =
            strncmp(argv[i], "--", 2) == 0 && len > 2 ? find(argv[i] + 2, len - 2) : NULL;

        if (switch_flag(s, argv[i]))
            continue;
        if (setting == NULL) {
            snprintf(why, why_bytes, "unknown flag %.64s%s; learnd --help lists them", argv[i],
                     strncmp(argv[i], "--", 2) == 0 ? suggest(argv[i] + 2, near) : "");
            return -EINVAL;
        }
        value = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (value == NULL) {
            snprintf(why, why_bytes, "--%s needs a value", setting->name);
            return -EINVAL;
        }
        if (config_only != (setting->apply == set_config))
            continue;
        if (setting->many && !listened) {
            begin_list(s, setting);
            listened = true;
        }
        if (give(s, setting, value, reason, sizeof reason) != 0) {
            snprintf(why, why_bytes, "--%s %s", setting->name, reason);
            return -EINVAL;
        }
    }
    return 0;
}

/* The key that systemd hands over (LoadCredential=admin-key:..), unless it is the empty line that
 * stands in for a file that is not there. One that cannot be looked at is one: it is refused when
 * it is read, instead of letting everybody in. */
static void credential(char path[SETTINGS_PATH_BYTES])
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    struct stat st;

    if (folder == NULL)
        return;
    snprintf(path, SETTINGS_PATH_BYTES, "%s/admin-key", folder);
    if (stat(path, &st) != 0 ? errno == ENOENT : st.st_size <= 1)
        path[0] = '\0';
}

static void defaults(struct settings *s)
{
    const char *home = getenv("HOME"), *cache = getenv("XDG_CACHE_HOME");

    home = home != NULL ? home : "/";
    *s = (struct settings){.device = "auto",
                           .log_level = LOG_LEVEL_INFO,
                           .disk_free_min = 64 << 20,
                           .encoders_kept = 4,
                           .connections = SETTINGS_CONNECTIONS};
    state_folder_default(s->state, sizeof s->state);
    credential(s->admin_key_file);
    if (cache != NULL && *cache != '\0')
        snprintf(s->encoder, sizeof s->encoder, "%s/learnd/all-MiniLM-L6-v2", cache);
    else
        snprintf(s->encoder, sizeof s->encoder, "%s/.cache/learnd/all-MiniLM-L6-v2", home);
}

int settings_read(int argc, char **argv, char *why, size_t why_bytes, struct settings *ret_settings)
{
    struct settings s;
    const char *config = getenv("LEARND_CONFIG");
    char reason[128];
    int rc;

    defaults(&s);
    if (config != NULL && *config != '\0' && copy(s.config, config, reason, sizeof reason) != 0) {
        snprintf(why, why_bytes, "environment, LEARND_CONFIG: config %s", reason);
        return -EINVAL;
    }
    rc = read_flags(&s, argc, argv, true, why, why_bytes);
    if (rc == 0 && s.config[0] != '\0')
        rc = read_file(&s, why, why_bytes);
    if (rc == 0)
        rc = read_environment(&s, why, why_bytes);
    if (rc == 0)
        rc = read_flags(&s, argc, argv, false, why, why_bytes);
    if (rc == 0 && s.listen_len == 0)
        rc = set_listen(&s, "127.0.0.1:8080", why, why_bytes);
    if (rc == 0)
        *ret_settings = s;
    return rc;
}

void settings_reload(struct settings *s, const struct settings *now,
                     void (*tell)(void *ud, const char *name, bool reloads), void *ud)
{
    for (int i = 0; i < TABLE_LEN; i++) {
        if (s->given[i] == now->given[i])
            continue;
        tell(ud, table[i].name, table[i].carry != NULL);
        if (table[i].carry == NULL)
            continue;
        table[i].carry(s, now);
        s->given[i] = now->given[i];
    }
}
