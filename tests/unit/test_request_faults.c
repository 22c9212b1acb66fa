/* test_request_faults.c -- every allocation of a request fails in turn, from its first byte to its
 * answer's last: HTTP, JSON, the protocol, the answer. Each time an error with words, nothing left
 * behind, and the next request on the same connection is answered.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/api_classify.h"
#include "proto/api_feedback.h"
#include "proto/http.h"
#include "tests/unit/fault_alloc.h"

static const struct http_limits limits = {
    .target_bytes_max = 256, .headers_bytes_max = 1024, .headers_max = 16};

typedef int answer_fn(const char *body, size_t bytes, struct api_buffer *answer,
                      struct api_problem *problem);

static int answer_classify(const char *body, size_t bytes, struct api_buffer *answer,
                           struct api_problem *problem)
{
    static const struct api_scored scored[] = {{"card_arrival", 0.94, 0}, {"lost_card", 0.04, 0}};
    struct api_classify *ask;
    int rc = api_parse_classify(body, bytes, &ask, problem);

    if (rc != 0)
        return rc;
    api_classify_begin(answer, ask->model, (struct api_version){0, 7});
    for (uint32_t i = 0; i < ask->inputs_len; i++)
        api_classify_result(answer, &(struct api_result){.id = ask->inputs[i].id,
                                                         .request_id = "01J9",
                                                         .label = scored[0].label,
                                                         .score = 0.94,
                                                         .labels = scored,
                                                         .labels_len = 2,
                                                         .tokens = 7});
    api_classify_end(answer, &(struct api_timing){.total_ms = 1.5});
    api_classify_free(ask);
    return answer->rc;
}

static int answer_feedback(const char *body, size_t bytes, struct api_buffer *answer,
                           struct api_problem *problem)
{
    struct api_feedback *teach;
    int rc = api_parse_feedback(body, bytes, &teach, problem);

    if (rc != 0)
        return rc;
    api_feedback_begin(answer);
    for (uint32_t i = 0; i < teach->items_len; i++)
        if (teach->items[i].problem == NULL)
            api_feedback_accepted(answer, &(struct api_accepted){.seq = i + 1});
    api_feedback_middle(answer);
    for (uint32_t i = 0; i < teach->items_len; i++)
        if (teach->items[i].problem != NULL)
            api_feedback_rejected(answer, i, teach->items[i].problem);
    api_feedback_end(answer, NULL, NULL);
    api_feedback_free(teach);
    return answer->rc;
}

/* One request from a connection's bytes to its answer. */
static int serve(struct http_parser *p, const char *bytes, size_t len, answer_fn *fn,
                 struct api_buffer *answer, struct api_problem *problem)
{
    int rc = -EPROTO;

    for (;;) {
        size_t used;
        enum http_event e = http_feed(p, bytes, len, &used);

        bytes += used;
        len -= used;
        if (e == HTTP_HEADERS)
            assert_true(http_collect(p, 1 << 20));
        if (e == HTTP_MORE)
            return rc;
        if (e == HTTP_ERROR) {
            assert_int_equal(http_problem(p).status, 503);
            assert_string_equal(http_problem(p).code, "out_of_memory");
            return -ENOMEM;
        }
        if (e == HTTP_COMPLETE) {
            rc = fn(http_request(p)->body, http_request(p)->body_bytes, answer, problem);
            http_next(p);
        }
    }
}

static int walk(struct http_parser **p, const char *body, answer_fn *fn, struct api_buffer *answer,
                struct api_problem *problem)
{
    char request[1024];
    int rc = *p == NULL ? http_open(&limits, p) : 0;
    int len = snprintf(request, sizeof request,
                       "POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s",
                       strlen(body), body);

    assert_true(len > 0 && len < (int)sizeof request);
    return rc != 0 ? rc : serve(*p, request, (size_t)len, fn, answer, problem);
}

static void fail_each(const char *body, answer_fn *fn)
{
    struct api_buffer good = API_BUFFER_INIT;
    struct http_parser *p = NULL;
    struct api_problem problem;
    uint64_t n;

    assert_int_equal(walk(&p, body, fn, &good, &problem), 0);
    http_close(p);
    for (n = 1;; n++) {
        struct api_buffer answer = API_BUFFER_INIT;
        int64_t held = fault_alloc_held();
        bool failed;
        int rc;

        p = NULL;
        problem = (struct api_problem){.status = 0};
        fault_alloc_arm(n, false);
        rc = walk(&p, body, fn, &answer, &problem);
        failed = fault_alloc_disarm();
        assert_int_equal(rc, failed ? -ENOMEM : 0);
        if (failed) {
            bool dead = p == NULL || http_problem(p).status != 0;

            assert_true(dead || answer.rc != 0 || problem.status == 503);
            api_buffer_done(&answer);
            assert_int_equal(fault_alloc_held(), held);
            if (dead) { /* such a connection is closed after its 503; the client comes again */
                http_close(p);
                p = NULL;
            }
            assert_int_equal(walk(&p, body, fn, &answer, &problem), 0);
        }
        assert_int_equal(answer.len, good.len);
        assert_memory_equal(answer.bytes, good.bytes, good.len);
        api_buffer_done(&answer);
        http_close(p);
        if (!failed)
            break;
    }
    assert_true(n > 10);
    api_buffer_done(&good);
}

static void test_classify(void **state)
{
    (void)state;
    fail_each("{\"model\":\"m\",\"inputs\":[{\"text\":\"one\"},"
              "{\"text\":\"a \\u00e9 text\",\"id\":\"b\"}],\"labels\":[\"x\",\"y\"]}",
              answer_classify);
}

static void test_feedback(void **state)
{
    (void)state;
    fail_each(
        "{\"items\":[{\"text\":\"one\",\"label\":\"x\"},{\"text\":\"\",\"label\":\"x\"},"
        "{\"text\":\"two\",\"label\":\"y\",\"annotator\":\"ann\",\"idempotency_key\":\"k\"}]}",
        answer_feedback);
}

static int install(void **state)
{
    (void)state;
    fault_alloc_install();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classify),
        cmocka_unit_test(test_feedback),
    };

    return cmocka_run_group_tests(tests, install, NULL);
}
