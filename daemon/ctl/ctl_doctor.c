/* ctl_doctor.c -- doctor: is a state folder sound?
 *
 * Exit codes are its own: 0 sound, 1 something was found, 2 it cannot be checked.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/ctl/ctl_call.h"
#include "daemon/ctl/ctl_doctor.h"
#include "daemon/ctl/ctl_table.h"

/* ---- what is found --------------------------------------------------------------------------- */

static void show_json(const struct store_finding *f)
{
    struct api_buffer out = API_BUFFER_INIT;

    json_open_object(&out);
    json_write_key(&out, "code");
    json_write_string(&out, f->code);
    json_write_key(&out, "severity");
    json_write_string(&out, f->error ? "error" : "warning");
    json_write_key(&out, "what");
    json_write_string(&out, f->what);
    json_write_key(&out, "advice");
    json_write_string(&out, f->advice);
    json_write_key(&out, "repairable");
    json_write_bool(&out, f->repairable);
    json_close_object(&out);
    (void)ctl_print_buffer(&out);
}

void doctor_show(void *ud, const struct store_finding *f)
{
    struct doctor *d = ud;
    struct api_buffer what = API_BUFFER_INIT;

    *(f->error ? &d->errors : &d->warnings) += 1;
    if (d->ctl->options.json) {
        show_json(f);
        return;
    }
    ctl_clean(&what, f->what, strlen(f->what));
    printf("%-8s %s: %.*s\n         %s\n", f->error ? "error" : "warning", f->code, (int)what.len,
           what.bytes != NULL ? what.bytes : "", f->advice);
    api_buffer_done(&what);
}

static int examine(struct doctor *d, char *why, size_t why_bytes)
{
    int rc;

    d->errors = d->warnings = 0;
    rc = store_examine(d->folder, doctor_show, d, &d->held, why, why_bytes);
    if (rc == 0 && d->errors == 0 && d->ctl->options.deep)
        rc = doctor_deep(d, why, why_bytes);
    return rc;
}

/* ---- the end --------------------------------------------------------------------------------- */

static enum ctl_exit cannot(const struct doctor *d, const char *why)
{
    ctl_fail("file", "%s cannot be checked: %s", d->folder, why);
    return CTL_USAGE;
}

static void summarize_json(const struct doctor *d, const struct store_repairs *repairs)
{
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"errors", d->errors},         {"warnings", d->warnings},
                   {"models", d->models},         {"examples", d->examples},
                   {"asked", d->asked},           {"images", repairs->images},
                   {"orphans", repairs->orphans}, {"modes", repairs->modes}};
    struct api_buffer out = API_BUFFER_INIT;

    json_open_object(&out);
    json_write_key(&out, "state");
    json_write_string(&out, d->folder);
    json_write_key(&out, "daemon");
    json_write_bool(&out, d->held);
    for (int i = 0; i < 5; i++) {
        json_write_key(&out, numbers[i].name);
        json_write_int(&out, (int64_t)numbers[i].value);
    }
    json_write_key(&out, "repaired");
    json_open_object(&out);
    for (int i = 5; i < 8; i++) {
        json_write_key(&out, numbers[i].name);
        json_write_int(&out, (int64_t)numbers[i].value);
    }
    json_close_object(&out);
    json_close_object(&out);
    (void)ctl_print_buffer(&out);
}

static enum ctl_exit summarize(const struct doctor *d, const struct store_repairs *repairs)
{
    const struct ctl_options *o = &d->ctl->options;

    if (o->json) {
        summarize_json(d, repairs);
    } else if (!o->quiet) {
        if (o->repair)
            printf("repaired: %llu images to be made anew, %llu orphans removed, %llu modes\n",
                   (unsigned long long)repairs->images, (unsigned long long)repairs->orphans,
                   (unsigned long long)repairs->modes);
        if (o->deep && d->errors == 0)
            printf("compared %llu examples of %llu models with their heads%s\n",
                   (unsigned long long)d->examples, (unsigned long long)d->models,
                   d->unembedded > 0 ? "; some have no embedding yet" : "");
        if (o->deep && d->asked > 0)
            printf("%llu texts were put to the daemon\n", (unsigned long long)d->asked);
        if (d->errors + d->warnings == 0)
            printf("%s is sound%s\n", d->folder, d->held ? ", and a daemon is using it" : "");
        else
            printf("%s: %llu errors, %llu warnings\n", d->folder, (unsigned long long)d->errors,
                   (unsigned long long)d->warnings);
    }
    return d->errors + d->warnings == 0 ? CTL_OK : CTL_REFUSED;
}

static enum ctl_exit check(struct doctor *d)
{
    struct store_repairs repairs = {0};
    char why[512] = "no memory";
    int rc = examine(d, why, sizeof why);

    if (rc == 0 && d->ctl->options.repair) {
        rc = store_repair(d->folder, d->bad, d->bad_len, why, sizeof why, &repairs);
        if (rc != 0) {
            ctl_fail("file", "nothing was repaired: %s", why);
            return CTL_USAGE;
        }
        if (!d->ctl->options.json && d->errors + d->warnings > 0)
            printf("looking again\n");
        d->bad_len = 0;
        d->models = d->examples = d->asked = 0;
        rc = examine(d, why, sizeof why);
    }
    return rc != 0 ? cannot(d, why) : summarize(d, &repairs);
}

enum ctl_exit ctl_doctor(struct ctl *ctl)
{
    char path[CTL_STATE_BYTES];
    struct doctor *d;
    enum ctl_exit code;

    if (ctl->args_len > 0)
        return ctl_misused(ctl, "\"%.40s\" is too much: --state says which folder", ctl->args[0]);
    if (ctl->options.find != NULL)
        return ctl_trace(ctl, ctl->options.find);
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return ctl_no_memory();
    d->ctl = ctl;
    d->folder = ctl_state(ctl, path);
    code = check(d);
    free(d);
    return code;
}
