/* ctl_erase.c -- erase: a text, or all of an annotator, gone for good. It cannot be taken back, so
 * a person is asked first, and a script says --yes.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_doctor.h"

static bool confirmed(const struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    char line[16] = "";

    fprintf(stderr, "This erases %s in %s%s for good. Type yes to go on: ",
            o->text != NULL ? "the text" : "the annotator's name and votes",
            o->model != NULL ? "model " : "every model", o->model != NULL ? o->model : "");
    fflush(stderr);
    return fgets(line, sizeof line, stdin) != NULL && strcmp(line, "yes\n") == 0;
}

static void write_string(struct api_buffer *body, const char *key, const char *string)
{
    if (string == NULL)
        return;
    json_write_key(body, key);
    json_write_string(body, string);
}

static void say_erased(const struct json_value *answer)
{
    printf("%lld examples, %lld votes, %lld remembered requests\n",
           (long long)json_int(json_get(answer, "erased.examples"), 0),
           (long long)json_int(json_get(answer, "erased.votes"), 0),
           (long long)json_int(json_get(answer, "erased.requests"), 0));
}

enum ctl_exit ctl_erase(struct ctl *ctl)
{
    const struct ctl_options *o = &ctl->options;
    struct api_buffer body = API_BUFFER_INIT;
    struct json_value *answer = NULL;
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much: --text or --annotator says what",
                           ctl->args[0]);
    if ((o->text != NULL) == (o->annotator != NULL))
        return ctl_misused(ctl, "give --text or --annotator: one of them");
    if (o->proof && o->text == NULL)
        return ctl_misused(ctl, "--proof looks for a text: give --text");
    if (!o->yes && !isatty(STDIN_FILENO))
        return ctl_misused(ctl, "this cannot be taken back; --yes does it");
    if (!o->yes && !confirmed(ctl)) {
        ctl_say("nothing was erased");
        return CTL_USAGE;
    }
    json_open_object(&body);
    write_string(&body, "text", o->text);
    write_string(&body, "text_pair", o->pair);
    write_string(&body, "annotator", o->annotator);
    write_string(&body, "model", o->model);
    json_close_object(&body);
    code = body.rc == 0 ? ctl_call(ctl, "POST", "/v1/erase", &body, &answer) : ctl_no_memory();
    if (code == CTL_OK && o->json)
        code = ctl_print_json(answer);
    else if (code == CTL_OK)
        say_erased(answer);
    json_free(answer);
    api_buffer_done(&body);
    return code == CTL_OK && o->proof ? ctl_trace(ctl, o->text) : code;
}
