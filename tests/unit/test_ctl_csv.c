/* test_ctl_csv.c -- what learnctl reads and shows: CSV, lines, rows of examples, cleaned texts.
 *
 * What must hold: what ctl_csv_write writes reads back as the same bytes, whatever they are; a
 * record that is not CSV, not UTF-8, too long or of the wrong shape costs itself and no other; line
 * numbers are those of the file; no text moves a terminal.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/ctl/ctl_csv.h"
#include "daemon/ctl/ctl_lines.h"
#include "daemon/ctl/ctl_rows.h"
#include "daemon/ctl/ctl_table.h"

static FILE *file_of(const char *bytes, size_t len)
{
    FILE *file = tmpfile();

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    rewind(file);
    return file;
}

/* Every record as "line:field|field" or "line!code", a ';' between them. NUL is shown as '0'. */
static void read_all(const char *bytes, size_t len, size_t bytes_max, char *out, size_t out_bytes)
{
    FILE *file = file_of(bytes, len);
    struct ctl_record record;
    struct ctl_csv *csv;
    size_t at = 0;
    int rc;

    out[0] = '\0';
    assert_int_equal(ctl_csv_open(file, bytes_max, &csv), 0);
    while ((rc = ctl_csv_next(csv, &record)) == 1) {
        at += (size_t)snprintf(out + at, out_bytes - at, "%s%llu%s", at > 0 ? ";" : "",
                               (unsigned long long)record.line, record.code != NULL ? "!" : ":");
        if (record.code != NULL) {
            assert_true(record.detail[0] != '\0');
            at += (size_t)snprintf(out + at, out_bytes - at, "%s", record.code);
            continue;
        }
        for (size_t i = 0; i < record.fields_len; i++) {
            const struct ctl_field *f = &record.fields[i];

            assert_int_equal(f->bytes[f->len], 0);
            if (i > 0)
                out[at++] = '|';
            for (size_t k = 0; k < f->len; k++)
                out[at++] = f->bytes[k] == '\0' ? '0' : f->bytes[k];
            out[at] = '\0';
        }
    }
    assert_int_equal(rc, 0);
    assert_int_equal(ctl_csv_next(csv, &record), 0); /* the end stays the end */
    ctl_csv_close(csv);
    fclose(file);
}

static void test_csv_records(void **state)
{
    static const struct {
        const char *csv, *records;
    } ROWS[] = {
        {"", ""},
        {"\n\n\r\n", ""},
        {"a,b\n1,2\n", "1:a|b;2:1|2"},
        {"a,b\r\n1,2\r\n", "1:a|b;2:1|2"},
        {"a,b\n1,2", "1:a|b;2:1|2"},
        {"a,b\n1,2\r", "1:a|b;2:1|2\r"},
        {"a\rb,c\n", "1:a\rb|c"},
        {"a,\n,b\n,", "1:a|;2:|b;3:|"},
        {"\"a\",\"b\"\n", "1:a|b"},
        {"\"a,b\",\"c\"\"d\"\n", "1:a,b|c\"d"},
        {"\"one\ntwo\r\nthree\",x\ny,z", "1:one\ntwo\r\nthree|x;4:y|z"},
        {"\"\"\n", "1:"},
        {"\"\",\"\"", "1:|"},
        {"5\" screen,a \"b\" c\n", "1:5\" screen|a \"b\" c"},
        {" \"a\"\n", "1: \"a\""},
        {"\n\na\n\nb\n", "3:a;5:b"},
        {"\xef\xbb\xbftext,label\n", "1:text|label"},
        {"\xef\xbb\xbf\"text\",label\n", "1:text|label"},
        {"\xef\xbbtext\n", "1:\xef\xbbtext"},
        {"\xef\n", "1:\xef"},
        {"\xef\xbb\xbf", ""},
        {"a\xef\xbb\xbf\n", "1:a\xef\xbb\xbf"},
        /* What is not CSV costs itself. */
        {"\"a\"b,c\nd,e\n", "1!malformed_csv;2:d|e"},
        {"\"a\"\"\"b\nd\n", "1!malformed_csv;2:d"},
        {"a,\"b\nc,d\n", "1!malformed_csv"},
        {"x\n\"\n\n\n", "1:x;2!malformed_csv"},
        {"\"", "1!malformed_csv"},
    };
    char out[512];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        read_all(ROWS[i].csv, strlen(ROWS[i].csv), 1000, out, sizeof out);
        if (strcmp(out, ROWS[i].records) != 0)
            fail_msg("%zu: %s\n gives %s", i, ROWS[i].csv, out);
    }
    read_all("a\0b,\"\0\"\n", 8, 1000, out, sizeof out);
    assert_string_equal(out, "1:a0b|0");
}

