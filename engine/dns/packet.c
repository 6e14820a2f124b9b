/*
 *   header    id(2) QR opcode(4) AA TC RD RA Z AD CD rcode(4) counts(2 each): question answer authority
 * additional question  name type(2) class(2) record    name type(2) class(2) ttl(4) rdlength(2) rdata RFC
 * 1035 §4.1
 */
#include "engine/dns/packet.h"

#include <ldns/ldns.h>

#include "base/hash.h"
#include "base/mem.h"

enum { TYPE_NS = 2, TYPE_SOA = 6, TYPE_PTR = 12, TYPE_SRV = 33, TYPE_DNAME = 39, TYPE_OPT = 41 };
enum { SECTION_ANSWER, SECTION_AUTHORITY, SECTION_ADDITIONAL, SECTION_COUNT };
#define HEADER_BYTES   12
#define RECORD_FIXED   10
#define CLASS_IN       1
#define OPCODE_MASK    0x78
#define FLAG_QR        0x80 /* first flag octet */
#define FLAG_AA        0x04
#define FLAG_TC        0x02
#define FLAG_RA        0x80 /* second */
#define FLAG_AD        0x20
#define RCODE_NXDOMAIN 3

/* A record of class IN as the walk found it. */
struct record {
    size_t at, rdata_at;
    uint64_t owner_hash;
    uint32_t ttl_s;
    uint16_t type, rdata_len;
    uint8_t section;
};

struct walk {
    struct bytes packet;
    struct record *records; /* owned */
    size_t count, cap;
    unsigned extended_rcode;
};

static uint16_t u16_at(struct bytes p, size_t at)
{
    return (uint16_t)((uint8_t)p.at[at] << 8 | (uint8_t)p.at[at + 1]);
}

static uint32_t u32_at(struct bytes p, size_t at)
{
    return (uint32_t)u16_at(p, at) << 16 | u16_at(p, at + 2);
}

static uint64_t name_hash(const struct dns_name *n)
{
    return hash_bytes(bytes_make(n->octets, n->len));
}

/* ---- answers ---- */

static struct dns_answer *answer_alloc(enum dns_status status, const char *name, uint32_t ttl_s, size_t count,
                                       size_t rdata_bytes)
{
    size_t name_bytes = strlen(name) + 1;
    size_t bytes = sizeof(struct dns_answer) + count * sizeof(struct bytes) + rdata_bytes + name_bytes;
    struct dns_answer *a = mem_alloc(bytes);
    char *text = (char *)a + bytes - name_bytes;

    memcpy(text, name, name_bytes);
    *a = (struct dns_answer){.refs = 1,
                             .status = status,
                             .ttl_s = ttl_s,
                             .bytes = bytes,
                             .name = text,
                             .records = (struct bytes *)(a + 1)};
    return a;
}

struct dns_answer *dns_answer_create(enum dns_status status, const char *name, uint32_t ttl_s)
{
    return answer_alloc(status, name, ttl_s, 0, 0);
}

struct dns_answer *dns_answer_ref(struct dns_answer *a)
{
    a->refs++;
    return a;
}

void dns_answer_unref(struct dns_answer *a)
{
    if (a && --a->refs == 0)
        mem_free(a);
}

/* ---- build ---- */

enum err dns_packet_build(const struct dns_question *q, bool edns, struct buf *out)
{
    uint8_t *wire = NULL;
    size_t len = 0;
    ldns_rdf *name = ldns_rdf_new_frm_data(LDNS_RDF_TYPE_DNAME, q->name.len, q->name.octets);
    ldns_pkt *pkt = name ? ldns_pkt_query_new(name, (ldns_rr_type)q->type, LDNS_RR_CLASS_IN, LDNS_RD) : NULL;

    if (!pkt) {
        ldns_rdf_deep_free(name);
        return ERR_NOMEM;
    }
    ldns_pkt_set_id(pkt, q->id);
    ldns_pkt_set_ad(pkt, true);
    if (edns)
        ldns_pkt_set_edns_udp_size(pkt, DNS_EDNS_BYTES);
    ldns_status s = ldns_pkt2wire(&wire, pkt, &len);
    ldns_pkt_free(pkt);
    if (s != LDNS_STATUS_OK)
        return ERR_INVALID;
    buf_put(out, bytes_make(wire, len));
    free(wire);
    return OK;
}

