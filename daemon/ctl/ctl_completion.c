/* ctl_completion.c -- completion: what may stand next on a command line of learnctl, for shells.
 *
 * The shells' scripts are thin: they hand over the words so far and get the words that fit, one a
 * line with a tab and what it is, or ":files". So all shells complete the same, and what they
 * complete is the tables of commands and flags themselves: a command's usage says what its
 * arguments are, a flag's value what follows it. Names of models, labels, examples, versions and
 * runs are asked of the daemon, quietly and not for long: without one there are none.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_http.h"
#include "daemon/ctl/ctl_table.h"

enum { WORDS_MAX = 24, ALTERNATIVES_MAX = 24, NAMES_MAX = 200 };

/* Seconds that a person waits for a word. */
#define PATIENCE_S 0.7

struct completing {
    struct ctl *ctl;
    char **words; /* (words_len) behind learnctl; the last is the one to complete */
    int words_len;
    const char *prefix;
    const struct ctl_command *command; /* NULL: none yet */
    const char *args[WORDS_MAX];       /* (args_len) whole ones, behind the command */
    int args_len;
    const struct ctl_flag *pending; /* the flag whose value is to be completed, or NULL */
    struct ctl_flag pending_flag;
    struct ctl_options options; /* of the words: which daemon, which model */
    bool no_flags;              /* "--" came */
};

/* ---- words ----------------------------------------------------------------------------------- */

static void offer(const struct completing *c, const char *word, const char *what)
{
    struct api_buffer line = API_BUFFER_INIT;
    size_t first;

    if (strncmp(word, c->prefix, strlen(c->prefix)) != 0)
        return;
    ctl_clean(&line, word, strlen(word));
    api_buffer_add_string(&line, "\t");
    first = strcspn(what, "\n");
    ctl_clean(&line, what, first);
    if (line.rc == 0)
        printf("%.*s\n", (int)line.len, line.bytes);
    api_buffer_done(&line);
}

/* What a flag can be, where it is one of a few words. */
static const struct {
    const char *flag, *words;
} CHOICES[] = {
    {"color", "auto always never"},
    {"wait", "durable applied"},
    {"truncate", "right left never"},
    {"format", "jsonl ndjson csv"},
    {"status", "active rejected withdrawn retired"},
    {"types", "swap label model drift warning run"},
    {"strategy", "joint replay head naive"},
    {"role", "predict annotate admin"},
};

static void offer_words(const struct completing *c, const char *words)
{
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        char word[32];

        snprintf(word, sizeof word, "%.*s", (int)len, words);
        offer(c, word, "");
        words += len + (words[len] == ' ');
    }
}

/* ---- names that the daemon knows ------------------------------------------------------------- */

static struct json_value *ask(const struct completing *c, const char *target)
{
    struct ctl_http_settings settings = {
        .url = c->options.url, .key = ctl_http_key(c->ctl->http), .timeout_s = PATIENCE_S};
    struct ctl_answer answer;
    struct ctl_http *http = NULL;
    struct json_value *root = NULL;
    char why[256];

    if (ctl_http_open(&settings, why, sizeof why, &http) != 0)
        return NULL;
    if (ctl_http_send(http, "GET", target, NULL, NULL, &answer) == 0) {
        if (answer.status == 200)
            json_parse(answer.body.bytes, answer.body.len, NULL, &root, NULL);
        api_buffer_done(&answer.body);
    }
    ctl_http_close(http);
    return root;
}

/* The member `name` of each row of a list, with another member to tell what it is. */
static void offer_rows(const struct completing *c, const char *target, const char *plural,
                       const char *name, const char *what)
{
    struct json_value *answer = ask(c, target);
    const struct json_value *rows = json_member(answer, plural);

    for (size_t i = 0; i < json_len(rows) && i < NAMES_MAX; i++) {
        const struct json_value *value = json_member(json_at(rows, i), name);
        const char *word = json_text(value, NULL);
        const char *told = json_text(json_member(json_at(rows, i), what), NULL);
        char number[32];

        if (json_kind(value) == JSON_KIND_INT) {
            snprintf(number, sizeof number, "%lld", (long long)json_int(value, 0));
            word = number;
        }
        if (word != NULL)
            offer(c, word, told != NULL ? told : "");
    }
    json_free(answer);
}