static void test_csv_limits(void **state)
{
    char csv[2048], out[512];
    size_t len;

    (void)state;
    read_all("123456789,x\nab,c\n", 17, 8, out, sizeof out);
    assert_string_equal(out, "1!record_too_long;2:ab|c");
    /* A long one in quotes ends where its quote is closed, not at its line ends. */
    read_all("\"123456\n789\n\",x\nab,c\n", 21, 8, out, sizeof out);
    assert_string_equal(out, "1!record_too_long;4:ab|c");
    memset(csv, ',', CTL_CSV_FIELDS_MAX - 1);
    len = CTL_CSV_FIELDS_MAX - 1;
    memcpy(csv + len, "\na\n", 3);
    read_all(csv, len + 3, 1000, out, sizeof out);
    assert_non_null(strstr(out, "||||"));
    assert_null(strchr(out, '!'));
    memset(csv, ',', CTL_CSV_FIELDS_MAX);
    memcpy(csv + CTL_CSV_FIELDS_MAX, "\na\n", 3);
    read_all(csv, CTL_CSV_FIELDS_MAX + 3, 1000, out, sizeof out);
    assert_string_equal(out, "1!too_many_columns;2:a");
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Random records of bytes that matter: written, read back, the same. */
static void test_csv_round_trip(void **state)
{
    static const char BYTES[] = "a\",\n\r \0\xef\xbb\xbf\xff;'\\";
    uint64_t seed = 1;

    (void)state;
    for (int turn = 0; turn < 3000; turn++) {
        char fields[4][8];
        size_t lens[4], len = 1 + next_random(&seed) % 4;
        struct api_buffer csv = API_BUFFER_INIT;
        struct ctl_record record;
        struct ctl_csv *reader;
        FILE *file;

        for (size_t i = 0; i < len; i++) {
            lens[i] = next_random(&seed) % 8;
            for (size_t k = 0; k < lens[i]; k++)
                fields[i][k] = BYTES[next_random(&seed) % (sizeof BYTES - 1)];
            if (i > 0)
                api_buffer_add(&csv, ",", 1);
            ctl_csv_write(&csv, fields[i], lens[i]);
        }
        api_buffer_add(&csv, "\r\n", 2);
        assert_int_equal(csv.rc, 0);
        file = fmemopen(csv.bytes, csv.len, "r");
        assert_non_null(file);
        assert_int_equal(ctl_csv_open(file, 1000, &reader), 0);
        assert_int_equal(ctl_csv_next(reader, &record), 1);
        assert_null(record.code);
        assert_int_equal(record.fields_len, len);
        for (size_t i = 0; i < len; i++) {
            assert_int_equal(record.fields[i].len, lens[i]);
            assert_memory_equal(record.fields[i].bytes, fields[i], lens[i]);
        }
        assert_int_equal(ctl_csv_next(reader, &record), 0);
        ctl_csv_close(reader);
        fclose(file);
        api_buffer_done(&csv);
    }
}

/* Random bytes end, whatever they are, and give no more records than they have lines. */
static void test_csv_hostile(void **state)
{
    static const char BYTES[] = "\"\"\"\",,\n\r\0\xef\xbb\xbf"
                                "a";
    uint64_t seed = 7;
    char bytes[64];

    (void)state;
    for (int turn = 0; turn < 20000; turn++) {
        size_t len = 1 + next_random(&seed) % sizeof bytes, lines = 1, records = 0;
        struct ctl_record record;
        struct ctl_csv *csv;
        FILE *file;
        int rc;

        for (size_t i = 0; i < len; i++) {
            bytes[i] = BYTES[next_random(&seed) % (sizeof BYTES - 1)];
            lines += bytes[i] == '\n';
        }
        file = fmemopen(bytes, len, "r");
        assert_non_null(file);
        assert_int_equal(ctl_csv_open(file, 1 + next_random(&seed) % 20, &csv), 0);
        while ((rc = ctl_csv_next(csv, &record)) == 1) {
            assert_in_range(record.line, 1, lines);
            records++;
        }
        assert_int_equal(rc, 0);
        assert_in_range(records, 0, lines);
        ctl_csv_close(csv);
        fclose(file);
    }
}

static void test_lines(void **state)
{
    static const char TEXT[] = "\xef\xbb\xbfone\r\n\n\0two\n0123456789\nlast\r";
    FILE *file = file_of(TEXT, sizeof TEXT - 1);
    struct ctl_lines lines = {.file = file, .bytes_max = 8};

    (void)state;
    assert_int_equal(ctl_lines_next(&lines), 1);
    assert_string_equal(lines.bytes, "one");
    assert_int_equal(ctl_lines_next(&lines), 1);
    assert_int_equal(lines.len, 0);
    assert_int_equal(ctl_lines_next(&lines), 1);
    assert_int_equal(lines.len, 4);
    assert_memory_equal(lines.bytes, "\0two", 5);
    assert_false(lines.too_long);
    assert_int_equal(ctl_lines_next(&lines), 1);
    assert_true(lines.too_long);
    assert_int_equal(lines.len, 8);
    assert_int_equal(ctl_lines_next(&lines), 1);
    assert_string_equal(lines.bytes, "last");
    assert_false(lines.too_long);
    assert_int_equal(lines.number, 5);
    assert_int_equal(ctl_lines_next(&lines), 0);
    ctl_lines_done(&lines);
    fclose(file);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Every row as "line:text>label" with "+pair" "@annotator" "#source" "*weight", or
 * "line!code(field)". */
static int rows_all(enum ctl_format format, const char *bytes, size_t len,
                    const char *const names[CTL_COLUMNS], char *out, size_t out_bytes)
{
    static const char *const none[CTL_COLUMNS] = {NULL};
    static const char marks[] = ":>+@#";
    FILE *file = file_of(bytes, len);
    struct ctl_rows *rows;
    struct ctl_row row;
    char why[256] = "";
    size_t at = 0;
    int rc = ctl_rows_open(file, format, names != NULL ? names : none, why, sizeof why, &rows);

    out[0] = '\0';
    if (rc != 0) {
        snprintf(out, out_bytes, "%s", why);
        fclose(file);
        return rc;
    }
    while ((rc = ctl_rows_next(rows, &row)) == 1) {
        at += (size_t)snprintf(out + at, out_bytes - at, "%s%llu", at > 0 ? ";" : "",
                               (unsigned long long)row.line);
        if (row.code != NULL) {
            assert_true(row.detail[0] != '\0');
            at += (size_t)snprintf(out + at, out_bytes - at, "!%s(%s)", row.code, row.field);
            continue;
        }
        for (int i = CTL_TEXT; i < CTL_WEIGHT; i++)
            if (row.columns[i].bytes != NULL)
                at += (size_t)snprintf(out + at, out_bytes - at, "%c%.*s", marks[i],
                                       (int)row.columns[i].len, row.columns[i].bytes);
        if (row.has_weight)
            at += (size_t)snprintf(out + at, out_bytes - at, "*%g", row.weight);
    }
    ctl_rows_close(rows);
    fclose(file);
    return rc;
}

static void test_rows_csv(void **state)
{
    static const char *const named[CTL_COLUMNS] = {"utterance", "intent"};
    static const struct {
        const char *csv, *rows;
    } ROWS[] = {
        {"text,label\na,b\n", "2:a>b"},
        {"label,text\r\na,b\r\n\r\nc,d", "2:b>a;4:d>c"},
        {"text,label,weight,annotator,text_pair,source\na,b,2.5,x,y,z\n", "2:a>b+y@x#z*2.5"},
        {"text,label,weight\na,b,\na,b,1e-3\na,b,nan\na,b,0x1\na,b, 1\na,b,1 \na,b,inf\na,b,-2",
         "2:a>b;3:a>b*0.001;4!wrong_type(weight);5!wrong_type(weight);6!wrong_type(weight);"
         "7!wrong_type(weight);8!wrong_type(weight);9:a>b*-2"},
        {"text,label\n,b\na,\na\na,b,c\n\"\",b\n",
         "2!missing_field(text);3!missing_field(label);4!wrong_columns();5!wrong_columns();"
         "6!missing_field(text)"},
        {"text,label\n\xff,b\na,\xc0\x80\n\xed\xa0\x80,b\n\xc3\xa9,b\n",
         "2!invalid_utf8(text);3!invalid_utf8(label);4!invalid_utf8(text);5:\xc3\xa9>b"},
        {"text,label\n\"a\nb\",c\n\"d\"e,f\ng,h\n", "2:a\nb>c;4!malformed_csv();5:g>h"},
    };
    char out[1024];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        assert_int_equal(
            rows_all(CTL_FORMAT_CSV, ROWS[i].csv, strlen(ROWS[i].csv), NULL, out, sizeof out), 0);
        assert_string_equal(out, ROWS[i].rows);
    }
    assert_int_equal(rows_all(CTL_FORMAT_CSV, "intent,utterance\na,b", 20, named, out, sizeof out),
                     0);
    assert_string_equal(out, "2:b>a");
}

static void test_rows_header(void **state)
{
    static const char *const ROWS[] = {
        "",
        "text\na",
        "label\na",
        "text,labels\na,b",
        "text,label,text\na,b,c",
        "\"text,label\na,b",
        "a text,with label\n",
        "text,label,\na,b,c",
        "\xff\xfet\0e\0",
    };
    char out[512];

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        assert_int_equal(rows_all(CTL_FORMAT_CSV, ROWS[i], strlen(ROWS[i]), NULL, out, sizeof out),
                         -EINVAL);
        assert_non_null(strstr(out, "the first line must name the columns"));
    }
}