/* ---- walk: every length and every name that ldns will follow ---- */

/* Offset of the first name in rdata that may be compressed, or -1; SOA has two names. */
static int rdata_name_at(uint16_t type)
{
    switch (type) {
    case DNS_TYPE_CNAME:
    case TYPE_NS:
    case TYPE_PTR:
    case TYPE_DNAME:
    case TYPE_SOA: return 0;
    case DNS_TYPE_MX: return 2;
    case TYPE_SRV: return 6;
    default: return -1;
    }
}

static bool rdata_names_are_good(struct bytes packet, const struct record *r)
{
    int first = rdata_name_at(r->type);
    struct bytes upto = bytes_first(packet, r->rdata_at + r->rdata_len);
    size_t at = r->rdata_at + (size_t)MAX_OF(first, 0);
    size_t rest = r->type == TYPE_SOA ? 20 : 0;
    struct dns_name name;

    if (first < 0)
        return true;
    if (!dns_name_read(upto, &at, &name) || (r->type == TYPE_SOA && !dns_name_read(upto, &at, &name)))
        return false;
    return upto.len - at == rest;
}

static void keep(struct walk *w, struct record r)
{
    if (w->count == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 16;
        w->records = mem_realloc(w->records, w->cap * sizeof(*w->records));
    }
    w->records[w->count++] = r;
}

static bool walk_record(struct walk *w, size_t *at, uint8_t section)
{
    struct bytes p = w->packet;
    struct record r = {.at = *at, .section = section};
    struct dns_name owner;

    if (!dns_name_read(p, at, &owner) || p.len - *at < RECORD_FIXED)
        return false;
    uint16_t class = u16_at(p, *at + 2);
    r.type = u16_at(p, *at);
    r.ttl_s = u32_at(p, *at + 4);
    r.rdata_len = u16_at(p, *at + 8);
    r.rdata_at = *at + RECORD_FIXED;
    if (p.len - r.rdata_at < r.rdata_len || !rdata_names_are_good(p, &r))
        return false;
    *at = r.rdata_at + r.rdata_len;
    if (r.type == TYPE_OPT) {
        w->extended_rcode = r.ttl_s >> 24;
    } else if (class == CLASS_IN && section != SECTION_ADDITIONAL) {
        if (r.ttl_s > INT32_MAX)
            r.ttl_s = 0; /* RFC 2181 §8 */
        r.owner_hash = name_hash(&owner);
        keep(w, r);
    }
    return true;
}

static bool walk_records(struct walk *w, size_t at)
{
    for (uint8_t section = 0; section < SECTION_COUNT; section++)
        for (unsigned n = u16_at(w->packet, 6 + 2U * section); n > 0; n--)
            if (!walk_record(w, &at, section))
                return false;
    return true;
}

/* ---- read ---- */

static ldns_rr *read_rr(const struct walk *w, const struct record *r)
{
    ldns_rr *rr = NULL;
    size_t at = r->at;

    if (ldns_wire2rr(&rr, (const uint8_t *)w->packet.at, w->packet.len, &at, LDNS_SECTION_ANSWER) !=
        LDNS_STATUS_OK)
        return NULL;
    return rr;
}

static bool rdf_to_name(const ldns_rdf *rdf, struct dns_name *out)
{
    size_t at = 0;

    return rdf && dns_name_read(bytes_make(ldns_rdf_data(rdf), ldns_rdf_size(rdf)), &at, out);
}

static bool owned_by(const struct walk *w, const struct record *r, const struct dns_name *name, uint64_t hash)
{
    struct dns_name owner;
    size_t at = r->at;

    return r->owner_hash == hash && dns_name_read(w->packet, &at, &owner) && dns_name_eq(&owner, name);
}

static const struct record *find_record(const struct walk *w, unsigned section, uint16_t type,
                                        const struct dns_name *owner)
{
    uint64_t hash = owner ? name_hash(owner) : 0;

    for (size_t i = 0; i < w->count; i++) {
        const struct record *r = &w->records[i];
        if (r->section == section && r->type == type && (!owner || owned_by(w, r, owner, hash)))
            return r;
    }
    return NULL;
}