static void offer_of_model(const struct completing *c, const char *tail, const char *plural,
                           const char *name, const char *what)
{
    struct api_buffer target = API_BUFFER_INIT;
    const char *path;

    ctl_target(&target, "/v1/models/");
    ctl_target_name(&target, c->options.model != NULL ? c->options.model : "default");
    ctl_target(&target, tail);
    path = ctl_target_end(&target);
    if (path != NULL)
        offer_rows(c, path, plural, name, what);
    api_buffer_done(&target);
}

/* What a word of a usage, or of a flag's value, stands for. */
static void offer_kind(const struct completing *c, const char *kind)
{
    bool of_models = c->command != NULL && strcmp(c->command->name, "models") == 0;

    if (strncmp(kind, "FILE", 4) == 0 || strncmp(kind, "FOLDER", 6) == 0 ||
        strncmp(kind, "DIR", 3) == 0)
        printf(":files\n");
    else if (strcmp(kind, "MODEL") == 0 || (strcmp(kind, "NAME") == 0 && of_models))
        offer_rows(c, "/v1/models?limit=200", "models", "name", "version");
    else if (strcmp(kind, "LABEL") == 0 || strcmp(kind, "INTO") == 0)
        offer_of_model(c, "/labels?limit=200", "labels", "label", "status");
    else if (strncmp(kind, "EXAMPLE", 7) == 0)
        offer_of_model(c, "/examples?limit=50", "examples", "example", "text");
    else if (strcmp(kind, "VERSION") == 0)
        offer_of_model(c, "/versions?limit=50", "versions", "version", "state");
    else if (strcmp(kind, "RUN") == 0)
        offer_rows(c, "/v1/runs?limit=50", "runs", "run", "state");
}

/* ---- flags ----------------------------------------------------------------------------------- */

static void offer_value(const struct completing *c)
{
    const struct ctl_flag *f = c->pending;

    for (size_t i = 0; i < sizeof CHOICES / sizeof *CHOICES; i++)
        if (strcmp(CHOICES[i].flag, f->name) == 0)
            offer_words(c, CHOICES[i].words);
    if (strcmp(f->name, "kind") == 0) {
        bool of_models = c->command != NULL && strcmp(c->command->name, "models") == 0;

        offer_words(c,
                    of_models ? "single multi" : "likely_wrong contradicting duplicate influence");
    } else if (strcmp(f->name, "model") == 0) {
        offer_kind(c, "MODEL");
    } else if (strcmp(f->name, "example") == 0) {
        offer_kind(c, "EXAMPLE");
    } else {
        offer_kind(c, f->value);
    }
}

static void offer_flags(const struct completing *c)
{
    const char *allowed = c->command != NULL ? c->command->options : "";
    struct ctl_flag flag;

    for (size_t i = 0; ctl_options_at(i, &flag); i++) {
        char word[48];

        if (!flag.global && !ctl_options_allow(allowed, flag.name))
            continue;
        snprintf(word, sizeof word, "--%s", flag.name);
        offer(c, word, flag.help);
    }
}

/* The flag that a word is, if its value comes in the next one. */
static bool wants_value(const char *word, struct ctl_flag *ret_flag)
{
    bool is_long = strncmp(word, "--", 2) == 0;

    for (size_t i = 0; ctl_options_at(i, ret_flag); i++)
        if (ret_flag->value != NULL && (is_long ? strcmp(word + 2, ret_flag->name) == 0
                                                : word[0] == '-' && word[1] == ret_flag->letter &&
                                                      word[2] == '\0' && ret_flag->letter != '\0'))
            return true;
    return false;
}

/* ---- arguments ------------------------------------------------------------------------------- */

struct alternative {
    char words[WORDS_MAX][32]; /* (len) */
    int len;
};

/* A usage is alternatives with '|' between them; brackets only say what may be left out. What
 * stands in front of "(" is common to all behind it. */
static int read_usage(const char *usage, struct alternative *all)
{
    struct alternative now = {.len = 0}, common = {.len = 0};
    int len = 0;

    for (const char *at = usage;; at++) {
        size_t word = strcspn(at, " |[]()\n");

        if (word > 0 && now.len < WORDS_MAX)
            snprintf(now.words[now.len++], sizeof now.words[0], "%.*s", word < 31 ? (int)word : 31,
                     at);
        at += word;
        if (*at == '(')
            common = now;
        if ((*at == '|' || *at == '\0') && len < ALTERNATIVES_MAX) {
            all[len++] = now;
            now = common;
        }
        if (*at == '\0')
            return len;
    }
}

