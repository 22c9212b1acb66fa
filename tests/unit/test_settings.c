/* test_settings.c -- what an operator can set, from which source, and what is said when it is
 * wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/limits.h"
#include "daemon/settings.h"
#include "tests/unit/own_folder.h"

static char path[FOLDER_BYTES + 16];

static int set_up(void **state)
{
    static const char *const names[] = {
        "LEARND_CONFIG",     "LEARND_STATE",     "LEARND_LISTEN",      "LEARND_ENCODER",
        "LEARND_DEVICE",     "LEARND_PRECISION", "LEARND_LANES",       "LEARND_LOOPS",
        "LEARND_MAX_TOKENS", "LEARND_LOG_LEVEL", "LEARND_DRAIN_GRACE", "STATE_DIRECTORY",
        "XDG_STATE_HOME",    "XDG_CACHE_HOME"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    setenv("HOME", "/home/ann", 1);
    folder_set_up(state);
    snprintf(path, sizeof path, "%s/conf", folder);
    return 0;
}

static void config(const char *text)
{
    file_write(folder, "conf", text, strlen(text));
}

/* The flags, separated by spaces. */
static int read(const char *flags, char why[256], struct settings *s)
{
    char copy[512], *argv[32] = {"learnd"}, *save = NULL;
    int argc = 1;

    snprintf(copy, sizeof copy, "%s", flags);
    for (char *word = strtok_r(copy, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    return settings_read(argc, argv, why, 256, s);
}

static struct settings good(const char *flags)
{
    struct settings s;
    char why[256] = "";

    if (read(flags, why, &s) != 0)
        fail_msg("%s: %s", flags, why);
    return s;
}

static void bad(const char *flags, const char *says)
{
    struct settings s, untouched;
    char why[256] = "";

    memset(&s, 0x55, sizeof s);
    untouched = s;
    assert_int_equal(read(flags, why, &s), -EINVAL);
    assert_memory_equal(&s, &untouched, sizeof s);
    if (strstr(why, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", why, says);
}

/* A file with this in its third line is refused, and the line is named. */
static void bad_line(const char *line, const char *says)
{
    char text[2048], wanted[256];

    snprintf(text, sizeof text, "# a comment\n\n%s\nlanes = 1\n", line);
    config(text);
    snprintf(text, sizeof text, "--config %s", path);
    snprintf(wanted, sizeof wanted, "line 3: %s", says);
    bad(text, wanted);
    bad(text, path);
}

static void test_defaults(void **state)
{
    struct settings s = good("");

    (void)state;
    assert_string_equal(s.state, "/home/ann/.local/state/learnd");
    assert_string_equal(s.encoder, "/home/ann/.cache/learnd/all-MiniLM-L6-v2");
    assert_int_equal(s.listen_len, 1);
    assert_string_equal(s.listen[0], "127.0.0.1:8080");
    assert_false(s.fp32 || s.check_config || s.help || s.version);
    assert_int_equal(s.lanes + s.loops + s.max_tokens + s.train_yield_ms, 0);
    assert_string_equal(s.device, "auto");
    assert_int_equal(s.disk_free_min, 64 << 20);
    assert_int_equal(s.log_level, LOG_LEVEL_INFO);
    setenv("XDG_STATE_HOME", "/xdg/state", 1);
    setenv("XDG_CACHE_HOME", "/xdg/cache", 1);
    s = good("");
    assert_string_equal(s.state, "/xdg/state/learnd");
    assert_string_equal(s.encoder, "/xdg/cache/learnd/all-MiniLM-L6-v2");
    setenv("STATE_DIRECTORY", "/var/lib/learnd", 1); /* under systemd */
    assert_string_equal(good("").state, "/var/lib/learnd");
    setenv("STATE_DIRECTORY", "/var/lib/learnd:/var/lib/more", 1); /* a unit may have several */
    assert_string_equal(good("").state, "/var/lib/learnd");
}

static void test_a_credential(void **state)
{
    char file[FOLDER_BYTES + 16];

    (void)state;
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    assert_string_equal(good("").admin_key_file, "");
    file_write(folder, "admin-key", "\n", 1); /* stands in for none */
    assert_string_equal(good("").admin_key_file, "");
    file_write(folder, "admin-key", "too short\n", 10); /* is refused when it is read */
    snprintf(file, sizeof file, "%s/admin-key", folder);
    assert_string_equal(good("").admin_key_file, file);
    assert_string_equal(good("--admin-key-file /other").admin_key_file, "/other");
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_every_flag(void **state)
{
    struct settings s = good("--state /s --listen [::1]:1 --listen unix:/run/l --encoder=/e "
                             "--device cpu --precision fp32 --lanes 3 --loops 2 --max-tokens 128 "
                             "--log-level debug --train-yield-p99-ms 40 --check-config");

    (void)state;
    assert_string_equal(s.state, "/s");
    assert_int_equal(s.listen_len, 2);
    assert_string_equal(s.listen[0], "[::1]:1");
    assert_string_equal(s.listen[1], "unix:/run/l");
    assert_string_equal(s.encoder, "/e");
    assert_true(s.fp32 && s.check_config);
    assert_string_equal(s.device, "cpu");
    assert_string_equal(good("--device cuda:1").device, "cuda:1");
    assert_int_equal(s.train_yield_ms, 40);
    assert_int_equal(s.lanes, 3);
    assert_int_equal(s.loops, 2);
    assert_int_equal(s.max_tokens, 128);
    assert_int_equal(s.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(good("--disk-free-min 0").disk_free_min, 0);
    assert_int_equal(good("--disk-free-min 4096").disk_free_min, 4096);
    assert_int_equal(good("--disk-free-min 3K").disk_free_min, 3 << 10);
    assert_true(good("--disk-free-min 2G").disk_free_min == (uint64_t)2 << 30);
    assert_true(good("--help").help);
    assert_true(good("--version").version);
}

static void test_flag_beats_environment_beats_file(void **state)
{
    char flags[256];
    struct settings s;

    (void)state;
    config("state = /file\nencoder=/file \t\r\n  lanes =  7\nlisten = 127.0.0.1:1\n"
           "listen = 127.0.0.1:2\nprecision = fp32\n");
    snprintf(flags, sizeof flags, "--config %s", path);
    s = good(flags);
    assert_string_equal(s.state, "/file");
    assert_string_equal(s.encoder, "/file"); /* without what stands around it */
    assert_int_equal(s.lanes, 7);
    assert_int_equal(s.listen_len, 2);
    assert_true(s.fp32);
    setenv("LEARND_STATE", "/env", 1);
    setenv("LEARND_LANES", "5", 1);
    setenv("LEARND_LISTEN", "127.0.0.1:3", 1);
    setenv("LEARND_PRECISION", "bf16", 1);
    setenv("LEARND_ENCODER", "", 1); /* empty is not set */
    s = good(flags);
    assert_string_equal(s.state, "/env");
    assert_string_equal(s.encoder, "/file");
    assert_int_equal(s.lanes, 5);
    assert_int_equal(s.listen_len, 1); /* a source replaces the list of the one below */
    assert_string_equal(s.listen[0], "127.0.0.1:3");
    assert_false(s.fp32);
    snprintf(flags, sizeof flags,
             "--state /flag --listen 127.0.0.1:4 --listen 127.0.0.1:5 --config %s", path);
    s = good(flags);
    assert_string_equal(s.state, "/flag");
    assert_int_equal(s.lanes, 5);
    assert_int_equal(s.listen_len, 2);
    assert_string_equal(s.listen[1], "127.0.0.1:5");
    /* The file can be named by the environment, and a flag names another. */
    setenv("LEARND_CONFIG", "/nowhere/conf", 1);
    assert_string_equal(good(flags).encoder, "/file");
    bad("", "/nowhere/conf");
}

static void test_wrong_lines(void **state)
{
    char flags[256], long_line[1400];

    (void)state;
    bad_line("lane = 3", "unknown setting lane (did you mean lanes?)");
    bad_line("max_tokens = 3", "unknown setting max_tokens (did you mean max-tokens?)");
    bad_line("Listen = x", "unknown setting Listen (did you mean listen?)");
    bad_line("entirely-different = x", "unknown setting entirely-different");
    bad_line("config = /x", "unknown setting config (it names this file)");
    bad_line("lanes 3", "expected name = value");
    bad_line("= 3", "unknown setting ");
    bad_line("lanes = ", "lanes must be a whole number from 1 to 64");
    bad_line("lanes = 3 # three", "lanes must be a whole number");
    bad_line("state = ", "state must be a path");
    bad_line("precision = int8", "precision must be bf16 or fp32");
    bad_line("retention-days-runs = -1", "retention-days-runs must be a whole number from 0");
    bad_line("retention-days-runs = 1d", "retention-days-runs must be a whole number");
    bad_line("encoders-kept = 0", "encoders-kept must be a whole number from 1 to 1000");
    bad_line("disk-free-min = 64MB", "disk-free-min must be bytes, as in 64M");
    bad_line("disk-free-min = 1.5G", "disk-free-min must be bytes");
    bad_line("disk-free-min = -1", "disk-free-min must be bytes");
    bad_line("disk-free-min = M", "disk-free-min must be bytes");
    bad_line("disk-free-min = 99999999999G", "disk-free-min must be bytes");
    bad_line("log-level = loud", "log-level must be debug, info, warn or error");
    bad_line("device = cuda", "device must be auto, cpu, cuda:N or plugin:PATH, N from 0 to 63");
    bad_line("device = cuda:64", "device must be auto, cpu, cuda:N or plugin:PATH");
    bad_line("device = ", "device must be auto, cpu, cuda:N or plugin:PATH");
    bad_line("train-yield-p99-ms = 60001", "train-yield-p99-ms must be a whole number from 0 to");
    bad_line("train-yield-p99-ms = fast", "train-yield-p99-ms must be a whole number from 0 to");
    bad_line("drain-grace = 1h", "drain-grace must be a whole number from 0 to 3600");
    bad_line("log-requests = some", "log-requests must be none, sampled or all");
    bad_line("tensorboard =", "tensorboard must be a path of 1 to 1023 bytes");
    memset(long_line, 'x', sizeof long_line - 1);
    long_line[sizeof long_line - 1] = '\0';
    bad_line(long_line, "the line is too long");
    config("lanes = 2\n# once more\nlanes = 2\n");
    snprintf(flags, sizeof flags, "--config %s", path);
    bad(flags, "line 3: lanes stands in line 1 already");
    config("listen = 127.0.0.1:1\nlisten = 127.0.0.1:1\n");
    bad(flags, "line 2: listen 127.0.0.1:1 is given twice");
    config("listen = 127.0.0.1:0\nlisten = 127.0.0.1:0\n"); /* any two free ones */
    assert_int_equal(good(flags).listen_len, 2);
    config("lanes = 2"); /* no line end: a whole line */
    snprintf(flags, sizeof flags, "--config %s", path);
    assert_int_equal(good(flags).lanes, 2);
    config("");
    good(flags);
    snprintf(flags, sizeof flags, "--config %s/none", folder);
    bad(flags, "No such file");
    snprintf(flags, sizeof flags, "--config %s", folder); /* a folder is no file */
    bad(flags, folder);
}

static void test_access(void **state)
{
    struct settings s = good("--admin-key-file /k --cors-origins https://a.example,http://b:8 "
                             "--trusted-proxies 10.0.0.0/8,unix --metrics-open yes "
                             "--connections 300");

    (void)state;
    assert_string_equal(s.admin_key_file, "/k");
    assert_int_equal(s.access.origins.len, 2);
    assert_non_null(origins_find(&s.access.origins, "http://b:8"));
    assert_int_equal(s.access.proxies.len, 1);
    assert_true(s.access.proxies.unix_socket && s.access.metrics_open);
    assert_int_equal(s.connections, 300);
    s = good("");
    assert_string_equal(s.admin_key_file, "");
    assert_int_equal(s.access.origins.len + s.access.proxies.len, 0);
    assert_false(s.access.proxies.unix_socket || s.access.metrics_open);
    assert_int_equal(s.connections, SETTINGS_CONNECTIONS);
    bad_line("admin-key-file = ", "admin-key-file must be a path");
    bad_line("cors-origins = *", "cors-origins must be origins");
    bad_line("cors-origins = https://a.example/page", "cors-origins must be origins");
    bad_line("trusted-proxies = proxy.example", "trusted-proxies must be addresses");
    bad_line("trusted-proxies = 10.0.0.0/40", "trusted-proxies must have a whole number of bits");
    bad_line("metrics-open = true", "metrics-open must be yes or no");
    bad_line("connections = 255", "connections must be a whole number from 256 to 65536");
    bad_line("connections = 65537", "connections must be a whole number from 256 to 65536");
}

static void test_wrong_numbers(void **state)
{
    static const char *const numbers[] = {
        "0",          "-1", "+1", "1.5", "1e1", "0x10", "", "65", "999999999999999999999",
        "4294967297", "1 ", "one"};

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char flag[64];

        snprintf(flag, sizeof flag, "--lanes=%s", numbers[i]);
        if (strchr(numbers[i], ' ') == NULL)
            bad(flag, "--lanes must be a whole number from 1 to 64");
        setenv("LEARND_LANES", numbers[i], 1);
        if (numbers[i][0] != '\0')
            bad("", "environment, LEARND_LANES: lanes must be a whole number from 1 to 64");
        unsetenv("LEARND_LANES");
    }
    assert_int_equal(good("--lanes 64").lanes, LIMIT_LANES);
    bad("--max-tokens 7", "from 8 to 512");
    bad("--max-tokens 513", "from 8 to 512");
    bad("--loops 17", "from 1 to 16");
}

static void test_wrong_flags(void **state)
{
    char long_path[1200] = "--state=";

    (void)state;
    bad("--lane 3", "unknown flag --lane (did you mean lanes?)");
    bad("-l 3", "unknown flag -l;");
    bad("state", "unknown flag state;");
    bad("--", "unknown flag --;");
    bad("--lanes", "--lanes needs a value");
    bad("--check-config=yes", "unknown flag --check-config=yes");
    bad("--listen 1 --listen 2 --listen 3 --listen 4 --listen 5 --listen 6 --listen 7 --listen 8 "
        "--listen 9",
        "at most 8 addresses");
    memset(long_path + 8, 'p', 490);
    assert_int_equal(strlen(good(long_path).state), 490);
    setenv("LEARND_STATE", "", 1);
    memset(long_path, 'p', sizeof long_path - 1);
    setenv("LEARND_STATE", long_path, 1);
    bad("", "environment, LEARND_STATE: state must be a path of 1 to 1023 bytes");
    unsetenv("LEARND_STATE");
    setenv("LEARND_CONFIG", long_path, 1);
    bad("", "environment, LEARND_CONFIG: config must be a path of 1 to 1023 bytes");
}

/* ---- reading again ------------------------------------------------------------------------- */

static char changes[256];

static void note(void *ud, const char *name, bool reloads)
{
    size_t len = strlen(changes);

    (void)ud;
    snprintf(changes + len, sizeof changes - len, "%s%c ", name, reloads ? '+' : '-');
}

static void test_reload(void **state)
{
    struct settings s, now;

    (void)state;
    s = good("--lanes 2 --log-level info --listen 127.0.0.1:1 --listen 127.0.0.1:2");
    now = good("--lanes 2 --log-level info --listen 127.0.0.1:1 --listen 127.0.0.1:2");
    changes[0] = '\0';
    settings_reload(&s, &now, note, NULL);
    assert_string_equal(changes, "");
    now = good("--lanes 3 --log-level debug --train-window 01:00-02:30 --train manual "
               "--train-hours 7 --train-yield-p99-ms 30 --drain-grace 9 --listen 127.0.0.1:1 "
               "--listen 127.0.0.1:3");
    settings_reload(&s, &now, note, NULL);
    assert_string_equal(changes, "listen- lanes- log-level+ train+ train-window+ train-hours+ "
                                 "train-yield-p99-ms+ drain-grace+ ");
    assert_int_equal(s.lanes, 2);
    assert_string_equal(s.listen[1], "127.0.0.1:2");
    assert_int_equal(s.log_level, LOG_LEVEL_DEBUG);
    assert_int_equal(s.train_from, 60);
    assert_int_equal(s.train_to, 150);
    assert_true(s.train_manual);
    assert_int_equal(s.train_hours, 7);
    assert_int_equal(s.drain_grace_s, 9);
    assert_int_equal(s.train_yield_ms, 30);
    /* What waits for a restart is told again; what is in force is not. */
    changes[0] = '\0';
    settings_reload(&s, &now, note, NULL);
    assert_string_equal(changes, "listen- lanes- ");
    /* Taken out of the file: its default is in force again. */
    now = good("--lanes 2 --listen 127.0.0.1:1 --listen 127.0.0.1:2");
    changes[0] = '\0';
    settings_reload(&s, &now, note, NULL);
    assert_string_equal(changes, "log-level+ train+ train-window+ train-hours+ "
                                 "train-yield-p99-ms+ drain-grace+ ");
    assert_int_equal(s.log_level, LOG_LEVEL_INFO);
    assert_int_equal(s.drain_grace_s, 0);
    /* The same list in another order, or cut elsewhere, is another list. */
    s = good("--listen unix:ab --listen unix:c");
    now = good("--listen unix:a --listen unix:bc");
    changes[0] = '\0';
    settings_reload(&s, &now, note, NULL);
    assert_string_equal(changes, "listen- ");
}

static void test_log_requests(void **state)
{
    (void)state;
    assert_int_equal(good("").log_requests, LOG_REQUESTS_SAMPLED);
    assert_int_equal(good("--log-requests none").log_requests, LOG_REQUESTS_NONE);
    assert_int_equal(good("--log-requests sampled").log_requests, LOG_REQUESTS_SAMPLED);
    assert_int_equal(good("--log-requests=all").log_requests, LOG_REQUESTS_ALL);
    assert_string_equal(good("").tensorboard, "");
    assert_string_equal(good("--tensorboard /runs").tensorboard, "/runs");
}

static void test_help_names_every_flag(void **state)
{
    static const char *const names[] = {"--config",
                                        "--state",
                                        "--listen",
                                        "--encoder",
                                        "--device",
                                        "--precision",
                                        "--lanes",
                                        "--loops",
                                        "--max-tokens",
                                        "--log-level",
                                        "--check-config",
                                        "--help",
                                        "--version",
                                        "--log-requests",
                                        "--tensorboard",
                                        "--drain-grace",
                                        "--train-yield-p99-ms"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_non_null(strstr(settings_help(), names[i]));
}

#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, folder_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_defaults),
        EACH(test_a_credential),
        EACH(test_every_flag),
        EACH(test_flag_beats_environment_beats_file),
        EACH(test_wrong_lines),
        EACH(test_access),
        EACH(test_wrong_numbers),
        EACH(test_wrong_flags),
        EACH(test_reload),
        EACH(test_log_requests),
        EACH(test_help_names_every_flag),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