/* What one packet tells, while it is put together. */
struct reading {
    const struct walk *walk;
    const struct dns_question *question;
    struct dns_name name; /* end of the chain so far */
    unsigned hops;
    uint32_t ttl_s;
    struct buf rdata;
    size_t *lengths; /* owned */
    size_t count;
};

/* Follows the chain inside this packet.  false: a record is malformed. */
static bool follow(struct reading *rd)
{
    while (rd->hops <= DNS_HOPS_MAX && rd->question->type != DNS_TYPE_CNAME) {
        if (find_record(rd->walk, SECTION_ANSWER, rd->question->type, &rd->name))
            return true;
        const struct record *r = find_record(rd->walk, SECTION_ANSWER, DNS_TYPE_CNAME, &rd->name);
        if (!r)
            return true;
        ldns_rr *rr = read_rr(rd->walk, r);
        bool good = rr && rdf_to_name(ldns_rr_rdf(rr, 0), &rd->name);
        ldns_rr_free(rr);
        if (!good)
            return false;
        rd->ttl_s = MIN_OF(rd->ttl_s, r->ttl_s);
        rd->hops++;
    }
    return true;
}

/* Names in rdata come out uncompressed; what holds none is copied as it is, for its reader to judge. */
static bool put_rdata(struct reading *rd, const struct record *r)
{
    struct bytes raw = bytes_make(rd->walk->packet.at + r->rdata_at, r->rdata_len);

    if (rdata_name_at(r->type) < 0) {
        buf_put(&rd->rdata, raw);
        return (r->type != DNS_TYPE_A || raw.len == 4) && (r->type != DNS_TYPE_AAAA || raw.len == 16);
    }
    ldns_rr *rr = read_rr(rd->walk, r);
    ldns_buffer *wire = rr ? ldns_buffer_new(LDNS_MIN_BUFLEN) : NULL;
    bool good = wire && ldns_rr_rdata2buffer_wire(wire, rr) == LDNS_STATUS_OK;

    if (good)
        buf_put(&rd->rdata, bytes_make(ldns_buffer_begin(wire), ldns_buffer_position(wire)));
    ldns_buffer_free(wire);
    ldns_rr_free(rr);
    return good;
}

static bool collect(struct reading *rd)
{
    uint64_t hash = name_hash(&rd->name);

    rd->lengths = mem_alloc((rd->walk->count + 1) * sizeof(*rd->lengths));
    for (size_t i = 0; i < rd->walk->count; i++) {
        const struct record *r = &rd->walk->records[i];
        size_t before = rd->rdata.len;
        if (r->section != SECTION_ANSWER || r->type != rd->question->type ||
            !owned_by(rd->walk, r, &rd->name, hash))
            continue;
        if (!put_rdata(rd, r))
            return false;
        rd->lengths[rd->count++] = rd->rdata.len - before;
        rd->ttl_s = MIN_OF(rd->ttl_s, r->ttl_s);
    }
    return true;
}

/* RFC 2308 §5: the lesser of the SOA's own TTL and its minimum field.  false: no SOA for `name`. */
static bool negative_ttl(const struct walk *w, const struct dns_name *name, uint32_t *ttl_s)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct record *r = &w->records[i];
        struct dns_name owner;
        size_t at = r->at;
        if (r->section != SECTION_AUTHORITY || r->type != TYPE_SOA ||
            !dns_name_read(w->packet, &at, &owner) || !dns_name_within(name, &owner))
            continue;
        uint32_t minimum = u32_at(w->packet, r->rdata_at + r->rdata_len - 4);
        *ttl_s = MIN_OF(*ttl_s, MIN_OF(r->ttl_s, minimum > INT32_MAX ? 0 : minimum));
        return true;
    }
    return false;
}

static struct dns_answer *make_answer(const struct reading *rd, enum dns_status status)
{
    char name[DNS_NAME_TEXT_BYTES];
    bool is_root = !rd->hops && rd->name.len == 1; /* the question itself */

    if (is_root)
        memcpy(name, ".", 2);
    else if (!dns_name_format(&rd->name, name))
        return dns_answer_create(DNS_BAD_NAME, "", rd->ttl_s);
    struct dns_answer *a = answer_alloc(status, name, rd->ttl_s, rd->count, rd->rdata.len);
    struct bytes *records = (struct bytes *)(a + 1);
    char *to = (char *)(records + rd->count);

