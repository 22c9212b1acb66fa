/* ctl_main.c -- learnctl: the table of commands, help, and the way from argv to an exit code. */
#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl.h"
#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"

enum { KEY_BYTES = 256 };

#define TEACHING "annotator source weight wait"

static const struct ctl_command commands[] = {
    {"classify", "TEXT... | -f FILE | <FILE", "which label, how sure, and whether to trust it",
     "Without texts they are read from stdin, a line each. \"unsure\" marks an answer that misses "
     "the\n"
     "model's thresholds: take it as \"I don't know\".\n",
     "file pair truncate at among top threshold explain ids no-store deadline", ctl_classify},
    {"embed", "TEXT... | -f FILE | <FILE", "the vectors that the model sees",
     "A line of numbers for each text.\n", "file pair truncate", ctl_embed},
    {"teach", "LABEL (TEXT... | -f FILE | --request ID | --example ID)", "say which label is right",
     "Prints the id of each example. It is on disk when the command ends; with --wait applied the\n"
     "next answer knows it too. For a model of kind multi: --label L --label M TEXT.. says all\n"
     "labels of the texts, --none TEXT.. that they have none.\n",
     "file pair request example label none no-new-labels " TEACHING, ctl_teach},
    {"confirm", "--request ID | --example ID | --text TEXT --label LABEL",
     "say that an answer was right", "", "request example text pair label " TEACHING, ctl_confirm},
    {"reject", "--request ID | --example ID | --text TEXT --label LABEL",
     "say that an answer was wrong", "Without --label: not what was answered.\n",
     "request example text pair label " TEACHING, ctl_reject},
    {"withdraw", "EXAMPLE", "take votes on an example back",
     "Those of --annotator, or without it all. The text stays and teaches nothing.\n",
     "annotator source wait", ctl_withdraw},
    {"forget", "EXAMPLE...", "delete examples, as if never seen", "", "", ctl_forget},
    {"erase", "--text TEXT [--pair TEXT] | --annotator NAME",
     "remove a text, or all of an annotator, from everywhere",
     "From examples, journal, keys, logs, images and what the models have learned; done when the\n"
     "command ends. In every model, or with --model in one. Asks first, unless --yes.\n"
     "--proof then searches every byte of the state folder for it.\n",
     "text pair annotator yes proof state", ctl_erase},
    {"import", "FILE | -", "teach a file of examples: jsonl, ndjson or csv",
     "Columns: text, label (kind multi, jsonl: or labels, a list), and if needed text_pair,\n"
     "annotator, source, weight. CSV (RFC 4180) "
     "names\n"
     "them in its first line. A rejected row is told as FILE:LINE: and the others are kept. After "
     "a\n"
     "failure repeat the command: rows that are kept are recognised. --annotator, --source and\n"
     "--weight stand for columns that are not there. --everything takes what export --everything\n"
     "wrote, into a daemon whose models of these names are empty.\n",
     "format text-column label-column batch no-new-labels everything " TEACHING, ctl_import},
    {"export", "[FILE]", "write all examples as jsonl or csv",
     "By the file's name; without FILE jsonl to stdout. import reads it back to the same model.\n"
     "A model of kind multi is written as jsonl. --everything makes FILE a folder of all that the\n"
     "state folder (--state) knows, as ndjson and Hugging Face folders.\n",
     "format label everything state", ctl_export},
    {"eval", "FILE | -", "score a labelled file against the live model",
     "The columns are import's; what is asked is not kept. Accuracy, calibration, labels and\n"
     "confusions, the worst first; --html writes one page with plots. Kind multi: exact match, "
     "F1.\n",
     "format text-column label-column truncate at html limit", ctl_evaluate},
    {"models",
     "[show NAME | create NAME [SETTING=VALUE...] | set NAME SETTING=VALUE... | delete NAME]",
     "list, make, change and remove models",
     "Settings: features, seed, ridge_lambda (fixed when created), score_min, rejection_budget,\n"
     "annotator_rate_max, annotator_influence_max.\n"
     "create NAME encoder=none dim=64 makes a model of vectors instead of texts; from=OTHER "
     "begins\n"
     "with another model's encoder.\n",
     "kind limit yes", ctl_models},
    {"labels",
     "[add LABEL | rename LABEL NEW | retire LABEL | restore LABEL | merge LABEL INTO |\n"
     "       split LABEL NEW EXAMPLE... | set LABEL [score_min=P] [payload=JSON]]",
     "list labels, or say what becomes of one",
     "A renamed or merged label's old name goes on meaning it. A retired one keeps its examples, "
     "which\n"
     "teach nothing until it is restored. score_min: unsure below it; payload: given back with "
     "every\n"
     "answer that has this label; an empty value takes them away.\n",
     "limit", ctl_labels},
    {"examples", "[EXAMPLE]", "list what was taught, or one of it", "",
     "label annotator status contains limit", ctl_examples},
    {"versions", "[VERSION]", "how the model came to be, newest first",
     "With --at TIME the one that was live then.\n", "limit at", ctl_versions},
    {"train", "[MODEL] [SETTING=VALUE...]", "fine-tune the encoder in the background",
     "A better encoder goes live only if the gate accepts it. Settings: epochs, steps_max,\n"
     "minutes_max, batch, lr, head_lr, dropout, lora, examples_max; for strategy replay: alpha,\n"
     "distill, temperature, feature. With --watch it ends with 0: accepted, 5: refused by the "
     "gate,\n"
     "6: failed or cancelled.\n",
     "strategy epochs seed lora-rank margin force watch", ctl_train},
    {"runs", "[RUN]", "list runs, or show one with the gate's verdict",
     "With --watch the one under way, until it has ended.\n", "limit watch", ctl_runs},
    {"cancel", "RUN", "stop a run; what is live stays", "", "", ctl_cancel},
    {"encoders", "[MODEL]", "the encoders of a model, and which one is live", "", "", ctl_encoders},
    {"rollback", "[MODEL] VERSION", "go to another encoder that is held, back or forth",
     "VERSION as `versions` lists it, or the encoder's number. What was taught since stays.\n", "",
     ctl_rollback},
    {"export-encoder", "[MODEL] FOLDER", "write the live encoder as a Hugging Face folder",
     "Prints the files as sha256sum reads them.\n", "", ctl_export_encoder},
    {"import-encoder", "[MODEL] FOLDER", "take an encoder of the server, through the gate",
     "FOLDER is a path on the server.\n", "margin force watch", ctl_import_encoder},
    {"events", "", "watch what happens, a line an event",
     "Until it is interrupted, or for --limit N events. It comes back when the daemon does, and "
     "goes on\n"
     "where it was; \"reset\" says that some events may be missing. --model shows those of one "
     "model.\n",
     "types since limit", ctl_events},
    {"watch", "", "a live view: rates, times, versions, runs, events",
     "On a terminal a screen that is drawn anew every second, until q or Ctrl-C; else a line for "
     "each\n"
     "event and one of figures every second, until it is interrupted, or --limit N lines. It comes "
     "back\n"
     "when the daemon does.\n",
     "types every limit", ctl_watch},
    {"review", "", "what was taught and may be wrong, the most doubtful first",
     "likely_wrong: the rest of the examples prefers another label. contradicting: annotators do "
     "not\n"
     "agree. duplicate: one text, two labels. influence: an annotator with too much of a label.\n"
     "A second annotator's vote (`teach LABEL --example ID --annotator NAME`) settles it.\n",
     "kind limit", ctl_review},
    {"next", "", "which of the recent requests to label next",
     "Label one with `teach LABEL --request ID`. Those marked random are drawn evenly: only they "
     "tell\n"
     "how good the model is.\n",
     "limit seed random-share", ctl_next},
    {"keys", "[create NAME ROLE | revoke KEY | me]", "who may use the daemon",
     "ROLE is predict (ask), annotate (teach too) or admin (everything). The key is printed alone "
     "and\n"
     "never again; `umask 077; learnctl keys create NAME ROLE >FILE` keeps it for --key-file. The "
     "first\n"
     "key must be an admin's: from then on nothing is open without one. `keys me` says who you "
     "are.\n",
     "rate expires limit", ctl_keys},
    {"audit", "", "who changed what, the newest first",
     "Everything but corrections, which the examples and versions show.\n",
     "before by action limit", ctl_audit},
    {"backup", "FOLDER", "copy the whole state, also beside a running daemon",
     "Whole or not there: an older backup of that name is replaced in one step. `sha256sum -c\n"
     "MANIFEST` checks it. The base encoder is not in it. What is erased later stays in a backup\n"
     "that was made before.\n",
     "state copy", ctl_backup},
    {"restore", "FOLDER", "make a backup the state, where there is none",
     "Checks every file first. The daemon is stopped, and its state folder empty or not there.\n",
     "state", ctl_restore},
    {"doctor", "", "is the state folder sound?",
     "Database, foreign keys, votes and examples against the journal, labels, files and their\n"
     "hashes, the disk, who may read it. Reads only, also beside a running daemon. With --find it\n"
     "proves that an erased text is in no byte of the folder. Ends with 0: sound, 1: something "
     "was\n"
     "found, 2: it cannot be checked.\n",
     "state deep repair find", ctl_doctor},
    {"bench", "[-f FILE]", "put a load of questions on the daemon, and time and check the answers",
     "FILE: a text a line, or jsonl. Closed loop, or with --rate an open one whose times count "
     "from\n"
     "when a question was due. Answers must be as the contract says, and the same for the same "
     "text\n"
     "and version. Nothing is stored. Ends with 4: some were refused, 3: an answer was wrong.\n",
     "file format connections rate seconds requests dump anywhere", ctl_bench},
    {"annotate", "[MODEL]", "label what is worth it, one key a decision",
     "What `next` lists, or with --review what `review` lists: a text, the likeliest labels with "
     "their\n"
     "numbers. On a terminal a screen (? helps); else a line of stdin for each item: a number, "
     "=LABEL,\n"
     "+LABEL (also a new one), r(eject), s(kip), u(ndo) or q(uit). Kind multi: \"1 3\", 0 for "
     "none.\n",
     "review annotator source weight wait kind limit seed random-share", ctl_annotate},
    {"status", "", "is it ready, what runs, what is there",
     "Ends with 3 if the daemon is not ready.\n", "", ctl_status},
    {"completion", "bash | zsh | fish", "a script that completes learnctl's commands in a shell",
     "In ~/.bashrc: source <(learnctl completion bash). Names of models, labels and examples are "
     "asked\n"
     "of the daemon.\n",
     "", ctl_completion},
    {"version", "", "of this program", "", "", ctl_version},
};

