/* Any octets as the JSON that a client of the API sends: taken with sense, or refused with a reply that is
 * JSON itself. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/domain.h"
#include "webui-api/account_body.h"
#include "webui-api/queue_wish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool claim)
{
    if (!claim)
        abort();
}

static void expect_reply(const struct request *r, bool good)
{
    if (good) {
        must(!r->reply.status);
        return;
    }
    json_t *reply = json_loadb(r->reply.body.at, r->reply.body.len, 0, NULL);
    must(r->reply.status == 400 &&
         *json_string_value(json_object_get(json_object_get(reply, "error"), "message")));
    json_decref(reply);
}

static void expect_normal(const char *domain)
{
    char again[DOMAIN_MAX_BYTES + 1];

    must(domain_normalise(bytes_of(domain), again) == OK && strcmp(again, domain) == 0);
}

static void check_wish(const struct queue_wish *w)
{
    must(w->has_op && w->which.all == !w->narrowed && !(w->group && w->which.domain_count));
    for (size_t i = 0; i < w->which.domain_count; i++)
        expect_normal(w->which.domains[i]);
}

static void check_account(const struct account *a)
{
    must(a->iterations || a->certificate_count);
    for (size_t i = 0; i < a->sender_domain_count; i++)
        expect_normal(a->sender_domains[i] + (*a->sender_domains[i] == '.'));
    for (size_t i = 0; i < a->certificate_count; i++)
        must(strchr(a->certificates[i], ':') != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_make(data, size);
    struct request ops = {0}, put = {0};
    struct queue_wish wish = {0};
    struct account a = {.name = mem_strdup("app")};

    must(http_body_add(&ops.body, text) && http_body_add(&put.body, text));
    bool good = queue_wish_read(&ops, &wish);
    expect_reply(&ops, good);
    if (good)
        check_wish(&wish);
    queue_wish_fini(&wish);
    request_fini(&ops);

    good = account_body_read(&put, true, &a);
    expect_reply(&put, good);
    if (good)
        check_account(&a);
    account_fini(&a);
    request_fini(&put);
    return 0;
}
