-- Who makes reservations.
--
-- Every limit of a field is a named constraint here and nowhere else: services turn the names into answers.
create table customer (
    -- A UUIDv7 made by the service. It grows with time, so the primary key is also the index of "newest first".
    id uuid primary key,
    name text not null
        constraint customer_name_length check (char_length(btrim(name)) > 0 and char_length(name) <= 200),
    email text not null
        constraint customer_email_format check (email ~ '^[^@[:space:]]+@[^@[:space:]]+\.[^@[:space:]]+$')
        constraint customer_email_length check (char_length(email) <= 254),
    phone text
        constraint customer_phone_format check (phone ~ '^\+?[0-9][0-9 ().-]{3,30}$'),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

-- One customer per address, whatever its case.
create unique index customer_email_unique on customer (lower(email));
