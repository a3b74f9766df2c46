-- Moments that services can show: RFC 3339 has no infinity and no year above 9999.
--
-- A row without such a moment made every list with it fail; it gets the present one, so that the rule can be added.
-- The rule is checked at once, under a lock that lets nobody else in: tables of this size are read in milliseconds. For
-- a table of many millions of rows, add it `not valid` and validate it in a migration of its own.
update customer set created_at = now()
    where created_at < timestamptz '1970-01-01 00:00+00' or created_at >= timestamptz '9999-12-31 00:00+00';
update customer set updated_at = now()
    where updated_at < timestamptz '1970-01-01 00:00+00' or updated_at >= timestamptz '9999-12-31 00:00+00';
update reservation set created_at = now()
    where created_at < timestamptz '1970-01-01 00:00+00' or created_at >= timestamptz '9999-12-31 00:00+00';
update reservation set updated_at = now()
    where updated_at < timestamptz '1970-01-01 00:00+00' or updated_at >= timestamptz '9999-12-31 00:00+00';

alter table customer add constraint customer_moments check (
    created_at >= timestamptz '1970-01-01 00:00+00' and created_at < timestamptz '9999-12-31 00:00+00'
    and updated_at >= timestamptz '1970-01-01 00:00+00' and updated_at < timestamptz '9999-12-31 00:00+00'
);
alter table reservation add constraint reservation_moments check (
    created_at >= timestamptz '1970-01-01 00:00+00' and created_at < timestamptz '9999-12-31 00:00+00'
    and updated_at >= timestamptz '1970-01-01 00:00+00' and updated_at < timestamptz '9999-12-31 00:00+00'
);
