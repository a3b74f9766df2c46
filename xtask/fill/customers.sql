-- Customers number $1 to $2. Number n has an id made of the moment $3 + n × $4, in milliseconds since 1970.
insert into customer (id, name, email, created_at, updated_at)
select
    (lpad(to_hex($3 + n * $4), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid,
    'Customer ' || n,
    'customer-' || n || '@example.com',
    to_timestamp(($3 + n * $4) / 1000),
    to_timestamp(($3 + n * $4) / 1000)
from generate_series($1::bigint, $2::bigint) as n