static bool is_literal(const char *word)
{
    return islower((unsigned char)word[0]) && strchr(word, '=') == NULL;
}

/* The word of an alternative that comes next, if the arguments so far agree with it. skip: words
 * at its beginning that are left out. */
static const char *word_at(const struct alternative *a, const struct completing *c, int skip)
{
    int at = skip;

    for (int i = 0; i < c->args_len && at < a->len; i++) {
        bool again = strstr(a->words[at], "...") != NULL;

        if (a->words[at][0] == '-')
            return NULL;
        if (is_literal(a->words[at]) && strcmp(a->words[at], c->args[i]) != 0)
            return NULL;
        at += !(again && at + 1 == a->len);
    }
    return at < a->len && a->words[at][0] != '-' ? a->words[at] : NULL;
}

static void offer_argument(const struct completing *c)
{
    struct alternative all[ALTERNATIVES_MAX];
    int len = read_usage(c->command->usage, all);
    bool optional = strncmp(c->command->usage, "[MODEL] ", 8) == 0;
    char offered[ALTERNATIVES_MAX * 2][32];
    int offered_len = 0;

    for (int i = 0; i < len * 2; i++) {
        const char *word =
            i / 2 < len && (i % 2 == 0 || optional) ? word_at(&all[i / 2], c, i % 2) : NULL;
        bool again = word == NULL;

        for (int k = 0; k < offered_len && !again; k++)
            again = strcmp(offered[k], word) == 0;
        if (again)
            continue;
        snprintf(offered[offered_len++], sizeof offered[0], "%s", word);
        if (is_literal(word))
            offer(c, word, "");
        else
            offer_kind(c, word);
    }
}

static void offer_commands(const struct completing *c)
{
    const struct ctl_command *commands;
    size_t len = ctl_commands(&commands);

    for (size_t i = 0; i < len; i++)
        offer(c, commands[i].name, commands[i].summary);
    offer(c, "help", "of a command");
}

/* ---- the line -------------------------------------------------------------------------------- */

