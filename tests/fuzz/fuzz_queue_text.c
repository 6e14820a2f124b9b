/* What people type and bodies that arrive: message ids, positions in a list, and a body however it is split.
 */
#include <stdlib.h>
#include <string.h>

#include "queue/body_priv.h"
#include "queue/browse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_texts(struct bytes text)
{
    struct browse_position p, again;
    char id_text[MESSAGE_ID_TEXT], position[BROWSE_POSITION_TEXT];
    uint64_t id, id_again;

    if (message_id_parse(text, &id) &&
        (!message_id_parse(bytes_of(message_id_format(id, id_text)), &id_again) || id != id_again))
        abort();
    if (!browse_position_parse(text, &p))
        return;
    browse_position_format(&p, position);
    if (!browse_position_parse(bytes_of(position), &again) || again.message_id != p.message_id ||
        again.rcpt_no != p.rcpt_no || again.due_unix != p.due_unix)
        abort();
}

/* The first octet says where the body is cut. */
static void try_body(const char *octets, size_t len, size_t cut)
{
    struct body_scan whole = {0}, split = {0};

    cut = len ? cut % (len + 1) : 0;
    body_scan_put(&whole, bytes_make(octets, len));
    body_scan_finish(&whole);
    body_scan_put(&split, bytes_make(octets, cut));
    body_scan_put(&split, bytes_make(octets + cut, len - cut));
    body_scan_finish(&split);
    if (whole.flags != split.flags || whole.header_bytes != split.header_bytes ||
        whole.checksum != split.checksum || whole.size_bytes != split.size_bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    try_texts(bytes_make(text, size));
    if (size > 1)
        try_body(text + 1, size - 1, data[0]);
    return 0;
}
