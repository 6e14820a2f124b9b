/* What every route that takes a policy document has in common. */
#pragma once

#include "base/yaml.h"
#include "webui-api/http.h"

#define POLICY_NAME "policy" /* of the document, in its complaints */

/* The document in the body; false after a reply. */
bool policy_body(struct request *r, struct bytes *out);
/* A list of {line, column, text}: errors, or notices. */
void policy_put_complaints(struct buf *out, const char *key, const struct yaml_errors *errors, bool notices);
/* 400 invalid_policy with all errors as details; `what` ends the sentence: "the policy stays as it was". */
void policy_reply_errors(struct request *r, const struct yaml_errors *errors, const char *what);
/* 200 for a document that was taken: its version, and what to notice in it. */
void policy_reply_version(struct request *r, uint64_t version, const struct yaml_errors *errors);
/* The parameter `comment`; false after a reply. */
bool policy_comment(struct request *r, const char **comment);
