/*
 * Answers from the net.  The packet is read as the answer to questions of several types; the question is put
 * in front when the input does not bring a fitting one, so that the fuzzer soon comes to the records.
 */
#include <stdlib.h>

#include "engine/dns/dns_priv.h"

static uint32_t lot(void *arg, uint32_t below)
{
    (void)arg;
    return below / 2;
}

static void read_as(struct bytes packet, uint16_t type)
{
    struct dns_question q = {.id = 0, .type = type};
    struct dns_answer *a = NULL;
    struct dns_mx_choice choice;
    unsigned rcode = 0;

    if (!dns_name_parse(BYTES("x.test"), &q.name))
        abort();
    enum dns_reading reading = dns_packet_read(packet, &q, &a, &rcode);
    if (reading != DNS_READING_ANSWER) {
        if (a || (reading == DNS_READING_RCODE && rcode == 0))
            abort();
        return;
    }
    if (a->hops > DNS_HOPS_MAX + 1 || (a->status == DNS_OK && !a->count && !a->unfinished) ||
        strlen(a->name) > 253)
        abort();
    if (type == DNS_TYPE_MX)
        dns_mx_choose(a->records, a->count, lot, NULL, &choice);
    dns_answer_unref(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint16_t types[] = {DNS_TYPE_A,   DNS_TYPE_CNAME, DNS_TYPE_MX,
                                     DNS_TYPE_TXT, DNS_TYPE_TLSA,  33};
    BUF_LOCAL(packet);

    if (size < 10)
        return 0;
    for (size_t i = 0; i < COUNT_OF(types); i++) {
        read_as(bytes_make(data, size), types[i]);
        buf_clear(&packet);
        buf_put(&packet, BYTES("\0\0"));
        buf_putc(&packet, (char)((data[0] & 0x07) | 0x80));
        buf_putc(&packet, (char)data[1]);
        buf_put(&packet, BYTES("\0\1"));
        buf_put(&packet, bytes_make(data + 2, 6));
        buf_put(&packet, BYTES("\1x\4test\0\0"));
        buf_putc(&packet, (char)types[i]);
        buf_put(&packet, BYTES("\0\1"));
        buf_put(&packet, bytes_make(data + 8, size - 8));
        read_as(buf_bytes(&packet), types[i]);
    }
    return 0;
}