enum { COMMANDS_LEN = sizeof commands / sizeof *commands };

size_t ctl_commands(const struct ctl_command **ret_commands)
{
    *ret_commands = commands;
    return COMMANDS_LEN;
}

enum ctl_exit ctl_misused(const struct ctl *ctl, const char *format, ...)
{
    char said[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(said, sizeof said, format, args);
    va_end(args);
    ctl_fail("usage", "%s", said);
    if (!ctl->options.json)
        fprintf(stderr, "usage: learnctl %s %s\n", ctl->command->name, ctl->command->usage);
    return CTL_USAGE;
}

/* ---- help ------------------------------------------------------------------------------------ */

static enum ctl_exit help(void)
{
    printf("learnctl -- talks to learnd, a text classifier that learns while it serves\n\n"
           "usage: learnctl COMMAND [ARGUMENT...] [FLAG...]\n\n");
    for (int i = 0; i < COMMANDS_LEN; i++)
        printf("  %-14s %s\n", commands[i].name, commands[i].summary);
    printf("\n`learnctl COMMAND --help` says more. Flags of every command:\n\n");
    ctl_options_help(NULL, stdout);
    printf("\nexit code: 0 done; 1 refused by the daemon; 2 wrong use, or a file that cannot be "
           "read or\n"
           "written; 3 the daemon cannot be reached, is not ready or failed; 4 done in part, some "
           "items\n"
           "rejected; 5 a watched run was refused by the gate; 6 it failed or was cancelled\n");
    return CTL_OK;
}

static enum ctl_exit help_of(const struct ctl_command *c)
{
    printf("usage: learnctl %s %s\n\n%s\n%s\n", c->name, c->usage, c->summary, c->help);
    ctl_options_help(c->options, stdout);
    printf("%s`learnctl --help` lists the flags of every command.\n",
           c->options[0] != '\0' ? "\n" : "");
    return CTL_OK;
}

static const struct ctl_command *find(const char *name)
{
    for (int i = 0; i < COMMANDS_LEN; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* ---- the daemon ------------------------------------------------------------------------------ */

/* A key is printable ASCII, as a header needs it, and no longer than a line of one. */
static bool key_is_good(const char *key, size_t key_bytes)
{
    for (size_t i = 0; i < key_bytes; i++)
        if (key[i] <= ' ' || key[i] > '~')
            return false;
    return key_bytes > 0 && key_bytes < KEY_BYTES - 2;
}

/* The first line of the key file, else the environment's key, else "". */
static enum ctl_exit read_key(const struct ctl_options *o, char key[KEY_BYTES])
{
    FILE *file;

    key[0] = '\0';
    if (o->key_file == NULL && o->key == NULL)
        return CTL_OK;
    if (o->key_file == NULL) {
        snprintf(key, KEY_BYTES, "%s", o->key);
    } else {
        file = fopen(o->key_file, "r");
        if (file == NULL) {
            ctl_fail_file(o->key_file);
            return CTL_USAGE;
        }
        if (fgets(key, KEY_BYTES, file) == NULL)
            key[0] = '\0';
        fclose(file);
    }
    key[strcspn(key, "\r\n")] = '\0';
    if (key_is_good(key, strlen(key)))
        return CTL_OK;
    ctl_fail("file", "%s holds no key", o->key_file != NULL ? o->key_file : "LEARNCTL_KEY");
    return CTL_USAGE;
}

static enum ctl_exit connect_and_run(struct ctl *ctl)
{
    struct ctl_http_settings settings = {.url = ctl->options.url,
                                         .timeout_s = ctl->options.timeout_s};
    char key[KEY_BYTES], why[256] = "no memory";
    enum ctl_exit code = read_key(&ctl->options, key);
    int rc;

    if (code != CTL_OK)
        return code;
    settings.key = key[0] != '\0' ? key : NULL;
    rc = ctl_http_open(&settings, why, sizeof why, &ctl->http);
    if (rc != 0) {
        ctl_fail(rc == -EINVAL ? "usage" : "no_memory", "%s", why);
        return rc == -EINVAL ? CTL_USAGE : CTL_FAILED;
    }
    code = ctl->command->run(ctl);
    ctl_http_close(ctl->http);
    return code;
}

/* Also where the flags cannot be read: what is wrong with them is said as it was asked for. */
static bool asked_for_json(int argc, char **argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0 || strcmp(argv[i], "-j") == 0)
            return true;
    return false;
}

static bool color_is_good(const char *color)
{
    return color == NULL || strcmp(color, "auto") == 0 || strcmp(color, "always") == 0 ||
           strcmp(color, "never") == 0;
}

static enum ctl_exit run(struct ctl *ctl, int argc, char **argv)
{
    char why[192];
    int rest = 0;

    ctl_options_init(&ctl->options);
    ctl->options.json = asked_for_json(argc, argv);
    ctl_say_init(ctl->options.json, NULL);
    if (ctl_options_read(&ctl->options, ctl->command->options, argc, argv, &rest, why,
                         sizeof why) != 0)
        return ctl_misused(ctl, "%s", why);
    ctl_say_init(ctl->options.json, ctl->options.color);
    if (ctl->options.help)
        return help_of(ctl->command);
    if (!color_is_good(ctl->options.color))
        return ctl_misused(ctl, "--color is auto, always or never");
    if (ctl->options.timeout_s < 0.001 || ctl->options.timeout_s > 1e6)
        return ctl_misused(ctl, "--timeout needs seconds, up to a million");
    if (ctl->options.wait != NULL && strcmp(ctl->options.wait, "durable") != 0 &&
        strcmp(ctl->options.wait, "applied") != 0)
        return ctl_misused(ctl, "--wait is durable or applied");
    ctl->args = argv + 1;
    ctl->args_len = rest - 1;
    return connect_and_run(ctl);
}

static enum ctl_exit unknown(const char *name)
{
    ctl_fail("usage", "there is no command \"%.40s\"; learnctl --help lists them", name);
    return CTL_USAGE;
}

/* The command is the first argument that is no flag; flags of every command may stand before it. */
static enum ctl_exit dispatch(int argc, char **argv)
{
    struct ctl ctl = {0};
    struct ctl_options first;
    char why[192], **copy = malloc(((size_t)argc + 1) * sizeof *copy);
    int rest = 0;
    enum ctl_exit code;

    if (copy == NULL)
        return ctl_no_memory();
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    ctl_say_init(asked_for_json(argc, argv), NULL);
    ctl_options_init(&first);
    if (ctl_options_read(&first, NULL, argc, copy, &rest, why, sizeof why) != 0) {
        ctl_fail("usage", "%s", why);
        free(copy);
        return CTL_USAGE;
    }
    if (rest == 0 || strcmp(copy[0], "help") == 0) {
        const char *about = rest > 1 ? copy[1] : NULL;

        code = about == NULL ? help() : find(about) != NULL ? help_of(find(about)) : unknown(about);
        free(copy);
        return rest == 0 && !first.help ? CTL_USAGE : code;
    }
    ctl.command = find(copy[0]);
    if (ctl.command == NULL) {
        code = unknown(copy[0]);
        free(copy);
        return code;
    }
    /* Again, now with what this command takes; the command's name is the first of the rest. */
    memcpy(copy, argv, (size_t)argc * sizeof *copy);
    code = run(&ctl, argc, copy);
    free(copy);
    return code;
}

int main(int argc, char **argv)
{
    enum ctl_exit code;

    setlocale(LC_CTYPE, "C.UTF-8"); /* for widths; input and output are UTF-8 whatever the locale */
    code = dispatch(argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        ctl_fail_file("stdout");
        return CTL_USAGE;
    }
    return code;
}