static void test_rows_jsonl(void **state)
{
    static const struct {
        const char *lines, *rows;
    } ROWS[] = {
        {"", ""},
        {"{\"text\":\"a\",\"label\":\"b\"}\n\n{\"label\":\"d\",\"text\":\"c\"}", "1:a>b;3:c>d"},
        {"\xef\xbb\xbf{\"text\":\"a\",\"label\":\"b\",\"weight\":2,\"annotator\":\"x\",\"text_"
         "pair\":\"y\","
         "\"source\":\"z\"}\r\n",
         "1:a>b+y@x#z*2"},
        {"{\"text\":\"a\",\"label\":\"b\",\"weight\":null,\"text_pair\":null}", "1:a>b"},
        {"{\"text\":\"a\"}\n{\"label\":\"a\"}\n{\"text\":null,\"label\":\"b\"}",
         "1!missing_field(label);2!missing_field(text);3!missing_field(text)"},
        {"{\"text\":1,\"label\":\"b\"}\n{\"text\":\"a\",\"label\":[]}\n"
         "{\"text\":\"a\",\"label\":\"b\",\"weight\":\"1\"}\n[]\n\"x\"",
         "1!wrong_type(text);2!wrong_type(label);3!wrong_type(weight);4!wrong_type();5!wrong_type("
         ")"},
        {"{\"text\":\"a\",\"label\":\"b\",\"lable\":\"c\"}", "1!unknown_field()"},
        {"{\"text\":\"a\",\"label\":\"b\"\n{\"text\":\"a\",\"label\":\"b\"} x\n{'text':1}\n"
         "{\"text\":\"\xff\",\"label\":\"b\"}\n{\"text\":\"a\",\"text\":\"b\",\"label\":\"c\"}\n"
         "{\"text\":\"a\",\"label\":\"b\",\"weight\":NaN}\n[[[[[[[[[[]]]]]]]]]]",
         "1!malformed_json();2!malformed_json();3!malformed_json();4!invalid_utf8();"
         "5!duplicate_field();6!malformed_json();7!too_deep()"},
    };
    size_t long_bytes = (1 << 20) + 100;
    char out[1024], *long_line = malloc(long_bytes);

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        assert_int_equal(
            rows_all(CTL_FORMAT_JSONL, ROWS[i].lines, strlen(ROWS[i].lines), NULL, out, sizeof out),
            0);
        assert_string_equal(out, ROWS[i].rows);
    }
    assert_non_null(long_line);
    memset(long_line, 'x', long_bytes);
    memcpy(long_line + long_bytes - 29, "\n{\"text\":\"a\",\"label\":\"b\"}\n\n\n\n", 29);
    assert_int_equal(rows_all(CTL_FORMAT_JSONL, long_line, long_bytes, NULL, out, sizeof out), 0);
    assert_string_equal(out, "1!record_too_long();2:a>b");
    free(long_line);
}

