/*
 * The header section of a message while it arrives (RFC 5322 §2.2): kept until it is complete, freed of the
 * fields that steer us (X-Campaign, X-Hayauma-…), its Received fields counted.  Pure, incremental;
 * memory is bounded by `max_bytes`.  A line that cannot belong to a header section begins the body, as does
 * an empty one.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum header_step { HEADER_MORE, HEADER_DONE, HEADER_TOO_LARGE };

struct header {
    struct buf
        text;    /* the fields kept, then the line in work; at the end: fields, then the start of the body */
    size_t kept; /* length of the fields in `text`, without the empty line */
    size_t field_at;   /* where the field in work begins in `text` */
    size_t line_at;    /* where the line in work begins */
    size_t seen_bytes; /* as received */
    size_t max_bytes;
    bool in_field;
    uint32_t received; /* Received fields */
    uint32_t from, date, message_id;
    uint32_t campaigns, schedules, priorities, expiries;
    uint32_t unknown;      /* fields that begin with X-Hayauma- and are none of these */
    uint32_t tls_required; /* TLS-Required fields (RFC 8689 §3) */
    bool tls_required_no;  /* the last of them says No */
    struct buf campaign, schedule, priority,
        expires;             /* values, unfolded and trimmed; of the first such field */
    struct buf unknown_name; /* of the first such field */
};

/* A zeroed struct is fine for init; init of a used one keeps its memory. */
void header_init(struct header *h, size_t max_bytes);
void header_fini(struct header *h);
/* Content as decoded, ending lines in CRLF (engine/smtp/data.h).  `used` octets were taken; after HEADER_DONE
 * the rest is body. */
enum header_step header_take(struct header *h, struct bytes in, size_t *used);
/* The content ended within the header section. */
void header_end(struct header *h);
/* After the end: the fields that stay, each ending in CRLF; and the octets that were taken but are body. */
struct bytes header_fields(const struct header *h);
struct bytes header_overrun(const struct header *h);
