/*
 * The body of PUT /api/v1/accounts/NAME.  Pure: the request's body alone is read, and its reply written when
 * that is wrong, which never says what a password was.
 */
#pragma once

#include "queue/accounts.h"
#include "webui-api/http.h"

/* Lays the fields over what *a has; a password becomes SCRAM keys.  False: replied, and *a is to be thrown
 * away. */
MUST_CHECK bool account_body_read(struct request *r, bool is_new, struct account *a);