static void test_formats(void **state)
{
    (void)state;
    assert_int_equal(ctl_format_of("CSV"), CTL_FORMAT_CSV);
    assert_int_equal(ctl_format_of("ndjson"), CTL_FORMAT_JSONL);
    assert_int_equal(ctl_format_of("tsv"), CTL_FORMAT_NONE);
    assert_int_equal(ctl_format_of_path("a.csv/b.jsonl"), CTL_FORMAT_JSONL);
    assert_int_equal(ctl_format_of_path("a.csv/b"), CTL_FORMAT_NONE);
    assert_int_equal(ctl_format_of_path("b.tar.csv"), CTL_FORMAT_CSV);
    assert_int_equal(ctl_format_of_path(".csv"), CTL_FORMAT_CSV);
    assert_int_equal(ctl_format_of_path("-"), CTL_FORMAT_NONE);
}

/* ---- what people see ------------------------------------------------------------------------- */

static void test_clean(void **state)
{
    static const struct {
        const char *bytes, *shown;
    } ROWS[] = {
        {"plain \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80",
         "plain \xc3\xa9 \xe4\xb8\xad \xf0\x9f\x98\x80"},
        {"a\nb\tc\rd", "a b c d"},
        {"\x1b[2J\x07\x7f", "\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc2\x9b"
         "31m",
         "\xef\xbf\xbd"
         "31m"}, /* CSI in C1 */
        {"\xe2\x80\xae"
         "abc\xe2\x80\xa8",
         "\xef\xbf\xbd"
         "abc\xef\xbf\xbd"}, /* U+202E, U+2028 */
        {"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct api_buffer out = API_BUFFER_INIT;

        ctl_clean(&out, ROWS[i].bytes, strlen(ROWS[i].bytes));
        api_buffer_add(&out, "", 1);
        assert_string_equal(out.bytes, ROWS[i].shown);
        api_buffer_done(&out);
    }
}

static void test_table(void **state)
{
    static const char *const heads[] = {"name", "n", "text"};
    char *shown = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&shown, &bytes);
    struct ctl_table *t;

    (void)state;
    assert_non_null(out);
    assert_int_equal(ctl_table_open(out, heads, "lrl", &t), 0);
    ctl_table_string(t, "a");
    ctl_table_int(t, 12345);
    ctl_table_string(t, "one\ntwo");
    ctl_table_string(t, "longer");
    ctl_table_int(t, -1);
    ctl_table_string(t, NULL);
    assert_int_equal(ctl_table_flush(t), 0);
    ctl_table_string(t, "b"); /* the next page keeps the widths and has no titles */
    ctl_table_int(t, 2);
    ctl_table_string(t, "");
    assert_int_equal(ctl_table_flush(t), 0);
    ctl_table_close(t);
    fclose(out);
    assert_string_equal(shown, "name        n  text\n"
                               "a       12345  one two\n"
                               "longer     -1  -\n"
                               "b           2  \n");
    free(shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_records),    cmocka_unit_test(test_csv_limits),
        cmocka_unit_test(test_csv_round_trip), cmocka_unit_test(test_csv_hostile),
        cmocka_unit_test(test_lines),          cmocka_unit_test(test_rows_csv),
        cmocka_unit_test(test_rows_header),    cmocka_unit_test(test_rows_jsonl),
        cmocka_unit_test(test_formats),        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
