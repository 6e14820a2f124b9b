/* What decodes says again what it says. */
#include <stdlib.h>

#include "queue/envelope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct envelope e;
    struct buf again = {0};
    struct bytes octets = bytes_make(data, size);

    (void)envelope_campaign(octets);
    (void)envelope_accepted_unix(octets);
    if (envelope_parse(octets, &arena, &e)) {
        struct arena second = {0};
        struct envelope copy;
        envelope_put(&again, &e.message, &e.body, e.states, e.due_unix);
        if (!envelope_parse(buf_bytes(&again), &second, &copy) || copy.message.id != e.message.id ||
            copy.message.rcpt_count != e.message.rcpt_count || copy.body.size_bytes != e.body.size_bytes ||
            copy.body.content_segment != e.body.content_segment ||
            copy.body.content_offset != e.body.content_offset)
            abort();
        arena_fini(&second);
    }
    buf_fini(&again);
    arena_fini(&arena);
    return 0;
}