static const struct ctl_command *find(const char *name)
{
    const struct ctl_command *commands;
    size_t len = ctl_commands(&commands);

    for (size_t i = 0; i < len; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* What the words before the last one are. */
static void read_words(struct completing *c)
{
    for (int i = 0; i + 1 < c->words_len; i++) {
        const char *word = c->words[i];

        c->pending = NULL;
        if (!c->no_flags && strcmp(word, "--") == 0) {
            c->no_flags = true;
        } else if (!c->no_flags && word[0] == '-' && word[1] != '\0') {
            if (!wants_value(word, &c->pending_flag))
                continue;
            if (i + 2 < c->words_len)
                i++; /* its value */
            else
                c->pending = &c->pending_flag;
        } else if (c->command == NULL) {
            c->command = find(word);
        } else if (c->args_len < WORDS_MAX) {
            c->args[c->args_len++] = word;
        }
    }
}

/* --url and --model of the words; what is wrong with others does not matter here. */
static enum ctl_exit read_options(struct completing *c)
{
    char **copy = calloc((size_t)c->words_len + 1, sizeof *copy), why[192];
    int rest;

    c->options = c->ctl->options;
    if (copy == NULL)
        return ctl_no_memory();
    memcpy(copy, c->words, (size_t)(c->words_len - 1) * sizeof *copy);
    ctl_options_read(&c->options, NULL, c->words_len - 1, copy, &rest, why, sizeof why);
    free(copy);
    return CTL_OK;
}

static enum ctl_exit complete(struct ctl *ctl, char **words, int words_len)
{
    struct completing c = {.ctl = ctl, .words = words, .words_len = words_len};
    enum ctl_exit code;

    if (words_len == 0)
        return CTL_OK;
    c.prefix = words[words_len - 1];
    read_words(&c);
    code = read_options(&c);
    if (code != CTL_OK)
        return code;
    if (c.pending != NULL)
        offer_value(&c);
    else if (!c.no_flags && c.prefix[0] == '-')
        offer_flags(&c);
    else if (c.command == NULL)
        offer_commands(&c);
    else
        offer_argument(&c);
    return CTL_OK;
}

/* ---- scripts --------------------------------------------------------------------------------- */

static const char BASH[] =
    "# bash completion of learnctl, as `learnctl completion bash` prints it.\n"
    "# In ~/.bashrc: source <(learnctl completion bash)\n"
    "_learnctl() {\n"
    "    local tab=$'\\t' line word cur=${COMP_WORDS[COMP_CWORD]} quote='' files=0\n"
    "    local -a words=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n"
    "    case $cur in [\\'\\\"]*) quote=${cur:0:1} cur=${cur:1} ;; esac\n"
    "    cur=${cur//\\\\/}\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        word=${line%%\"$tab\"*}\n"
    "        if [ \"$line\" = :files ]; then\n"
    "            files=1\n"
    "        elif [ -n \"$quote\" ]; then\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        else\n"
    "            COMPREPLY+=(\"$(printf %q \"$word\")\")\n"
    "        fi\n"
    "    done < <(\"${COMP_WORDS[0]}\" completion words -- \"${words[@]}\" \"$cur\" 2>/dev/null)\n"
    "    if [ $files = 1 ]; then\n"
    "        while IFS= read -r word; do\n"
    "            COMPREPLY+=(\"$word\")\n"
    "        done < <(compgen -f -- \"$cur\")\n"
    "        compopt -o filenames 2>/dev/null\n"
    "    fi\n"
    "}\n"
    "complete -F _learnctl learnctl\n";

static const char ZSH[] =
    "#compdef learnctl\n"
    "# zsh completion of learnctl, as `learnctl completion zsh` prints it. In a folder of $fpath, "
    "as "
    "_learnctl;\n"
    "# or in ~/.zshrc, behind compinit: source <(learnctl completion zsh)\n"
    "_learnctl() {\n"
    "    local -a found\n"
    "    local line tab=$'\\t' files=0\n"
    "    for line in \"${(@f)$(\"${(Q)words[1]}\" completion words -- "
    "\"${(@Q)words[2,CURRENT-1]}\" "
    "\"${(Q)PREFIX}\" 2>/dev/null)}\"; do\n"
    "        case $line in\n"
    "        :files) files=1 ;;\n"
    "        ?*) found+=(\"${${line%%$tab*}//:/\\\\:}:${line#*$tab}\") ;;\n"
    "        esac\n"
    "    done\n"
    "    (( ${#found} )) && _describe -V learnctl found\n"
    "    (( files )) && _files\n"
    "    return 0\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _learnctl ]; then _learnctl \"$@\"; else compdef _learnctl learnctl; "
    "fi\n";

static const char FISH[] =
    "# fish completion of learnctl, as `learnctl completion fish` prints it.\n"
    "# In ~/.config/fish/completions/learnctl.fish, or: learnctl completion fish | source\n"
    "function __learnctl_words\n"
    "    set -l line (commandline -opc)\n"
    "    set -l last (commandline -ct | string unescape)\n"
    "    $line[1] completion words -- $line[2..-1] \"$last\" 2>/dev/null\n"
    "end\n"
    "function __learnctl_files\n"
    "    __learnctl_words | string match -q :files\n"
    "end\n"
    "complete -c learnctl -f -a '(__learnctl_words | string match -v :files)'\n"
    "complete -c learnctl -n __learnctl_files -F\n";

enum ctl_exit ctl_completion(struct ctl *ctl)
{
    const char *shell = ctl->args_len > 0 ? ctl->args[0] : "";

    if (strcmp(shell, "words") == 0)
        return complete(ctl, ctl->args + 1, ctl->args_len - 1);
    if (ctl->args_len != 1)
        return ctl_misused(ctl, "which shell?");
    if (strcmp(shell, "bash") == 0)
        fputs(BASH, stdout);
    else if (strcmp(shell, "zsh") == 0)
        fputs(ZSH, stdout);
    else if (strcmp(shell, "fish") == 0)
        fputs(FISH, stdout);
    else
        return ctl_misused(ctl, "\"%.40s\" is no shell that is known here", shell);
    return CTL_OK;
}