    if (rd->rdata.len)
        memcpy(to, rd->rdata.at, rd->rdata.len);
    for (size_t i = 0; i < rd->count; i++) {
        records[i] = bytes_make(to, rd->lengths[i]);
        to += rd->lengths[i];
    }
    a->count = rd->count;
    a->hops = rd->hops;
    return a;
}

/* A server that neither owns the name nor asks others sends a list of those who might know. */
static bool is_referral(const struct walk *w)
{
    const uint8_t *flags = (const uint8_t *)w->packet.at + 2;

    return !(flags[0] & FLAG_AA) && !(flags[1] & FLAG_RA) && find_record(w, SECTION_AUTHORITY, TYPE_NS, NULL);
}

static enum dns_reading read_answer(struct reading *rd, bool nxdomain, struct dns_answer **out)
{
    struct dns_answer *a;

    if (!follow(rd) || !collect(rd))
        return DNS_READING_BAD;
    if (rd->hops > DNS_HOPS_MAX) {
        a = make_answer(rd, DNS_LOOP);
    } else if (nxdomain) { /* with a chain it speaks of the chain's end: RFC 6604 §3 */
        if (!negative_ttl(rd->walk, &rd->name, &rd->ttl_s))
            rd->ttl_s = MIN_OF(rd->ttl_s, DNS_NEGATIVE_BARE_S);
        a = make_answer(rd, DNS_NXDOMAIN);
    } else if (rd->count) {
        a = make_answer(rd, DNS_OK);
    } else if (negative_ttl(rd->walk, &rd->name, &rd->ttl_s)) {
        a = make_answer(rd, DNS_NODATA);
    } else if (rd->hops) {
        a = make_answer(rd, DNS_OK);
        a->unfinished = a->status == DNS_OK;
    } else if (is_referral(rd->walk)) {
        return DNS_READING_LAME;
    } else {
        rd->ttl_s = DNS_NEGATIVE_BARE_S;
        a = make_answer(rd, DNS_NODATA);
    }
    a->secure = (uint8_t)rd->walk->packet.at[3] & FLAG_AD;
    *out = a;
    return DNS_READING_ANSWER;
}

/* The question must come back as it was put.  Servers that cannot read it may leave it out of an error. */
static bool is_for(struct bytes packet, const struct dns_question *q, size_t *at)
{
    struct dns_name name;
    unsigned rcode = (uint8_t)packet.at[3] & 15;

    if (u16_at(packet, 0) != q->id || ((uint8_t)packet.at[2] & (FLAG_QR | OPCODE_MASK)) != FLAG_QR)
        return false;
    if (u16_at(packet, 4) == 0)
        return rcode != 0 && rcode != RCODE_NXDOMAIN;
    if (u16_at(packet, 4) != 1 || !dns_name_read(packet, at, &name) || packet.len - *at < 4)
        return false;
    *at += 4;
    return dns_name_eq(&name, &q->name) && u16_at(packet, *at - 4) == q->type &&
           u16_at(packet, *at - 2) == CLASS_IN;
}

enum dns_reading dns_packet_read(struct bytes packet, const struct dns_question *q,
                                 struct dns_answer **answer, unsigned *rcode)
{
    size_t at = HEADER_BYTES;

    if (packet.len < HEADER_BYTES || packet.len > DNS_PACKET_BYTES || !is_for(packet, q, &at))
        return DNS_READING_OTHER;
    if ((uint8_t)packet.at[2] & FLAG_TC)
        return DNS_READING_TRUNCATED;

    struct walk w = {.packet = packet};
    bool good = walk_records(&w, at);
    unsigned code = w.extended_rcode << 4 | ((uint8_t)packet.at[3] & 15);
    enum dns_reading reading = DNS_READING_BAD;

    if (code != 0 && code != RCODE_NXDOMAIN) {
        *rcode = code; /* what else it holds does not matter */
        reading = DNS_READING_RCODE;
    } else if (good) {
        struct reading rd = {.walk = &w, .question = q, .name = q->name, .ttl_s = UINT32_MAX};
        reading = read_answer(&rd, code == RCODE_NXDOMAIN, answer);
        buf_fini(&rd.rdata);
        mem_free(rd.lengths);
    }
    mem_free(w.records);
    return reading;
}
